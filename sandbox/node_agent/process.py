"""One run of a container: a process with a session of its own, its log, and everything that it starts.

Without a PID namespace, a process that leaves the session is found by the container's mark in its environment, so that
nothing of a container outlives it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from sandbox.node_agent.logs import LogPump
from sandbox.processes import Spawner

#: Carried by every process of one run of a container.
CONTAINER_MARK = "SANDBOX_CONTAINER_ID"

_KILL_ROUNDS = 20


class ContainerProcess:
    """Starts at construction (`OSError` when the program cannot be started); `on_exit` is called once, from a thread."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        spawner: Spawner,
        environment: Mapping[str, str],
        folder: Path,
        log: Path,
        name: str,
        on_exit: Callable[[int], None],
    ) -> None:
        self.id = uuid.uuid4().hex + uuid.uuid4().hex
        self.log = log
        #: Also for what is run in the container later: probes and hooks.
        self.environment = {**environment, CONTAINER_MARK: self.id}
        self.folder = folder
        self.exited = threading.Event()
        self.exit_code: int | None = None
        self._on_exit = on_exit
        read_out, write_out = os.pipe()
        read_error, write_error = os.pipe()
        try:
            self._process = spawner.spawn(
                argv, env=self.environment, cwd=folder, stdout=write_out, stderr=write_error
            )
        except BaseException:
            os.close(read_out)
            os.close(read_error)
            raise
        finally:
            os.close(write_out)
            os.close(write_error)
        self._pump = LogPump(log, stdout=read_out, stderr=read_error, name=name)
        threading.Thread(target=self._wait, name=f"wait {name}", daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def signal(self, number: int) -> None:
        """To the main process alone, as a container runtime does."""
        if not self.exited.is_set():
            try:
                self._process.send_signal(number)
            except ProcessLookupError:
                pass

    def kill(self) -> None:
        """Ends everything of this run at once."""
        kill_all(self._process.pid, self.id)

    def _wait(self) -> None:
        code = self._process.wait()
        # As with a PID namespace, whose other processes end with its first.
        self.kill()
        self._pump.finish()
        # The kernel's -N, "by signal N", is 128 + N to Kubernetes.
        self.exit_code = code if code >= 0 else 128 - code
        self.exited.set()
        self._on_exit(self.exit_code)


def kill_all(session: int, mark: str) -> None:
    """Kills a session's process group, and whatever carries a container's mark, until there is nothing left."""
    try:
        os.killpg(session, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
    # A process may start another between two looks.
    for _ in range(_KILL_ROUNDS):
        pids = _marked(mark)
        if not pids:
            return
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass


def _marked(mark: str) -> list[int]:
    wanted = f"{CONTAINER_MARK}={mark}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                # A zombie's environment is empty.
                if wanted in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def run_in_container(
    argv: Sequence[str], *, process: ContainerProcess, spawner: Spawner, timeout: float
) -> tuple[int, str]:
    """Runs a probe's or a hook's command beside a container; its exit code and output. Raises `TimeoutError`, `OSError`."""
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
        try:
            os.killpg(child.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        child.wait()
        reader.join(timeout=1)
    return code, output.decode(errors="replace")
