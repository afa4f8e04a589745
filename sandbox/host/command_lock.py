"""One `up` at a time on one state folder: a lock that the kernel takes back when its holder dies, and that says who holds it."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from sandbox.host.paths import Paths
from sandbox.host.processes import process_start


class Held(Exception):
    """Another process has the lock."""

    def __init__(self, pid: int | None) -> None:
        super().__init__(pid)
        #: None for the short while in which its holder has not said who it is.
        self.pid = pid


@contextmanager
def held(paths: Paths) -> Iterator[None]:
    """Holds the lock, which makes the state folder. Raises `Held`."""
    paths.state.mkdir(parents=True, exist_ok=True)
    with _path(paths).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Held(_pid_in(file)) from None
        file.truncate(0)
        json.dump({"pid": os.getpid(), "started": process_start(os.getpid())}, file)
        file.flush()
        yield


def holder(paths: Paths) -> int | None:
    """Pid of the process that holds the lock; None when it is free."""
    try:
        with _path(paths).open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return _pid_in(file)
    except FileNotFoundError:
        pass
    return None


def _path(paths: Paths) -> Path:
    return paths.state / "up.lock"


def _pid_in(file: IO[str]) -> int | None:
    file.seek(0)
    try:
        known = json.loads(file.read())
        pid = int(known["pid"])
    except (ValueError, TypeError, KeyError):
        return None
    # Not another process that has the pid by now.
    return pid if process_start(pid) == known.get("started") else None
