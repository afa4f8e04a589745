"""A pod's "network namespace" for Python processes, where there is none: Python imports this file when it starts.

The pod's processes share the machine's network with everything else, so each pod has a loopback address of its own,
SANDBOX_POD_ADDRESS (127.88.a.b). Wherever a process means "here" (listening on 0.0.0.0, ::, localhost; connecting to
localhost), that address is taken; addresses of other pods (10.88.a.b) become their loopback counterparts.

It also gives the names of shared memory the prefix SANDBOX_SHARED_MEMORY, where that is set: there is no IPC namespace
either, which would end with the pod.

Left out: programs that are not Python, and libraries that open sockets without Python's `socket` (uvloop when it is
given a host name and not a socket; NCCL and gloo), which see the machine's own loopback; IPv6 between pods.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import socket

_HERE = frozenset({"", "0.0.0.0", "127.0.0.1", "localhost", "::", "::1"})  # noqa: S104 - what is replaced
_POD_NETWORK = "10.88."


def _install(own: str) -> None:
    # Not at the top: every Python program of a machine may find this file, and most need no sockets.
    import socket

    def rewritten(sock: socket.socket, address: Any) -> Any:
        if sock.family not in (socket.AF_INET, socket.AF_INET6) or not isinstance(address, tuple) or len(address) < 2:
            return address
        host = address[0]
        if isinstance(host, (bytes, bytearray)):
            host = host.decode("ascii", "replace")
        if host is None or host in _HERE:
            host = own
        elif isinstance(host, str) and host.startswith(_POD_NETWORK):
            host = "127." + host.split(".", 1)[1]
        else:
            return address
        if sock.family == socket.AF_INET:
            return (host, *address[1:])
        if sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY):
            # A listener for IPv6 alone, as asyncio makes beside one for IPv4: pods have no IPv6 address to reach it by.
            return ("::1", 0, *address[2:])
        return (f"::ffff:{host}", *address[1:])

    base: Any = socket.socket.__mro__[1]
    plain_bind, plain_connect, plain_connect_ex = base.bind, base.connect, base.connect_ex

    def bind(self: socket.socket, address: Any, /) -> None:
        plain_bind(self, rewritten(self, address))

    def connect(self: socket.socket, address: Any, /) -> None:
        plain_connect(self, rewritten(self, address))

    def connect_ex(self: socket.socket, address: Any, /) -> int:
        return int(plain_connect_ex(self, rewritten(self, address)))

    socket.socket.bind = bind  # type: ignore[method-assign, assignment]
    socket.socket.connect = connect  # type: ignore[method-assign, assignment]
    socket.socket.connect_ex = connect_ex  # type: ignore[method-assign, assignment]


def _name_shared_memory(prefix: str) -> None:
    """So that what a killed process leaves in /dev/shm can be told from everybody else's."""
    from multiprocessing import process, shared_memory

    names: Any = shared_memory
    names._SHM_NAME_PREFIX = f"/{prefix}-"
    names._SHM_SAFE_NAME_LENGTH = len(prefix) + 18
    current: Any = process.current_process()
    # Children inherit it.
    current._config["semprefix"] = f"/{prefix}"


if _own := os.environ.get("SANDBOX_POD_ADDRESS"):
    _install(_own)

if _prefix := os.environ.get("SANDBOX_SHARED_MEMORY"):
    _name_shared_memory(_prefix)
