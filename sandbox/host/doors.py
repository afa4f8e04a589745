"""By which address of this machine a gateway is reached: the part of DNS, and of ports below 1024 that a user may not open.

The daemon writes what each Gateway has; clients ask for host and port as their URL says, and are sent there. Left out: other programs,
for which `how_to_reach` has curl's options.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sandbox.host.paths import Paths
from sandbox.host.state_files import read_object, write_object
from sandbox.host.tcp_proxy import Address

_FILE = "doors.json"

#: Certificates that `requests` trusts.
_REQUESTS_VARIABLE = "REQUESTS_CA_BUNDLE"


def write_doors(folder: Path, doors: Mapping[str, Address]) -> None:
    """`HOST:PORT` -> where it is; `folder` is one cluster's."""
    if folder.exists() and doors_of([folder / _FILE]) != doors:
        write_object(folder / _FILE, doors)


def doors_of(files: list[Path]) -> dict[str, Address]:
    return {name: (address, port) for file in files if file.exists() for name, (address, port) in read_object(file).items()}


def doors(paths: Paths) -> dict[str, Address]:
    """Those of all the sandbox's clusters."""
    return doors_of(sorted(paths.state.glob(f"clusters/*/gateway/{_FILE}")))


def use_doors(paths: Paths) -> None:
    """Sends this process's connections to the gateways of the sandbox, and has `requests` trust their certificates."""
    resolve = socket.getaddrinfo

    def resolved(host: Any, port: Any, *rest: Any, **options: Any) -> Any:
        return resolve(*doors(paths).get(f"{host}:{port}", (host, port)), *rest, **options)

    socket.getaddrinfo = resolved
    if paths.trust.exists():
        os.environ[_REQUESTS_VARIABLE] = str(paths.trust)


def how_to_reach(paths: Paths, url: str) -> str:
    """curl's options for a URL of a gateway; empty for one that needs none."""
    parts = urlsplit(url)
    name = f"{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}"
    place = doors(paths).get(name)
    if place is None or "{}:{}".format(*place) == name:
        return ""
    trust = f" --cacert {paths.trust}" if parts.scheme == "https" else ""
    return f"--connect-to {name}:{place[0]}:{place[1]}{trust}"
