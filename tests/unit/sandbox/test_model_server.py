"""Which vLLM containers get, and what it leaves outside the sandbox's folders."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox.host.paths import Paths
from sandbox.servers.model_server import ModelServer, make_scratch, real_vllm, remove_scratch

_SHARED_MEMORY = Path("/dev/shm")

#: A process that makes shared memory, and a child that makes a semaphore, and is killed before it can take them away.
_KILLED = """
import multiprocessing, os, signal
from multiprocessing import shared_memory

def child():
    semaphore = multiprocessing.get_context("spawn").Semaphore()
    memory = shared_memory.SharedMemory(create=True, size=64)
    print("made", flush=True)
    os.killpg(0, signal.SIGKILL)

if __name__ == "__main__":
    memory = shared_memory.SharedMemory(create=True, size=64)
    process = multiprocessing.Process(target=child)
    process.start()
    process.join()
"""


def test_an_unknown_server_is_refused_with_the_known_names() -> None:
    with pytest.raises(ValueError, match="SANDBOX_SERVER=vlm: there is no such server; known: stand-in, vllm"):
        ModelServer.of({"SANDBOX_SERVER": "vlm"})


def test_sockets_have_paths_that_the_kernel_takes(tmp_path: Path) -> None:
    deep = Paths(cache=tmp_path, state=tmp_path / ("deep/" * 30))
    socket = Path(real_vllm(deep).variables["VLLM_RPC_BASE_PATH"]) / "94c919f3-d59c-4773-b591-7aa030807ece"
    assert len(bytes(socket)) < 107


def test_shared_memory_that_killed_processes_leave_is_taken_away(paths: Paths, tmp_path: Path) -> None:
    server = real_vllm(paths)
    make_scratch(paths)
    prefix = server.variables["SANDBOX_SHARED_MEMORY"]
    script = tmp_path / "killed.py"
    script.write_text(_KILLED)
    process = subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, **server.variables, "PYTHONPATH": str(server.python_paths[0])},
        start_new_session=True,
        capture_output=True,
        text=True,
    )
    assert process.stdout == "made\n", process.stderr
    assert len(list(_SHARED_MEMORY.glob(f"*{prefix}-*"))) == 3
    remove_scratch(paths)
    assert list(_SHARED_MEMORY.glob(f"*{prefix}*")) == []
    assert not Path(server.variables["VLLM_RPC_BASE_PATH"]).exists()
