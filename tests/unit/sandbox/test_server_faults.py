"""Faults reach the server of one pod and nothing else."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.cli import server_faults
from sandbox.host.paths import MARK, Paths
from sandbox.node_agent.pod import crash_file


class Pods:
    """Sleeping processes that look like a pod's server, and like what else runs in a pod."""

    def __init__(self, folder: Path) -> None:
        self.paths = Paths(cache=folder / "cache", state=folder / "state")
        self.processes: list[subprocess.Popen[bytes]] = []

    def run(self, pod: str, *words: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-c", "import time; time.sleep(60)", *words], env={MARK: str(self.paths.state), "SANDBOX_POD_NAME": pod}
        )
        self.processes.append(process)
        # Until then its environment is its parent's.
        deadline = time.monotonic() + 10
        while f"SANDBOX_POD_NAME={pod}".encode() not in Path(f"/proc/{process.pid}/environ").read_bytes():
            assert time.monotonic() < deadline
        return process


@pytest.fixture
def pods(tmp_path: Path) -> Iterator[Pods]:
    found = Pods(tmp_path)
    yield found
    for process in found.processes:
        process.kill()
        process.wait()


SERVER = "vllm.entrypoints.openai.api_server"


def state_of(process: subprocess.Popen[bytes]) -> str:
    return Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()[0]


def test_a_server_hangs_and_its_neighbours_do_not(pods: Pods) -> None:
    server, probe, other = pods.run("a", SERVER), pods.run("a", "fungibility-health"), pods.run("b", SERVER)
    server_faults.make(pods.paths, "a", "hang")
    deadline = time.monotonic() + 10
    while state_of(server) != "T":
        assert time.monotonic() < deadline
    assert "T" not in (state_of(probe), state_of(other))


@pytest.mark.parametrize(("fault", "left"), [("crash", [True, False]), ("die", [False, False])])
def test_only_a_crash_leaves_the_file_that_makes_the_next_start_fail_and_only_in_its_own_pod(
    pods: Pods, fault: server_faults.Fault, left: list[bool]
) -> None:
    folders = [pods.paths.state / "clusters" / "c" / "pods" / name for name in ("default_a_uid", "default_b_uid")]
    for folder in folders:
        folder.mkdir(parents=True)
    server = pods.run("a", SERVER)
    server_faults.make(pods.paths, "a", fault)
    assert server.wait(timeout=10) == -9
    assert [crash_file(folder).exists() for folder in folders] == left


def test_a_pod_without_a_server_is_refused(pods: Pods) -> None:
    pods.run("a", "fungibility-health")
    with pytest.raises(server_faults.FaultError, match="no server runs in a pod 'a'"):
        server_faults.make(pods.paths, "a", "crash")
