"""The API server's way to pods: CONNECT to a pod's address reaches the loopback address behind it."""

import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from sandbox.host.egress import EgressProxy
from tests.unit.sandbox.test_load_balancer import Backend


@pytest.fixture
def proxy() -> Iterator[EgressProxy]:
    proxy = EgressProxy()
    proxy.start()
    yield proxy
    proxy.stop()


def connect(proxy: EgressProxy, target: str) -> tuple[socket.socket, bytes]:
    """The connection after the proxy's answer, and the answer's first line."""
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.settimeout(5)
    client.connect(proxy.name.replace("@", "\0", 1))
    client.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += client.recv(1)
    return client, answer.split(b"\r\n")[0]


@pytest.mark.parametrize(("real", "known"), [("127.88.250.9", "10.88.250.9"), ("127.0.0.1", "localhost")])
def test_a_pods_address_is_its_loopback_address_and_others_are_themselves(proxy: EgressProxy, real: str, known: str) -> None:
    with closing(Backend("", real)) as server:
        client, answer = connect(proxy, f"{known}:{server.address[1]}")
        with client:
            assert b" 200 " in answer
            client.sendall(b"a" * 200_000)
            client.shutdown(socket.SHUT_WR)
            heard = b""
            while data := client.recv(65536):
                heard += data
    assert heard == b"a" * 200_000


@pytest.mark.parametrize("target", ["127.88.250.9:1", "10.88.250.9:nothing"])
def test_an_unreachable_service_is_reported_and_not_awaited(proxy: EgressProxy, target: str) -> None:
    client, answer = connect(proxy, target)
    client.close()
    assert b" 502 " in answer
