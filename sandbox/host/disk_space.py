"""Room on the disks that the sandbox writes to: asked for before it is needed, and named where it was the reason of a failure."""

import shutil
from pathlib import Path

from sandbox.host.paths import Paths

#: MB that a sandbox's state grows to in a day of trying things (etcd's log, daemon.log); one that is up has 150.
STATE_MB = 300

#: MB that building every tool takes at its peak, Go's modules and object files included.
BUILD_MB = 6000

#: MB for links to programs that the machine has.
LINK_MB = 1

#: Below this many MB a failure is taken for one of room.
_FULL_MB = 16


class NoRoom(Exception):
    """A disk has too little room; the message says which, how much there is and how much is needed."""


def free_mb(path: Path) -> int:
    """On the file system of a file or folder, which need not be there yet."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free // 2**20


def require(path: Path, megabytes: int, what: str) -> None:
    """Raises `NoRoom`."""
    free = free_mb(path)
    if free < megabytes:
        raise NoRoom(
            f"{what} needs {megabytes} MB, and the file system of {path} has {free} MB left: make room there, or let "
            f"SANDBOX_STATE and SANDBOX_CACHE name folders on another"
        )


def full(paths: Paths) -> str:
    """A sentence about the disk that is full, for the end of a message about a failure; empty when none is."""
    for path in (paths.state, paths.cache):
        if (free := free_mb(path)) < _FULL_MB:
            return f"The file system of {path} is full ({free} MB left), which may be the reason: make room there and run it again."
    return ""
