"""Provider plugins that outlived their engine, and could still change something after the recovery has looked.

An engine starts each plugin with its own address as the first argument; a plugin asks there every five minutes whether the
engine lives (`rpcutil.Healthcheck` of pulumi/pulumi) and ends when it does not. Language hosts and programs change nothing
without their engine: they are left to end so. Left out: plugins of other users.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import psutil

_PREFIX = "pulumi-resource-"
_TERM_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class Orphan:
    name: str
    process: psutil.Process

    def __str__(self) -> str:
        return f"{self.name} (process {self.process.pid})"


def find() -> list[Orphan]:
    """This user's provider plugins whose engine does not answer any more."""
    return [orphan for orphan, address in _plugins() if not _listens(address)]


def end(orphans: list[Orphan]) -> None:
    """Asks them to end, and ends those that do not within seconds."""
    left = [each.process for each in orphans]
    for each in left:
        each.terminate()
    _, left = psutil.wait_procs(left, timeout=_TERM_SECONDS)
    for each in left:
        each.kill()
    psutil.wait_procs(left, timeout=1.0)


def _plugins() -> Iterator[tuple[Orphan, str]]:
    for process in psutil.process_iter(["cmdline", "uids"]):
        if process.info["uids"] is None or process.info["uids"].real != os.getuid():
            continue
        arguments = process.info["cmdline"] or []
        name = next((each for each in map(os.path.basename, arguments[:2]) if each.startswith(_PREFIX)), None)
        address = next((each for each in arguments[1:] if each.startswith("127.0.0.1:")), None)
        if name and address:
            yield Orphan(name=name, process=process), address


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=2):
            return True
    except (OSError, ValueError):
        return False
