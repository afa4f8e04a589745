"""Probes: one attempt, thresholds, and the order of attempts and decisions."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from sandbox.node_agent.probes import Counter, ProbeError, ProbeFailure, Prober, ProbeTarget, _Ticker, port_number

Object = dict[str, Any]

#: A pod address of the tests' own; its loopback counterpart is 127.88.255.1.
POD = "10.88.255.1"
LOOPBACK = "127.88.255.1"

CONTAINER: Object = {"name": "main", "ports": [{"name": "http", "containerPort": 8000}]}


class Recording(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server: Any = self.server
        server.requests.append((self.path, dict(self.headers)))
        if self.path == "/slow":
            time.sleep(0.5)
        status = {"/health": 200, "/redirect": 302, "/away": 302, "/no": 503, "/slow": 200}.get(self.path, 404)
        self.send_response(status)
        if self.path == "/redirect":
            self.send_header("Location", "/no")
        if self.path == "/away":
            self.send_header("Location", "http://elsewhere.invalid/")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def served() -> Iterator[tuple[int, list[tuple[str, dict[str, str]]]]]:
    server: Any = ThreadingHTTPServer((LOOPBACK, 0), Recording)
    server.requests = []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_address[1], server.requests
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def never(argv: list[str], timeout: float) -> tuple[int, str]:
    raise AssertionError("this probe runs no command")


def target(execute: Any = never) -> ProbeTarget:
    return ProbeTarget(POD, CONTAINER, execute)


def failure_of(probe: Object, execute: Any = never) -> str:
    with pytest.raises(ProbeFailure) as caught:
        target(execute).attempt(probe)
    return str(caught.value)


def test_an_http_probe_asks_the_pods_loopback_address_as_the_kubelet_does() -> None:
    with served() as (port, requests):
        headers = [{"name": "X-Probe", "value": "1"}]
        target().attempt({"httpGet": {"port": port, "path": "/health", "httpHeaders": headers}})
    ((path, sent),) = requests
    assert path == "/health"
    assert sent["X-Probe"] == "1"
    assert sent["User-Agent"].startswith("kube-probe/")


def test_an_http_probe_fails_on_an_error_status_and_on_silence() -> None:
    with served() as (port, _):
        assert failure_of({"httpGet": {"port": port, "path": "/no"}}) == "HTTP probe failed with statuscode: 503"
        slow = failure_of({"httpGet": {"port": port, "path": "/slow"}, "timeoutSeconds": 0.05})
    assert slow == f'Get "http://{POD}:{port}/slow": context deadline exceeded'


def test_a_redirect_within_the_pod_is_followed_and_one_to_elsewhere_is_a_success() -> None:
    with served() as (port, requests):
        assert failure_of({"httpGet": {"port": port, "path": "/redirect"}}) == "HTTP probe failed with statuscode: 503"
        target().attempt({"httpGet": {"port": port, "path": "/away"}})
    assert [path for path, _ in requests] == ["/redirect", "/no", "/away"]


def test_a_refused_connection_is_told_with_the_address_that_the_api_shows() -> None:
    port = closed_port()
    http = failure_of({"httpGet": {"port": port, "path": "/health"}})
    tcp = failure_of({"tcpSocket": {"port": port}})
    assert http == f'Get "http://{POD}:{port}/health": connect: connection refused'
    assert tcp == f"dial tcp {POD}:{port}: connect: connection refused"


def test_a_tcp_probe_succeeds_where_somebody_listens() -> None:
    with socket.create_server((LOOPBACK, 0)) as listener:
        target().attempt({"tcpSocket": {"port": listener.getsockname()[1]}})


def test_an_exec_probe_gives_the_command_its_timeout_and_fails_with_its_output() -> None:
    calls: list[tuple[list[str], float]] = []

    def execute(argv: list[str], timeout: float) -> tuple[int, str]:
        calls.append((argv, timeout))
        return len(calls) - 1, "not ready: waiting for a device\n"

    probe = {"exec": {"command": ["fungibility-health", "ready"]}, "timeoutSeconds": 7}
    target(execute).attempt(probe)
    assert failure_of(probe, execute) == "not ready: waiting for a device"
    assert calls == [(["fungibility-health", "ready"], 7.0)] * 2


def test_a_command_that_cannot_be_run_is_neither_success_nor_failure() -> None:
    def execute(argv: list[str], timeout: float) -> tuple[int, str]:
        raise FileNotFoundError(2, "No such file or directory", argv[0])

    with pytest.raises(ProbeError, match="no-such-program"):
        target(execute).attempt({"exec": {"command": ["no-such-program"]}})


def test_a_command_that_takes_too_long_is_a_failure() -> None:
    def execute(argv: list[str], timeout: float) -> tuple[int, str]:
        raise TimeoutError(f"command timed out after {timeout:g}s")

    assert "timed out" in failure_of({"exec": {"command": ["sleep"]}}, execute)


@pytest.mark.parametrize(("port", "expected"), [(80, 80), ("http", 8000), ("81", 81)])
def test_a_port_may_be_a_number_or_the_name_of_one_of_the_containers(port: int | str, expected: int) -> None:
    assert port_number(port, CONTAINER) == expected


def test_an_unknown_port_name_is_told() -> None:
    with pytest.raises(ProbeError, match="metrics"):
        port_number("metrics", CONTAINER)


def test_a_decision_needs_as_many_results_in_a_row_as_its_threshold() -> None:
    counter = Counter(healthy=False, success_threshold=2, failure_threshold=3)
    results = [True, False, True, True, False, False, True, False, False, False]
    assert [counter.add(each) for each in results] == [None, None, None, True, None, None, None, None, None, False]


class Watched:
    """A prober of a command whose results are given (None: it cannot be run), and what it reports."""

    def __init__(self, kind: Any, results: list[bool | None], elapsed: float = 1000.0, speed: float = 1.0, **probe: Any) -> None:
        self.attempts: list[float] = []
        self.decisions: list[bool] = []
        self.failures: list[str] = []
        self._results = results
        self._enough = threading.Event()
        self.prober = Prober(
            kind,
            {"exec": {"command": ["x"]}, "periodSeconds": 0.005, **probe},
            target(self._execute),
            elapsed=elapsed,
            speed=speed,
            on_result=lambda _kind, healthy: self.decisions.append(healthy),
            on_failure=self.failures.append,
        )

    def _execute(self, argv: list[str], timeout: float) -> tuple[int, str]:
        number = len(self.attempts)
        self.attempts.append(time.monotonic())
        if number >= len(self._results):
            self._enough.set()
        result = self._results[min(number, len(self._results) - 1)]
        if result is None:
            raise FileNotFoundError(2, "No such file or directory", argv[0])
        return (0 if result else 1), f"attempt {number}"

    def finish(self) -> None:
        """Returns when all results were taken, or nothing has been asked for a while."""
        self._enough.wait(0.3)
        self.prober.stop()
        time.sleep(0.02)


def test_readiness_is_told_when_it_changes_and_every_failure_is_told() -> None:
    watched = Watched("Readiness", [False, True, True, False, True], failureThreshold=1)
    watched.finish()
    assert watched.decisions == [False, True, False, True]
    assert watched.failures == ["Readiness probe failed: attempt 0", "Readiness probe failed: attempt 3"]


def test_the_way_to_the_first_readiness_is_on_the_sandboxs_clock_and_what_follows_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sandbox.node_agent.probes._LEAST_PERIOD_SECONDS", 0.001)
    watched = Watched("Readiness", [False, False, True, True], periodSeconds=0.4, speed=40)
    watched.finish()
    # Two short waits after failures and one after the success; the next attempt is a whole period away.
    assert len(watched.attempts) == 4
    watched = Watched("Liveness", [True, True], periodSeconds=0.4, speed=40)
    watched.finish()
    assert len(watched.attempts) == 1


def test_a_startup_probe_ends_with_its_first_success() -> None:
    watched = Watched("Startup", [False, True], failureThreshold=5)
    watched.finish()
    assert watched.decisions == [True]
    assert len(watched.attempts) == 2


def test_a_startup_probe_gives_up_after_its_threshold() -> None:
    watched = Watched("Startup", [False, False, False], failureThreshold=3)
    watched.finish()
    assert watched.decisions == [False]
    assert watched.failures == [f"Startup probe failed: attempt {number}" for number in range(3)]
    assert len(watched.attempts) == 3


def test_a_liveness_probe_ends_with_the_container_it_condemns() -> None:
    watched = Watched("Liveness", [True, False, False], failureThreshold=2)
    watched.finish()
    assert watched.decisions[-1] is False
    assert len(watched.attempts) == 3


def test_attempts_that_cannot_be_made_are_told_and_not_counted() -> None:
    watched = Watched("Liveness", [False, None, None, None, False], failureThreshold=2)
    watched.finish()
    assert watched.decisions == [False]
    assert len(watched.attempts) == 5
    assert watched.failures[1].startswith("Liveness probe errored and resulted in unknown state: x: ")


def test_the_first_attempt_waits_for_what_is_left_of_the_initial_delay() -> None:
    began = time.monotonic()
    watched = Watched("Readiness", [True], elapsed=9.9, initialDelaySeconds=10)
    watched.finish()
    assert 0.08 < watched.attempts[0] - began < 0.25


def test_a_stopped_prober_asks_no_more() -> None:
    watched = Watched("Readiness", [True], periodSeconds=0.05)
    time.sleep(0.02)
    watched.prober.stop()
    asked = len(watched.attempts)
    time.sleep(0.15)
    assert len(watched.attempts) == asked <= 1


def test_the_next_attempt_is_due_a_period_after_the_last_began_however_long_that_took(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr("sandbox.node_agent.probes.time.monotonic", lambda: now)
    ticker = _Ticker()
    ticker.tick(10.0)
    now = 107.0
    assert ticker.left == 3.0
    now = 110.0
    ticker.tick(10.0)
    # One that takes longer than a period is followed at once; what else was missed is dropped, and the beat stays.
    now = 135.0
    assert ticker.left == 0.0
    ticker.tick(10.0)
    assert ticker.left == 5.0
