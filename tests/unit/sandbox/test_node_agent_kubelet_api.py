"""The kubelet's HTTPS port, as the API server uses it for `kubectl logs` and `kubectl port-forward`."""

from __future__ import annotations

import http.client
import socket
import ssl
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sandbox.host.certificates import Certificates
from sandbox.node_agent.kubelet_api import KubeletApi
from sandbox.node_agent.port_forward import DICTIONARY
from tests.unit.misbehaving_server import serving

LOG = "/containerLogs/default/vllm-1/vllm-tpu"


class Kubelet:
    """Of a node with one pod whose one container's log is a file; the container ends when `over` is set."""

    def __init__(self, folder: Path, certificates: Certificates) -> None:
        self.path = folder / "1.log"
        self.path.write_text("2026-01-01T12:00:00.000000000Z stdout F one\n2026-01-01T12:00:01.000000000Z stderr F two\n")
        self.over = threading.Event()
        self.asked = 0
        self.ca = certificates.ca
        key, port_file = certificates.server_key, folder / "kubelet-port"
        self.api = KubeletApi(self._find_log, self._find_pod, cert_file=certificates.server, key_file=key, port_file=port_file)

    def _find_log(self, namespace: str, pod: str, container: str, previous: bool) -> tuple[Path, Callable[[], bool]]:
        if (namespace, pod, container) != ("default", "vllm-1", "vllm-tpu") or previous:
            raise LookupError(f"container {container} is not there")
        return self.path, self._ended

    def _find_pod(self, namespace: str, pod: str) -> str:
        if (namespace, pod) != ("default", "vllm-1"):
            raise LookupError(f"pod {namespace}/{pod} does not run on a node of the sandbox")
        return "127.0.0.1"

    def _ended(self) -> bool:
        self.asked += 1
        return self.over.is_set()

    def request(self, path: str, method: str = "GET") -> http.client.HTTPResponse:
        context = ssl.create_default_context(cafile=str(self.ca))
        client = http.client.HTTPSConnection("127.0.0.1", self.api.port, context=context, timeout=10)
        client.request(method, path)
        return client.getresponse()

    def get(self, path: str, method: str = "GET") -> tuple[int, str]:
        response = self.request(path, method)
        # The next request may be for the agent that comes after this one.
        assert response.getheader("Connection") == "close"
        return response.status, response.read().decode()


@pytest.fixture
def kubelet(tmp_path: Path, certificates: Certificates) -> Iterator[Kubelet]:
    result = Kubelet(tmp_path, certificates)
    result.api.start()
    yield result
    result.over.set()
    result.api.stop()


def test_a_log_is_answered_as_asked(kubelet: Kubelet) -> None:
    answers = {
        "": "one\ntwo\n",
        "?tailLines=1&timestamps=true": "2026-01-01T12:00:01.000000000Z two\n",
        "?sinceTime=2026-01-01T12:00:01Z": "two\n",
        "?sinceSeconds=1": "",
        "?follow=false": "one\ntwo\n",
    }
    assert {query: kubelet.get(LOG + query) for query in answers} == {query: (200, text) for query, text in answers.items()}
    assert kubelet.get(LOG + "?tailLines=all")[0] == 400
    # Clients show no message of a 404.
    assert kubelet.get("/containerLogs/default/vllm-1/other") == (400, "container other is not there\n")


def test_a_followed_log_comes_line_by_line_and_ends_with_the_container(kubelet: Kubelet) -> None:
    response = kubelet.request(LOG + "?follow=true&tailLines=1")
    assert response.readline() == b"two\n"
    with kubelet.path.open("a") as file:
        file.write("2026-01-01T12:00:02.000000000Z stdout F three\n")
    assert response.readline() == b"three\n"
    kubelet.over.set()
    assert response.read() == b""


def test_following_ends_when_the_reader_goes_away(kubelet: Kubelet) -> None:
    response = kubelet.request(LOG + "?follow=true")
    response.readline()
    response.close()
    deadline = time.monotonic() + 10
    while True:
        before = kubelet.asked
        time.sleep(0.6)
        if kubelet.asked == before:
            return
        assert time.monotonic() < deadline, "the log is still followed without a client"


