"""Starting, finding and ending the daemon, and ending whatever a crash of it left behind."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from sandbox import model_server
from sandbox.daemon import DaemonRecord, process_start
from sandbox.paths import MARK, PROJECT_DIR, Paths

_START_SECONDS = 120.0
_STOP_SECONDS = 60.0


class SandboxError(Exception):
    """A command cannot go on; the message says why and what to do."""


class Crashed(SandboxError):
    """There is a record of a daemon, and the daemon is gone."""


def running(paths: Paths) -> DaemonRecord | None:
    """The running daemon's record, None when the sandbox is down. Raises `Crashed`."""
    record = DaemonRecord.read(paths.daemon_record)
    if record is None:
        return None
    if not record.alive:
        raise Crashed(
            f"the sandbox's daemon (pid {record.pid}) is gone without having been asked to stop. "
            f"Its last words are in {paths.daemon_log}:\n{_tail(paths.daemon_log)}\n"
            "`python -m sandbox up` takes up where it was; `python -m sandbox down` clears it away."
        )
    return record


def require_running(paths: Paths) -> DaemonRecord:
    record = running(paths)
    if record is None:
        raise SandboxError("the sandbox is not running; start it with `make up` (or `python -m sandbox up`)")
    return record


def start(paths: Paths, server: str) -> DaemonRecord:
    """Starts the daemon and returns when it is ready; after a crash its remains are ended first.

    `server` is one of `model_server.NAMES`, for the pods of as long as the daemon runs.
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
            env={**os.environ, MARK: str(paths.state), model_server.VARIABLE: server},
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
    end_strays(paths)
    raise SandboxError(
        f"the sandbox's daemon did not come up; the end of {paths.daemon_log}:\n{_tail(paths.daemon_log)}"
    )


def stop(paths: Paths, report: Callable[[str], None]) -> None:
    """Ends the daemon and every process of this sandbox, and removes its state; the cache of tools stays."""
    record = DaemonRecord.read(paths.daemon_record)
    if record is not None and record.alive:
        os.kill(record.pid, signal.SIGTERM)
        deadline = time.monotonic() + _STOP_SECONDS
        while record.alive and time.monotonic() < deadline:
            time.sleep(0.05)
    if strays := end_strays(paths):
        report(f"ended {strays} processes that were left over")
    model_server.remove_scratch(paths)
    shutil.rmtree(paths.state, ignore_errors=True)


def end_strays(paths: Paths) -> int:
    """Kills every process that carries this sandbox's mark; returns how many."""
    count = 0
    # A process may start another between two looks.
    for _ in range(20):
        pids = marked_processes(paths)
        if not pids:
            return count
        count += len(pids)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    raise SandboxError(f"processes {pids} of the sandbox do not end, though killed; `ps` shows what they are")


def marked_processes(paths: Paths) -> list[int]:
    """Pids of the processes whose environment names this sandbox's state folder."""
    mark = f"{MARK}={paths.state}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            environment = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if mark in environment and process_start(int(entry.name)) is not None:
            found.append(int(entry.name))
    return found


def _tail(path: Path, lines: int = 8) -> str:
    if not path.exists():
        return "  (no log)"
    return "\n".join(f"  {line}" for line in path.read_text(errors="replace").splitlines()[-lines:])
