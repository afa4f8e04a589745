"""One run of a container: a process with a session of its own, its log, and everything that it starts.

Without a PID namespace, a process that leaves the session is found by the container's mark in its environment, so that
nothing of a container outlives it.
"""

import contextlib
import os
import signal
import subprocess
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from sandbox.host.processes import Spawner, processes_with
from sandbox.node_agent.logs import LogPump

#: Carried by every process of one run of a container.
CONTAINER_MARK = "SANDBOX_CONTAINER_ID"

_KILL_ROUNDS = 20


class ContainerProcess:
    """Starts at construction; `OSError` when the program cannot be started. Its owner has to `follow` it."""

    def __init__(
        self, argv: Sequence[str], *, spawner: Spawner, environment: Mapping[str, str], folder: Path, log: Path, name: str
    ) -> None:
        self.id = uuid.uuid4().hex + uuid.uuid4().hex
        self.log = log
        #: Also for what is run in the container later: probes and hooks.
        self.environment = {**environment, CONTAINER_MARK: self.id}
        self.folder = folder
        self.exited = threading.Event()
        self._name = name
        read_out, write_out = os.pipe()
        read_error, write_error = os.pipe()
        try:
            self._process = spawner.spawn(argv, env=self.environment, cwd=folder, stdout=write_out, stderr=write_error)
        except BaseException:
            os.close(read_out)
            os.close(read_error)
            raise
        finally:
            os.close(write_out)
            os.close(write_error)
        self._pump = LogPump(log, stdout=read_out, stderr=read_error, name=name)

    def follow(self, on_exit: Callable[[int], None]) -> None:
        """Calls `on_exit` once, from a thread, with the exit code as Kubernetes gives it, when nothing is left running."""
        threading.Thread(target=self._wait, args=(on_exit,), name=f"wait {self._name}", daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def signal(self, number: int) -> None:
        """To the main process alone, as a container runtime does."""
        if not self.exited.is_set():
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    def kill(self) -> None:
        """Ends everything of this run at once."""
        kill_all(self._process.pid, self.id)

    def _wait(self, on_exit: Callable[[int], None]) -> None:
        # Not reaped yet, so that its number, which is also its group's, cannot be another's when the rest is killed.
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        # As with a PID namespace, whose other processes end with its first.
        self.kill()
        code = self._process.wait()
        self._pump.finish()
        # The kernel's -N, "by signal N", is 128 + N to Kubernetes.
        self.exited.set()
        on_exit(code if code >= 0 else 128 - code)


def kill_all(session: int, mark: str) -> None:
    """Kills a session's process group, and whatever carries a container's mark, until there is nothing left."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(session, signal.SIGKILL)
    # A process may start another between two looks.
    for _ in range(_KILL_ROUNDS):
        pids = processes_with(CONTAINER_MARK, mark)
        if not pids:
            return
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def run_in_container(argv: Sequence[str], *, process: ContainerProcess, spawner: Spawner, timeout: float) -> tuple[int, str]:
    """Runs a probe's or a hook's command beside a container; gives its exit code and output.

    Raises `OSError`, and its kind `TimeoutError` after `timeout` seconds.
    """
    read, write = os.pipe()
    try:
        child = spawner.spawn(argv, env=process.environment, cwd=process.folder, stdout=write, stderr=write)
    except BaseException:
        os.close(read)
        raise
    finally:
        os.close(write)
    output = bytearray()

    def drain() -> None:
        with open(read, "rb", buffering=0) as pipe:
            while data := pipe.read(1 << 14):
                # Kept short: it goes into an event.
                output.extend(data[: max(0, 10_000 - len(output))])

    reader = threading.Thread(target=drain, name="exec output", daemon=True)
    reader.start()
    try:
        code = child.wait(timeout=timeout)
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"command timed out after {timeout:g}s") from None
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        reader.join(timeout=1)
    return code, output.decode(errors="replace")
