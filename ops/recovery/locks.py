"""Whether the update that holds a stack's lock still runs, as far as that can be known from here.

A backend without a service (a folder, a bucket) keeps a file for each update, with the process and the machine that wrote it;
what is said of it is read from pulumi's own refusal, which is the same for all of them (pkg/backend/diy/lock.go of
pulumi/pulumi). Pulumi Cloud says only that there is another update.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from dataclasses import dataclass

import psutil

_LOCK = re.compile(r": created by (?P<user>\S*)@(?P<host>\S+) \(pid (?P<pid>\d+)\) at (?P<time>\S+)")
_LOCKED = "the stack is currently locked by"
#: pkg/backend/httpstate, and sdk/go/auto/errors.go, which goes by the same words.
_CONFLICT = "Another update is currently in progress"


@dataclass(frozen=True, kw_only=True)
class Lock:
    """An update's lock; `pid` 0 where the backend does not say whose it is."""

    user: str = ""
    host: str = ""
    pid: int = 0
    time: str = ""

    def __str__(self) -> str:
        if not self.pid:
            return "another update of the stack, of which the backend says no more"
        return f"process {self.pid} of {self.user} on {self.host}, since {self.time}"


def locks_in(message: str) -> list[Lock]:
    """The locks for which pulumi has refused a command; none when it has not."""
    if _CONFLICT in message:
        return [Lock()]
    if _LOCKED not in message:
        return []
    return [Lock(user=found["user"], host=found["host"], pid=int(found["pid"]), time=found["time"]) for found in _LOCK.finditer(message)]


def is_left_over(lock: Lock, *, host: str | None = None, process_name: Callable[[int], str | None] | None = None) -> bool:
    """Whether its update is known to be over: it ran on this machine, and the process is gone.

    `host` and `process_name` are this machine's by default.
    """
    if not lock.pid or lock.host != (host or socket.gethostname()):
        return False
    # Another program may have the number by now.
    name = (process_name or _process_name)(lock.pid)
    return name is None or not name.startswith("pulumi")


def _process_name(pid: int) -> str | None:
    """None when there is no such process, or what is left of it only waits to be collected."""
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.name()
    except psutil.NoSuchProcess:
        return None
