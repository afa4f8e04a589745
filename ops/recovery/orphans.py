"""Provider plugins that outlived their engine, and could still change something after the recovery has looked.

An engine starts each plugin with its own address as the first argument; a plugin asks there every five minutes whether the
engine lives (`rpcutil.Healthcheck` of pulumi/pulumi) and ends when it does not. Language hosts and programs change nothing
without their engine: they are left to end so. Left out: systems without /proc, and plugins of other users.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_PREFIX = "pulumi-resource-"
_TERM_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class Orphan:
    pid: int
    name: str

    def __str__(self) -> str:
        return f"{self.name} (process {self.pid})"


def find() -> list[Orphan]:
    """This user's provider plugins whose engine does not answer any more."""
    return [orphan for orphan, address in _plugins() if not _listens(address)]


def end(orphans: list[Orphan]) -> None:
    """Asks them to end, and ends those that do not within seconds."""
    for number, seconds in ((signal.SIGTERM, _TERM_SECONDS), (signal.SIGKILL, 1.0)):
        for each in orphans:
            with contextlib.suppress(ProcessLookupError):
                os.kill(each.pid, number)
        deadline = time.monotonic() + seconds
        while orphans and time.monotonic() < deadline:
            time.sleep(0.05)
            orphans = [each for each in orphans if _name(each.pid) == each.name]


def _plugins() -> Iterator[tuple[Orphan, str]]:
    for entry in Path("/proc").iterdir() if Path("/proc").exists() else ():
        if not entry.name.isdigit():
            continue
        try:
            if entry.stat().st_uid != os.getuid():
                continue
            arguments = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        name = next((each for each in map(os.path.basename, arguments[:2]) if each.startswith(_PREFIX)), None)
        address = next((each for each in arguments[1:] if each.startswith("127.0.0.1:")), None)
        if name and address:
            yield Orphan(pid=int(entry.name), name=name), address


def _name(pid: int) -> str | None:
    return next((orphan.name for orphan, _ in _plugins() if orphan.pid == pid), None)


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=2):
            return True
    except (OSError, ValueError):
        return False
