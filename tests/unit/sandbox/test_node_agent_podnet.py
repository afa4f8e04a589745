"""A pod's network for Python processes: what a process means by "here" is the pod's own address."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox.host.addresses import LISTEN_ADDRESSES

PODNET = Path(__file__).resolve().parents[3] / "sandbox" / "node_agent" / "podnet"

POD = "127.88.255.2"


def run(script: str, *, pod: str | None = POD) -> str:
    environment = {"PATH": os.defpath, "PYTHONPATH": str(PODNET), **({"SANDBOX_POD_ADDRESS": pod} if pod else {})}
    result = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


#: What a process of a pod does -> the addresses that it sees.
SCRIPTS = {
    "listening everywhere": (
        """
for host in ("0.0.0.0", "", "127.0.0.1"):
    with socket.socket() as s:
        s.bind((host, 0))
        print(s.getsockname()[0])
""",
        [POD] * 3,
    ),
    "localhost": (
        """
s = socket.create_server(("0.0.0.0", 0))
port = s.getsockname()[1]
for host in ("127.0.0.1", "localhost"):
    with socket.create_connection((host, port), timeout=5) as c:
        print(c.getpeername()[0])
with socket.socket() as c:
    print(c.connect_ex(("127.0.0.1", port)))
""",
        [POD, POD, "0"],
    ),
    "all IPv6 addresses": (
        """
s = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
with socket.create_connection(("127.0.0.1", s.getsockname()[1]), timeout=5) as c:
    print(c.getpeername()[0])
""",
        [POD],
    ),
    "other addresses, a load balancer's and Unix sockets": (
        f"""
for host in ("127.88.255.9", "{LISTEN_ADDRESSES[0]}"):
    with socket.create_server((host, 0)) as s, socket.create_connection(s.getsockname(), timeout=5) as c:
        print(c.getpeername()[0])
path = tempfile.mkdtemp() + "/s"
with socket.socket(socket.AF_UNIX) as s, socket.socket(socket.AF_UNIX) as c:
    s.bind(path); s.listen(); c.connect(path)
a, b = socket.socketpair()
a.send(b"x"); print(b.recv(1).decode())
""",
        ["127.88.255.9", LISTEN_ADDRESSES[0], "x"],
    ),
}


@pytest.mark.parametrize(("script", "seen"), SCRIPTS.values(), ids=SCRIPTS)
def test_here_is_the_pod_and_every_other_address_is_itself(script: str, seen: list[str]) -> None:
    assert run(f"import socket, tempfile{script}").split() == seen


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


def test_without_a_pod_nothing_changes_and_nothing_is_loaded() -> None:
    script = "import sys; print('socket' in sys.modules)"
    assert run(script, pod=None) == "False"
    assert run("import socket; s = socket.socket(); s.bind(('127.0.0.1', 0)); print(s.getsockname()[0])", pod=None) == "127.0.0.1"
