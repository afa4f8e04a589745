"""Probes: one attempt, thresholds, and the order of attempts and decisions."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from sandbox.node_agent.probes import ProbeError, ProbeFailure, Prober, ProbeTarget, port_number
from tests.unit.sandbox.helpers import running

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
        self.send_response({"/health": 200, "/away": 302, "/no": 503, "/slow": 200}[self.path])
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def served() -> Iterator[tuple[int, list[tuple[str, dict[str, str]]]]]:
    server: Any = ThreadingHTTPServer((LOOPBACK, 0), Recording)
    server.requests = []
    with running(server):
        yield server.server_address[1], server.requests


def never(argv: list[str], timeout: float) -> tuple[int, str]:
    raise AssertionError("this probe runs no command")


def target(execute: Any = never) -> ProbeTarget:
    return ProbeTarget(POD, CONTAINER, execute)


def failure_of(probe: Object, execute: Any = never) -> str:
    with pytest.raises(ProbeFailure) as caught:
        target(execute).attempt(probe)
    return str(caught.value)


def test_an_http_probe_asks_the_pods_loopback_address_and_takes_200_to_399_as_success() -> None:
    with served() as (port, requests):
        for path in ("/health", "/away"):
            target().attempt({"httpGet": {"port": port, "path": path}})
        assert failure_of({"httpGet": {"port": port, "path": "/no"}}) == "HTTP probe failed with statuscode: 503"
        slow = failure_of({"httpGet": {"port": port, "path": "/slow"}, "timeoutSeconds": 0.05})
    assert slow == f'Get "http://{POD}:{port}/slow": context deadline exceeded'
    assert requests[0][1]["User-Agent"].startswith("kube-probe/")
    refused = failure_of({"httpGet": {"port": port, "path": "/health"}})
    assert refused == f'Get "http://{POD}:{port}/health": connect: connection refused'


def test_a_probe_that_the_sandbox_does_not_make_fails_and_says_so() -> None:
    assert failure_of({"tcpSocket": {"port": 80}}) == "the sandbox makes exec and httpGet probes, and no others"


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


def test_a_port_may_be_a_number_or_the_name_of_one_of_the_containers() -> None:
    assert [port_number(port, CONTAINER) for port in (80, "http", "81")] == [80, 8000, 81]
    with pytest.raises(ProbeError, match="metrics"):
        port_number("metrics", CONTAINER)


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


def test_readiness_is_reported_when_it_changes_and_every_failure_is_reported() -> None:
    watched = Watched("Readiness", [False, True, True, False, True], failureThreshold=1)
    watched.finish()
    assert watched.decisions == [False, True, False, True]
    assert watched.failures == ["Readiness probe failed: attempt 0", "Readiness probe failed: attempt 3"]


def test_the_way_to_the_first_readiness_is_on_the_sandboxs_clock_and_what_follows_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandbox.node_agent.probes._LEAST_PERIOD_SECONDS", 0.001)
    watched = Watched("Readiness", [False, False, True, True], periodSeconds=0.4, speed=40)
    watched.finish()
    # Two short waits after failures and one after the success; the next attempt is a whole period away.
    assert len(watched.attempts) == 4
    watched = Watched("Liveness", [True, True], periodSeconds=0.4, speed=40)
    watched.finish()
    assert len(watched.attempts) == 1


@pytest.mark.parametrize(
    ("kind", "results", "threshold", "decisions"),
    [
        ("Startup", [False, True], 5, [True]),
        ("Startup", [False, False, False], 3, [False]),
        ("Liveness", [True, False, False], 2, [True, False]),
    ],
)
def test_startup_and_liveness_probes_end_with_what_they_decide(
    kind: str, results: list[bool | None], threshold: int, decisions: list[bool]
) -> None:
    watched = Watched(kind, results, failureThreshold=threshold)
    watched.finish()
    assert watched.decisions == decisions
    assert len(watched.attempts) == len(results)


def test_impossible_attempts_are_reported_and_not_counted() -> None:
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