@pytest.mark.parametrize("what", ["exec", "attach"])
def test_what_the_sandbox_does_not_do_is_refused_with_a_reason(kubelet: Kubelet, what: str) -> None:
    status, text = kubelet.get(f"/{what}/default/vllm-1/vllm-tpu?command=sh", "POST")
    assert status == 501
    assert f"do not simulate {what}" in text


def test_a_port_of_a_pod_that_is_not_there_and_another_protocol_are_refused(kubelet: Kubelet) -> None:
    assert kubelet.get("/portForward/default/vllm-1", "POST") == (400, "a port is forwarded over SPDY/3.1, not over HTTP\n")
    with _Spdy(kubelet, pod="vllm-2") as client:
        assert b"404 Not Found" in client.answer


def test_connections_to_a_pods_port_are_pairs_of_streams(kubelet: Kubelet) -> None:
    with serving() as server, _Spdy(kubelet) as client:
        assert b"101 Switching Protocols" in client.answer
        for request, number in (("0", 1), ("1", 5)):
            client.open(number, "error", server.server_port, request)
            client.open(number + 2, "data", server.server_port, request)
            client.write(number + 2, b"GET /health HTTP/1.1\r\nHost: pod\r\n\r\n")
        received = client.until_over(1, 3, 5, 7)
    assert received[1] == received[5] == b""
    assert all(received[number].startswith(b"HTTP/1.1 200 OK") for number in (3, 7))


def test_a_port_that_nobody_listens_on_is_an_error_of_its_stream_alone(kubelet: Kubelet) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        unused_port = taken.getsockname()[1]
    with _Spdy(kubelet) as client:
        client.open(1, "error", unused_port, "0")
        client.open(3, "data", unused_port, "0")
        assert client.until_over(1, 3) == {1: f"failed to connect to port {unused_port} of the pod: Connection refused".encode(), 3: b""}
        # A ping is answered all the same.
        client.write(0x80030006, bytes(4))
        assert client.frame()[0] == 0x80030006


class _Spdy:
    """The client's side of a forwarded port."""

    def __init__(self, kubelet: Kubelet, *, pod: str = "vllm-1") -> None:
        context = ssl.create_default_context(cafile=str(kubelet.ca))
        self._socket = context.wrap_socket(socket.create_connection(("127.0.0.1", kubelet.api.port), 10), server_hostname="127.0.0.1")
        head = f"POST /portForward/default/{pod} HTTP/1.1\r\nHost: kubelet\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n"
        self._socket.sendall(head.encode())
        self._file = self._socket.makefile("rb")
        self.answer = b"".join(iter(self._file.readline, b"\r\n"))
        self._deflate = zlib.compressobj(zdict=DICTIONARY)

    def __enter__(self) -> _Spdy:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._socket.close()

    def write(self, first: int, data: bytes) -> None:
        self._socket.sendall(struct.pack(">II", first, len(data)) + data)

    def open(self, number: int, kind: str, port: int, request: str) -> None:
        words = ["streamtype", kind, "port", str(port), "requestid", request]
        text = struct.pack(">I", 3) + b"".join(struct.pack(">I", len(word)) + word.encode() for word in words)
        block = self._deflate.compress(text) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        self.write(0x80030001, struct.pack(">IIH", number, 0, 0) + block)

    def frame(self) -> tuple[int, int, bytes]:
        first, second = struct.unpack(">II", self._file.read(8))
        return first, second >> 24, self._file.read(second & 0xFFFFFF)

    def until_over(self, *numbers: int) -> dict[int, bytes]:
        received = dict.fromkeys(numbers, b"")
        over: set[int] = set()
        while over != set(numbers):
            first, flags, data = self.frame()
            if first in received:
                received[first] += data
                if flags & 1:
                    over.add(first)
            else:
                assert first == 0x80030002, "only replies to new streams come between"
        return received


def test_a_silent_client_does_not_block_others(kubelet: Kubelet) -> None:
    with socket.create_connection(("127.0.0.1", kubelet.api.port)):
        assert kubelet.get("/healthz")[0] == 200


def test_the_port_survives_a_restart_unless_it_was_taken(tmp_path: Path, certificates: Certificates) -> None:
    first = Kubelet(tmp_path, certificates).api
    port = first.port
    first.stop()
    again, beside = (Kubelet(tmp_path, certificates).api for _ in range(2))
    try:
        assert again.port == port
        assert beside.port != port
    finally:
        again.stop()
        beside.stop()
