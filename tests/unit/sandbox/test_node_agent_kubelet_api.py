"""The kubelet's HTTPS port, as the API server uses it for `kubectl logs`."""

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sandbox.host.certificates import Certificates
from sandbox.node_agent.kubelet_api import KubeletApi

LOG = "/containerLogs/default/vllm-1/vllm-tpu"


class Kubelet:
    """Of a node with one pod whose one container's log is a file; the container ends when `over` is set."""

    def __init__(self, folder: Path, certificates: Certificates) -> None:
        self.path = folder / "1.log"
        self.path.write_text("2026-01-01T12:00:00.000000000Z stdout F one\n2026-01-01T12:00:01.000000000Z stderr F two\n")
        self.over = threading.Event()
        self.asked = 0
        self._ca = certificates.ca
        self.api = KubeletApi(
            self._find_log, cert_file=certificates.server, key_file=certificates.server_key, port_file=folder / "kubelet-port"
        )

    def _find_log(self, namespace: str, pod: str, container: str, previous: bool) -> tuple[Path, Callable[[], bool]]:
        if (namespace, pod, container) != ("default", "vllm-1", "vllm-tpu") or previous:
            raise LookupError(f"container {container} is not there")
        return self.path, self._ended

    def _ended(self) -> bool:
        self.asked += 1
        return self.over.is_set()

    def request(self, path: str, method: str = "GET") -> http.client.HTTPResponse:
        context = ssl.create_default_context(cafile=str(self._ca))
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
