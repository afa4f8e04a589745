"""Starting processes that do not outlive the daemon.

On Linux a process can ask to be killed when the thread that started it ends, so everything is started by one thread that
lives as long as the daemon; where util-linux's `setpriv` is missing, `down` still finds strays by their mark.
"""

import queue
import shutil
import subprocess
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import IO, Any

import psutil


def process_start(pid: int) -> str | None:
    """The kernel's start time of a process in clock ticks; None when there is none or it is a zombie."""
    # Not psutil's: its time is of the wall clock, which may be set while the daemon runs.
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] == "Z" else fields[19]


def command_line(pid: int) -> list[str]:
    """A process's program and arguments; empty when there is none or it is a zombie."""
    try:
        return psutil.Process(pid).cmdline()
    except psutil.Error:
        return []


def processes_with(variable: str, value: str) -> list[int]:
    """Pids of this user's running processes whose environment has the variable with this value."""
    found = psutil.process_iter(["environ", "status"])
    return [
        each.pid for each in found if (each.info["environ"] or {}).get(variable) == value and each.info["status"] != psutil.STATUS_ZOMBIE
    ]


def ended_with_parent(signal_name: str) -> list[str]:
    """What to put before a command line so that the program is told when the thread that starts it ends; empty without `setpriv`."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", signal_name, "--"] if setpriv else []


def end(process: subprocess.Popen[bytes], seconds: float) -> None:
    """Asks a program to end, kills it when it has not within so many seconds, and returns when it is gone."""
    process.terminate()
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Spawner:
    """Starts processes, each in a session of its own, from one long-lived thread."""

    def __init__(self) -> None:
        self._prefix = ended_with_parent("KILL")
        self._requests: queue.SimpleQueue[tuple[Future[subprocess.Popen[bytes]], list[str], dict[str, Any]] | None] = queue.SimpleQueue()
        threading.Thread(target=self._serve, name="spawner", daemon=True).start()

    def spawn(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        stdout: int | IO[bytes] = subprocess.DEVNULL,
        stderr: int | IO[bytes] = subprocess.DEVNULL,
    ) -> subprocess.Popen[bytes]:
        """Starts a program with exactly this environment. Raises `OSError` as `subprocess.Popen` does."""
        if shutil.which(argv[0], path=env.get("PATH")) is None:
            # `setpriv` would start, and only then find nothing to run.
            raise FileNotFoundError(2, "No such file or directory", argv[0])
        future: Future[subprocess.Popen[bytes]] = Future()
        options = {"env": dict(env), "cwd": cwd, "stdout": stdout, "stderr": stderr}
        self._requests.put((future, [*self._prefix, *argv], options))
        return future.result()

    def stop(self) -> None:
        """Ends the thread, and with it every process still running."""
        self._requests.put(None)

    def _serve(self) -> None:
        while (request := self._requests.get()) is not None:
            future, argv, options = request
            try:
                future.set_result(subprocess.Popen(argv, stdin=subprocess.DEVNULL, start_new_session=True, close_fds=True, **options))
            except OSError as error:
                future.set_exception(error)
