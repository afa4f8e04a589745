"""Starting, finding and ending the daemon, and ending everything that a crash of it left behind."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from sandbox.host import command_lock, disk_space
from sandbox.host.daemon_record import DaemonRecord
from sandbox.host.paths import MARK, PROJECT_DIR, Paths
from sandbox.host.processes import processes_with
from sandbox.host.state_files import StateError
from sandbox.servers import model_server

_START_SECONDS = 120.0
_STOP_SECONDS = 60.0

#: Seconds in which an `up` that gets SIGTERM informs Pulumi, and Pulumi writes its state.
_INTERRUPT_SECONDS = 20.0

#: The daemon checks its programs every second.
_NOTICE_SECONDS = 3.0


class SandboxError(Exception):
    """A command cannot go on; the message says why and what to do."""


class Terminated(BaseException):
    """SIGTERM arrived, as `down` sends it to an `up` that is under way."""


class Crashed(SandboxError):
    """There is a record of a daemon, and the daemon is gone."""


def running(paths: Paths) -> DaemonRecord | None:
    """The running daemon's record, None if the sandbox is down. Raises `Crashed`, and `StateError` for an invalid record."""
    record = DaemonRecord.read(paths.daemon_record)
    if record is None:
        return None
    if record.ending:
        # It reports its end before it ends its programs; a new daemon would find the ports taken meanwhile.
        _wait_for_end(record)
    if record.ending or not record.alive:
        why = f"it stopped, since {record.ending}." if record.ending else "it ended without a request to stop."
        hints = [
            f"the sandbox's daemon (pid {record.pid}) is gone: {why} The end of its log ({paths.daemon_log}):",
            _tail(paths.daemon_log),
            disk_space.full(paths),
            "`python -m sandbox up` resumes where it was; `python -m sandbox down` removes it.",
        ]
        raise Crashed("\n".join(hint for hint in hints if hint))
    return record


def explain_failure(paths: Paths) -> str:
    """What in the sandbox itself may be the reason for a failure that another program reports; empty if all is well.

    It waits a moment, since clients of a lost program notice before the daemon has checked its programs.
    """
    deadline = time.monotonic() + _NOTICE_SECONDS
    while time.monotonic() < deadline:
        try:
            running(paths)
        except (Crashed, StateError) as error:
            return str(error)
        time.sleep(0.2)
    return disk_space.full(paths)


@contextlib.contextmanager
def exclusive(paths: Paths) -> Iterator[None]:
    """Lets only one `up` run at a time on one state folder. Raises `SandboxError`."""
    try:
        with command_lock.held(paths):
            yield
    except command_lock.Held as held:
        who = "another `python -m sandbox up`" + (f" (pid {held.pid})" if held.pid else "")
        raise SandboxError(
            f"{who} is under way on {paths.state}: wait for it, or end it and the sandbox with `python -m sandbox down`; "
            "for a second sandbox beside it name another folder in SANDBOX_STATE"
        ) from None


def require_running(paths: Paths) -> DaemonRecord:
    record = running(paths)
    if record is None:
        raise SandboxError("the sandbox is not running; start it with `make up` (or `python -m sandbox up`)")
    return record


def start(paths: Paths, server: str) -> DaemonRecord:
    """Starts the daemon and returns when it is ready; after a crash its remains are ended first.

    `server` is one of `model_server.NAMES`, which all pods run while the daemon runs.
    """
    paths.state.mkdir(parents=True, exist_ok=True)
    end_strays(paths)
    paths.daemon_record.unlink(missing_ok=True)
    if server == model_server.VLLM:
        model_server.make_scratch(paths)
    with paths.daemon_log.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "sandbox.daemon"],
            cwd=PROJECT_DIR,
            # Many threads that do little each: an arena of the C library for each of them would hold memory that none uses.
            env={"MALLOC_ARENA_MAX": "2", **os.environ, MARK: str(paths.state), model_server.VARIABLE: server},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        record = DaemonRecord.read(paths.daemon_record)
        if record is not None:
            return record
        if process.poll() is not None:
            break
        time.sleep(0.05)
    took = "within" if process.poll() is None else "and ended before"
    end_strays(paths)
    hints = [
        f"the sandbox's daemon did not come up {took} {_START_SECONDS:.0f} s; the end of {paths.daemon_log}:",
        _tail(paths.daemon_log),
        disk_space.full(paths),
        "Run `python -m sandbox up` again once the cause is fixed; `python -m sandbox down` removes everything.",
    ]
    raise SandboxError("\n".join(hint for hint in hints if hint))


def stop(paths: Paths, report: Callable[[str], None]) -> None:
    """Ends the daemon and every process of this sandbox, and removes its state; the cache of tools stays."""
    _end_command(paths, report)
    try:
        record = DaemonRecord.read(paths.daemon_record)
    except StateError as error:
        # To be removed. A daemon that still runs has the mark.
        report(str(error).partition(":")[0])
        record = None
    if record is not None and record.alive:
        os.kill(record.pid, signal.SIGTERM)
        _wait_for_end(record)
    if strays := end_strays(paths):
        report(f"ended {strays} processes that were left over")
    model_server.remove_scratch(paths)
    shutil.rmtree(paths.state, ignore_errors=True)
    if paths.state.exists():
        left = next(iter(sorted(paths.state.rglob("*"))), paths.state)
        raise SandboxError(
            f"nothing runs any more, but {paths.state} could not be removed whole ({left} is left): remove it by hand, "
            "as the user who owns it"
        )


def _end_command(paths: Paths, report: Callable[[str], None]) -> None:
    """Ends an `up` that is under way, which would otherwise keep making what is being ended."""
    pid = command_lock.holder(paths)
    if pid is None or pid == os.getpid():
        return
    report(f"ends the `python -m sandbox up` (pid {pid}) that is under way")
    for number, seconds in ((signal.SIGTERM, _INTERRUPT_SECONDS), (signal.SIGKILL, 5.0)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if command_lock.holder(paths) != pid:
                return
            time.sleep(0.05)


def _wait_for_end(record: DaemonRecord) -> None:
    deadline = time.monotonic() + _STOP_SECONDS
    while record.alive and time.monotonic() < deadline:
        time.sleep(0.05)


def end_strays(paths: Paths) -> int:
    """Kills every process that carries this sandbox's mark; returns how many."""
    count = 0
    # A process may start another one between two checks.
    for _ in range(20):
        pids = marked_processes(paths)
        if not pids:
            return count
        count += len(pids)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    raise SandboxError(f"processes {pids} of the sandbox did not end after SIGKILL; `ps` shows what they are")


def marked_processes(paths: Paths) -> list[int]:
    """Pids of the processes whose environment names this sandbox's state folder."""
    return processes_with(MARK, str(paths.state))


def _tail(path: Path, lines: int = 8) -> str:
    if not path.exists():
        return "  (no log)"
    return "\n".join(f"  {line}" for line in path.read_text(errors="replace").splitlines()[-lines:])
