"""One run of a container as a process: its exit, its log, and the end of everything that it started."""

import os
import queue
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox.host.processes import Spawner
from sandbox.node_agent.process import ContainerProcess, run_in_container


@pytest.fixture
def spawner() -> Iterator[Spawner]:
    spawner = Spawner()
    yield spawner
    spawner.stop()


class Started:
    def __init__(self, spawner: Spawner, tmp_path: Path, *argv: str, **environment: str) -> None:
        self.exits: queue.Queue[int] = queue.Queue()
        self.log = tmp_path / "0.log"
        self.process = ContainerProcess(
            argv, spawner=spawner, environment={"PATH": os.defpath, **environment}, folder=tmp_path, log=self.log, name="test"
        )
        self.process.follow(self.exits.put)

    def exit_code(self) -> int:
        return self.exits.get(timeout=10)

    def lines(self) -> list[str]:
        return [line.split(" ", 3)[3] for line in self.log.read_text().splitlines()]

    def wait_for_line(self, line: str) -> None:
        deadline = time.monotonic() + 10
        while line not in self.lines():
            assert time.monotonic() < deadline, self.lines()
            time.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill -TERM $$", 143)])
def test_the_exit_code_of_a_signal_is_128_and_its_number(spawner: Spawner, tmp_path: Path, script: str, code: int) -> None:
    assert Started(spawner, tmp_path, "sh", "-c", script).exit_code() == code


def test_a_signal_only_goes_to_the_main_process(spawner: Spawner, tmp_path: Path) -> None:
    script = "trap 'echo main; exit 0' TERM; (trap 'echo child' TERM; sleep 30) & echo ready; wait"
    started = Started(spawner, tmp_path, "sh", "-c", script)
    started.wait_for_line("ready")
    started.process.signal(signal.SIGTERM)
    assert started.exit_code() == 0
    assert started.lines() == ["ready", "main"]


def test_a_child_that_left_the_session_ends_too(spawner: Spawner, tmp_path: Path) -> None:
    script = "import os, time\nif os.fork() == 0:\n os.setsid()\n print(os.getpid(), flush=True)\n time.sleep(60)\ntime.sleep(0.3)"
    started = Started(spawner, tmp_path, sys.executable, "-c", script)
    started.exit_code()
    (pid,) = started.lines()
    assert not alive(int(pid))


def test_killing_ends_a_process_that_ignores_signals(spawner: Spawner, tmp_path: Path) -> None:
    started = Started(spawner, tmp_path, "sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done")
    started.wait_for_line("ready")
    started.process.signal(signal.SIGTERM)
    assert not started.process.exited.wait(0.3)
    started.process.kill()
    assert started.exit_code() == 137


def test_two_containers_do_not_end_each_other(spawner: Spawner, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first, second = (Started(spawner, tmp_path / name, "sleep", "60") for name in "ab")
    first.process.kill()
    assert first.exit_code() == 137
    assert not second.process.exited.wait(0.2)
    second.process.kill()


def run(spawner: Spawner, started: Started, *argv: str, timeout: float = 5.0) -> tuple[int, str]:
    return run_in_container(argv, process=started.process, spawner=spawner, timeout=timeout)


@pytest.fixture
def sleeping(spawner: Spawner, tmp_path: Path) -> Iterator[Any]:
    started = Started(spawner, tmp_path, "sleep", "60", GIVEN="1")
    yield started
    started.process.kill()
    started.exit_code()


def test_a_command_beside_it_has_its_environment_and_gives_its_code_and_output(spawner: Spawner, sleeping: Started) -> None:
    assert run(spawner, sleeping, "sh", "-c", 'echo "got $GIVEN"; echo err >&2; exit 3') == (3, "got 1\nerr\n")


def test_a_command_beside_it_that_takes_too_long_is_ended(spawner: Spawner, sleeping: Started) -> None:
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        run(spawner, sleeping, "sh", "-c", "sleep 61; true", timeout=0.2)
    assert time.monotonic() - began < 3
    commands = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout.splitlines()
    assert "sleep 61" not in commands
