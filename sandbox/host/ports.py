"""TCP ports of this machine: which are free to be listened on, and which process has one that is not.

Chosen below the kernel's range for outgoing connections where that leaves room: a port from within it can be taken by any program's
connection between the moment of choice and that of use, and again whenever a cluster is started anew.
"""

import contextlib
import random
import socket
from pathlib import Path

import psutil

_LOOPBACK = "127.0.0.1"

#: Below are the ports of well-known services.
_LOWEST = 10_000
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_ports(count: int, host: str = _LOOPBACK) -> list[int]:
    """Ports that were free a moment ago: held together while asked for, so that no two are the same."""
    sockets: list[socket.socket] = []
    candidates = _candidates()
    try:
        while len(sockets) < count:
            each = socket.socket()
            sockets.append(each)
            try:
                each.bind((host, candidates.pop() if candidates else 0))
            except OSError:
                sockets.pop().close()
                if not candidates:
                    raise
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def is_free(port: int, host: str = _LOOPBACK) -> bool:
    """Whether one may listen on it; one that was closed a moment ago counts as free, as servers take it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen()
        except OSError:
            return False
    return True


def listener(port: int) -> tuple[int, str] | None:
    """Pid and name of a process that listens on a port, as far as this user may see; None where that cannot be told."""
    for connection in psutil.net_connections("tcp"):
        if connection.status == psutil.CONN_LISTEN and connection.laddr[1:] == (port,) and connection.pid:
            with contextlib.suppress(psutil.Error):
                return connection.pid, psutil.Process(connection.pid).name()
    return None


def taken_by(port: int) -> str:
    """`by NAME (pid PID)` for a message."""
    found = listener(port)
    return "by another program" if found is None else f"by {found[1]} (pid {found[0]})"


def _candidates() -> list[int]:
    """Some ports to try, in random order; empty where the kernel leaves no room."""
    try:
        lowest_ephemeral = int(_EPHEMERAL.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return []
    below = range(_LOWEST, lowest_ephemeral)
    return random.sample(below, 100) if len(below) > 1000 else []
