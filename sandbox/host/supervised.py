"""A long command run under watch: one Ctrl-C lets it end in order, a second ends it at once, and so does trouble that it would wait out.

For `pulumi up`, which writes what it has made into the stack's state when it is asked to end, and leaves a lock and resources that
Pulumi does not know of when it is killed. It runs in a process group of its own: a terminal sends Ctrl-C to the whole foreground group, and
Pulumi takes the second signal that it would get from here for an impatient person's.
"""

import contextlib
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from sandbox.host.processes import ended_with_parent, processes_with

#: How long a command that is asked to end may take.
_PATIENCE_SECONDS = 60.0

_LOOK_SECONDS = 2.0

#: Tells the processes of one run from all others.
_RUN = "FUNGIBILITY_RUN"


class Troubled(Exception):
    """The command was ended, since it had no prospect; the message says why."""


def run(
    command: Sequence[str], *, cwd: Path, environment: Mapping[str, str], trouble: Callable[[], str | None], say: Callable[[str], None]
) -> int:
    """The exit status. Raises `Troubled`, and `KeyboardInterrupt` once the command has ended; no process of it is left then.

    `trouble` is asked now and then whether there is a reason to give up.
    """
    mark = secrets.token_hex(8)
    process = subprocess.Popen(
        # Should this process be killed, the command is told to end.
        [*ended_with_parent("INT"), *command],
        cwd=cwd,
        env={**environment, _RUN: mark},
        stdin=subprocess.DEVNULL,
        process_group=0,
    )
    interrupted, reason = False, None
    deadline = float("inf")
    try:
        while True:
            try:
                try:
                    status = process.wait(timeout=_LOOK_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    if reason is None and not interrupted and (reason := trouble()) is not None:
                        deadline = time.monotonic() + _PATIENCE_SECONDS
                        _tell(process)
                    if time.monotonic() > deadline:
                        break
            except KeyboardInterrupt:
                if interrupted:
                    raise
                interrupted, deadline = True, time.monotonic() + _PATIENCE_SECONDS
                say("interrupted: what is under way is brought to its end; Ctrl-C again ends it at once")
                _tell(process)
    finally:
        _end(process, mark)
    if reason is not None:
        raise Troubled(reason)
    if interrupted:
        raise KeyboardInterrupt
    return status


def _tell(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGINT)


def _end(process: subprocess.Popen[bytes], mark: str) -> None:
    """Kills what is left: the command itself, and what it has started, in whatever process group that is."""
    process.poll()
    for pid in processes_with(_RUN, mark):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()
