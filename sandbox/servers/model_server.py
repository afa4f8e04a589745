"""Which vLLM the pods run: what `vllm`, `python3` and its module `vllm` are in every container.

`stand-in` (the default) starts at once and needs nothing; `vllm` is the real server, which `sandbox.servers.real` prepares.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sandbox.google.latencies import LATENCIES
from sandbox.host.paths import Paths

#: Set for the daemon by `python -m sandbox up --server NAME`.
VARIABLE = "SANDBOX_SERVER"

STAND_IN = "stand-in"
VLLM = "vllm"
NAMES = (STAND_IN, VLLM)

_HERE = Path(__file__).resolve().parent

_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where the kernel has it

#: Gives each pod a network address of its own; works with any server written in Python.
_PODNET = _HERE.parent / "node_agent" / "podnet"


@dataclass(frozen=True, kw_only=True)
class ModelServer:
    """`python_paths` are added to every container's PYTHONPATH, `variables` to its environment."""

    name: str
    #: The folders of the `vllm` and the `python3` that containers find on PATH, behind what their image brings.
    program_folders: tuple[Path, ...]
    python_paths: tuple[Path, ...]
    variables: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> ModelServer:
        """The one that the environment names. Raises `ValueError` on a name that is not one of `NAMES`."""
        name = environment.get(VARIABLE) or STAND_IN
        if name == VLLM:
            return real_vllm(Paths.from_environment(environment))
        if name == STAND_IN:
            return stand_in()
        raise ValueError(f"{VARIABLE}={name}: there is no such server; known: {', '.join(NAMES)}")


def stand_in() -> ModelServer:
    return ModelServer(
        name=STAND_IN,
        program_folders=(_HERE / "standin" / "bin", Path(sys.executable).parent),
        python_paths=(_PODNET, _HERE / "standin"),
        variables={f"STANDIN_{kind}_STARTUP_SECONDS": f"{LATENCIES[f'{kind.lower()}_server_start']:g}" for kind in ("TPU", "GPU")},
    )


def virtual_environment(paths: Paths) -> Path:
    """Where real vLLM is installed."""
    return paths.cache / "vllm"


def model_cache(paths: Paths) -> Path:
    """A Hugging Face cache that holds the tiny model under the names of the models that stacks have asked for."""
    return paths.cache / "vllm-models"


def make_scratch(paths: Paths) -> None:
    """What real vLLM's processes need outside the state folder; `remove_scratch` takes it away."""
    _scratch(paths).mkdir(mode=0o700, exist_ok=True)


def remove_scratch(paths: Paths) -> None:
    """With whatever killed processes have left of sockets and shared memory."""
    name = _scratch(paths).name
    for left in _SHARED_MEMORY.glob(f"*{name}-*"):
        left.unlink(missing_ok=True)
    shutil.rmtree(_scratch(paths), ignore_errors=True)


def _scratch(paths: Paths) -> Path:
    """One for each state folder, with a short path."""
    return Path(tempfile.gettempdir()) / f"fungibility-{hashlib.sha256(bytes(paths.state)).hexdigest()[:8]}"


def real_vllm(paths: Paths) -> ModelServer:
    """vLLM in its virtual environment, as it is: nothing of it is replaced but the pod's network."""
    return ModelServer(
        name=VLLM,
        program_folders=(virtual_environment(paths) / "bin",),
        python_paths=(_PODNET,),
        variables={
            # `--model=ORG/NAME` is found in this cache, and nothing is asked of the network.
            "HF_HUB_CACHE": str(model_cache(paths)),
            "HF_HUB_OFFLINE": "1",
            "VLLM_NO_USAGE_STATS": "1",
            # GiB for the KV cache; vLLM's own default is a share of the machine's memory, and pods share one machine.
            "VLLM_CPU_KVCACHE_SPACE": "1",
            # What one pod's server has compiled, the next need not.
            "VLLM_CACHE_ROOT": str(paths.cache / "vllm-compiled"),
            # Else every pod's server pins its threads to the same cores.
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            # Its sockets of the Unix domain; a container's own TMPDIR is longer than the kernel's 107 bytes allow.
            "VLLM_RPC_BASE_PATH": str(_scratch(paths)),
            "SANDBOX_SHARED_MEMORY": _scratch(paths).name,
        },
    )
