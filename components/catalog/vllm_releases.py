"""Which release of vLLM an image has, by its tag, and which release brought what the program uses.

Left out: what the program does with it (`components.serving`), and what a release is like that no setting depends on.
"""

from __future__ import annotations

import re

#: Major and minor number.
Release = tuple[int, int]

#: `--generation-config` (0.6.6; https://github.com/vllm-project/vllm/pull/10989).
GENERATION_CONFIG = (0, 7)
#: `--enable-request-id-headers`: https://github.com/vllm-project/vllm/pull/11536 describes it, of December 2024.
REQUEST_IDS = (0, 7)
#: Images have OpenTelemetry's packages, without which `--otlp-traces-endpoint` ends a server. Merged in February 2026
#: (https://github.com/vllm-project/vllm/pull/34466), so perhaps a release or two earlier.
TRACING = (0, 18)
#: `--shutdown-timeout` (https://github.com/vllm-project/vllm/pull/36666).
SHUTDOWN_TIMEOUT = (0, 18)
#: From here on vllm-openai is built on CUDA 13 unless its tag says otherwise (https://github.com/vllm-project/vllm/issues/42738).
CUDA_13 = (0, 20)
#: `--max-num-queued-reqs`.
QUEUE_LIMIT = (0, 31)

#: Tags of vllm-tpu that are commits: the walkthrough's image.
_COMMITS: dict[str, Release] = {"2e33fe419186c65a18da6668972d61d7bbc31564": (0, 6)}


def release_of(image: str) -> Release | None:
    """The release that the image's tag names; None for a tag that names no release, and for a digest without a tag."""
    tag = _tag(image)
    match = re.match(r"v(\d+)\.(\d+)", tag)
    return (int(match[1]), int(match[2])) if match else _COMMITS.get(tag)


def needs_driver_580(image: str) -> bool:
    """Whether a vllm-openai image is built on CUDA 13, which NVIDIA's drivers from 580 on run."""
    release = release_of(image)
    return release is not None and release >= CUDA_13 and "-cu12" not in _tag(image)


def same_server(image: str, other: str) -> bool:
    """Whether both take the same arguments and need the same driver, as far as their tags tell."""
    facts = [(release_of(each), needs_driver_580(each)) for each in (image, other)]
    return image == other or (facts[0][0] is not None and facts[0] == facts[1])


def text_of(release: Release) -> str:
    """As in `0.18`."""
    return ".".join(map(str, release))


def _tag(image: str) -> str:
    return image.partition("@")[0].rpartition("/")[2].partition(":")[2]
