"""What the load generator counts as answered, failed and cut, against a server that does each."""

from __future__ import annotations

import http.server
import json
import time
from collections.abc import Iterator
from typing import ClassVar

import pytest

from sandbox.cli.traffic import Exchange, Report, Traffic
from tests.unit.sandbox.helpers import running


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    behaviour: ClassVar[str] = "good"
    connections: ClassVar[set[tuple[str, int]]] = set()

    def do_POST(self) -> None:
        self.connections.add(self.client_address)
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.behaviour == "error":
            self._answer(503, b"{}")
        elif self.behaviour == "silent":
            self.close_connection = True
        elif body["stream"]:
            self._stream(body["max_tokens"])
        else:
            reason = "abort" if self.behaviour == "abort" else "length"
            choice = {"message": {"content": "a"}, "finish_reason": reason}
            self._answer(200, json.dumps({"model": "m", "choices": [choice]}).encode())

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) + (5 if self.behaviour == "truncated" else 0)))
        self.send_header("X-Sandbox-Pod", "pod-1")
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = self.behaviour == "truncated"

    def _stream(self, tokens: int) -> None:
        reason = "abort" if self.behaviour == "abort" else "length"
        choices = [{"delta": {"content": "a"}}] * tokens + [{"delta": {}, "finish_reason": reason}]
        text = "".join(f"data: {json.dumps({'model': 'm', 'choices': [each]})}\n\n" for each in choices)
        if self.behaviour != "truncated":
            text += "data: [DONE]\n\n"
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Content-Length", str(len(text)))
        self.send_header("X-Sandbox-Pod", "pod-1")
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    _Handler.connections.clear()
    with running(http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)) as server:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"


def _run(url: str, behaviour: str = "good", *, keep_alive: bool = False) -> Report:
    _Handler.behaviour = behaviour
    traffic = Traffic(url, "m", rate=50, max_tokens=(1, 3), keep_alive=keep_alive, answer_seconds=5)
    traffic.start()
    time.sleep(0.3)
    return traffic.stop()


def test_complete_answers_are_counted_as_answered_by_their_pod(url: str) -> None:
    report = _run(url)
    assert len(report.exchanges) > 5
    assert report.count("answered") == len(report.exchanges)
    assert dict(report.pods) == {"pod-1": len(report.exchanges)}
    assert report.problems == {}


@pytest.mark.parametrize(("behaviour", "problem"), [("error", "HTTP 503"), ("silent", "RemoteDisconnected")])
def test_a_request_without_an_answer_has_failed(url: str, behaviour: str, problem: str) -> None:
    report = _run(url, behaviour)
    assert report.count("failed") == len(report.exchanges) > 5
    assert report.problems == {problem: len(report.exchanges)}
    assert report.longest_gap == float("inf")


def test_a_refused_connection_has_failed() -> None:
    report = _run("http://127.0.0.1:1/v1")
    assert report.count("failed") == len(report.exchanges) > 5
    assert set(report.problems) == {"ConnectionRefusedError"}


@pytest.mark.parametrize("behaviour", ["truncated", "abort"])
def test_an_answer_that_ends_too_early_is_cut(url: str, behaviour: str) -> None:
    report = _run(url, behaviour)
    assert report.count("cut") == len(report.exchanges) > 5


@pytest.mark.parametrize("keep_alive", [True, False])
def test_connections_are_kept_only_when_asked_to(url: str, keep_alive: bool) -> None:
    report = _run(url, keep_alive=keep_alive)
    assert (len(_Handler.connections) < len(report.exchanges)) == keep_alive


def test_the_longest_gap_is_that_between_two_answers() -> None:
    ends = (("answered", 1.0), ("failed", 2.0), ("answered", 4.5), ("answered", 5.0))
    report = Report(
        exchanges=tuple(
            Exchange(sent=0.0, ended=ended, result=result, problem="", pod="")  # type: ignore[arg-type]
            for result, ended in ends
        )
    )
    assert report.longest_gap == 3.5
    assert report.quantile(0.5) == 4.5
