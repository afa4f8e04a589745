"""A pod's network for Python processes: what a process means by "here" is the pod's own address."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from sandbox.host.addresses import LISTEN_ADDRESSES

PODNET = Path(__file__).resolve().parents[3] / "sandbox" / "node_agent" / "podnet"

POD = "127.88.255.2"


def run(script: str, *, pod: str | None = POD) -> str:
    environment = {"PATH": os.defpath, "PYTHONPATH": str(PODNET), **({"SANDBOX_POD_ADDRESS": pod} if pod else {})}
    result = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_listening_everywhere_is_listening_on_the_pods_address() -> None:
    script = """
import socket
for family, host in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET, ""), (socket.AF_INET, "127.0.0.1")):
    with socket.socket(family) as s:
        s.bind((host, 0))
        print(s.getsockname()[0])
"""
    assert run(script).split() == [POD] * 3


def test_localhost_is_the_pod() -> None:
    script = """
import socket
s = socket.create_server(("0.0.0.0", 0))
port = s.getsockname()[1]
for host in ("127.0.0.1", "localhost"):
    with socket.create_connection((host, port), timeout=5) as c:
        print(c.getpeername()[0])
with socket.socket() as c:
    print(c.connect_ex(("127.0.0.1", port)))
"""
    assert run(script).split() == [POD, POD, "0"]


def test_an_asyncio_server_on_all_addresses_is_reached_by_localhost() -> None:
    script = """
import asyncio
async def main():
    async def answer(reader, writer):
        writer.write(b"hello"); await writer.drain(); writer.close()
    for host in ("0.0.0.0", None):
        server = await asyncio.start_server(answer, host, 0)
        names = [sock.getsockname() for sock in server.sockets]
        print(*(name[0] for name in names))
        # Several sockets, each with a port of its own: take the one for IPv4.
        (port,) = (name[1] for name in names if len(name) == 2)
        reader, writer = await asyncio.open_connection("localhost", port)
        print((await reader.read()).decode()); writer.close(); server.close()
asyncio.run(main())
"""
    words = run(script).split()
    assert words[:2] == [POD, "hello"]
    assert POD in words[2:]
    assert words[-1] == "hello"


def test_a_listener_on_all_ipv6_addresses_is_reached_at_the_pods_address() -> None:
    script = """
import socket
s = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
with socket.create_connection(("127.0.0.1", s.getsockname()[1]), timeout=5) as c:
    print(c.getpeername()[0])
"""
    assert run(script) == POD


def test_unix_sockets_and_other_addresses_are_left_alone() -> None:
    script = """
import socket, tempfile
folder = tempfile.mkdtemp()
with socket.socket(socket.AF_UNIX) as s, socket.socket(socket.AF_UNIX) as c:
    s.bind(folder + "/s"); s.listen(); c.connect(folder + "/s")
with socket.socket() as s:
    s.bind(("127.88.255.9", 0))
    print(s.getsockname()[0])
a, b = socket.socketpair()
a.send(b"x"); print(b.recv(1).decode())
"""
    assert run(script).split() == ["127.88.255.9", "x"]


def test_without_a_pod_nothing_changes_and_nothing_is_loaded() -> None:
    script = "import sys; print('socket' in sys.modules)"
    assert run(script, pod=None) == "False"
    assert run("import socket; s = socket.socket(); s.bind(('127.0.0.1', 0)); print(s.getsockname()[0])", pod=None) == "127.0.0.1"


def test_a_load_balancers_address_is_the_machines_own() -> None:
    script = f"""
import socket
with socket.create_server(("{LISTEN_ADDRESSES[0]}", 0)) as s, socket.create_connection(s.getsockname(), timeout=5) as c:
    print(c.getpeername()[0])
"""
    assert run(script) == LISTEN_ADDRESSES[0]
