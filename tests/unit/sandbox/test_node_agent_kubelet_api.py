"""The kubelet's HTTPS port, as the API server uses it for `kubectl logs`."""

from __future__ import annotations

import http.client
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sandbox.host.certificates import Certificates, make_certificates
from sandbox.node_agent.kubelet_api import FindLog, KubeletApi


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"), names=("localhost",), addresses=("127.0.0.1",))


class Logs:
    """One pod with one container whose log is a file; the container ends when `over` is set."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "1.log"
        self.path.write_text("2026-01-01T12:00:00.000000000Z stdout F one\n2026-01-01T12:00:01.000000000Z stderr F two\n")
        self.over = threading.Event()
        self.asked = 0

    def find_log(self, namespace: str, pod: str, container: str, previous: bool) -> tuple[Path, Callable[[], bool]]:
        if (namespace, pod, container) != ("default", "vllm-1", "vllm-tpu") or previous:
            raise LookupError(f"container {container} is not there")
        return self.path, self._ended

    def _ended(self) -> bool:
        self.asked += 1
        return self.over.is_set()


@pytest.fixture
def logs(tmp_path: Path) -> Logs:
    return Logs(tmp_path)


class Present:
    """The logs of the test that runs, for a server that all tests share: ending one takes half a second."""

    logs: Logs

    def find_log(self, namespace: str, pod: str, container: str, previous: bool) -> tuple[Path, Callable[[], bool]]:
        return self.logs.find_log(namespace, pod, container, previous)


@pytest.fixture(scope="module")
def shared(certificates: Certificates, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[KubeletApi, Present]]:
    present = Present()
    api = make(present.find_log, certificates, tmp_path_factory.mktemp("kubelet"))
    api.start()
    yield api, present
    api.stop()


@pytest.fixture
def api(logs: Logs, shared: tuple[KubeletApi, Present]) -> Iterator[KubeletApi]:
    api, present = shared
    present.logs = logs
    yield api
    logs.over.set()


def make(find_log: FindLog, certificates: Certificates, folder: Path) -> KubeletApi:
    return KubeletApi(find_log, cert_file=certificates.server, key_file=certificates.server_key, port_file=folder / "kubelet-port")


def connection(api: KubeletApi, certificates: Certificates) -> http.client.HTTPSConnection:
    context = ssl.create_default_context(cafile=str(certificates.ca))
    return http.client.HTTPSConnection("127.0.0.1", api.port, context=context, timeout=10)


def get(api: KubeletApi, certificates: Certificates, path: str, method: str = "GET") -> tuple[int, str]:
    client = connection(api, certificates)
    try:
        client.request(method, path)
        response = client.getresponse()
        return response.status, response.read().decode()
    finally:
        client.close()


LOG = "/containerLogs/default/vllm-1/vllm-tpu"


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", "one\ntwo\n"),
        ("?tailLines=1", "two\n"),
        ("?tailLines=1&timestamps=true", "2026-01-01T12:00:01.000000000Z two\n"),
        ("?sinceTime=2026-01-01T12:00:01Z", "two\n"),
        ("?sinceSeconds=1", ""),
        ("?follow=false", "one\ntwo\n"),
    ],
)
def test_a_log_is_answered_as_asked(api: KubeletApi, certificates: Certificates, query: str, expected: str) -> None:
    assert get(api, certificates, LOG + query) == (200, expected)


def test_a_followed_log_comes_line_by_line_and_ends_with_the_container(api: KubeletApi, certificates: Certificates, logs: Logs) -> None:
    client = connection(api, certificates)
    client.request("GET", LOG + "?follow=true&tailLines=1")
    response = client.getresponse()
    assert response.readline() == b"two\n"
    with logs.path.open("a") as file:
        file.write("2026-01-01T12:00:02.000000000Z stdout F three\n")
    assert response.readline() == b"three\n"
    logs.over.set()
    assert response.read() == b""
    client.close()


def test_following_ends_when_the_reader_goes_away(api: KubeletApi, certificates: Certificates, logs: Logs) -> None:
    client = connection(api, certificates)
    client.request("GET", LOG + "?follow=true")
    response = client.getresponse()
    response.readline()
    response.close()
    client.close()
    deadline = time.monotonic() + 10
    while True:
        before = logs.asked
        time.sleep(0.6)
        if logs.asked == before:
            return
        assert time.monotonic() < deadline, "the log is still followed for nobody"


def test_a_log_that_is_not_there_is_a_bad_request_because_clients_show_no_message_of_a_404(
    api: KubeletApi, certificates: Certificates
) -> None:
    status, text = get(api, certificates, "/containerLogs/default/vllm-1/other")
    assert status == 400
    assert "container other is not there" in text


@pytest.mark.parametrize("what", ["exec", "attach", "portForward"])
def test_what_the_sandbox_does_not_do_is_refused_with_a_reason(api: KubeletApi, certificates: Certificates, what: str) -> None:
    status, text = get(api, certificates, f"/{what}/default/vllm-1/vllm-tpu?command=sh", "POST")
    assert status == 501
    assert f"do not simulate {what}" in text


@pytest.mark.parametrize("path", [LOG, "/healthz", "/containerLogs/default/vllm-1/other", "/exec/default/vllm-1/vllm-tpu"])
def test_no_connection_outlives_its_answer(api: KubeletApi, certificates: Certificates, path: str) -> None:
    client = connection(api, certificates)
    client.request("GET", path)
    response = client.getresponse()
    response.read()
    assert response.getheader("Connection") == "close"
    client.close()


def test_the_port_stays_the_same_over_a_restart_unless_somebody_took_it(logs: Logs, certificates: Certificates, tmp_path: Path) -> None:
    first = make(logs.find_log, certificates, tmp_path)
    port = first.port
    first.stop()
    again = make(logs.find_log, certificates, tmp_path)
    beside = make(logs.find_log, certificates, tmp_path)
    try:
        assert again.port == port
        assert beside.port != port
    finally:
        again.stop()
        beside.stop()
