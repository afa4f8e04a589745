"""What the load generator counts as answered, failed and cut, against a server that does each."""

import itertools
import json
import time
from typing import Any

import pytest

from sandbox.cli import traffic as traffic_module
from sandbox.cli.traffic import Exchange, Report, Traffic
from tests.unit.misbehaving_server import MODEL, Handler, Reply, breaks_off, chat, closes, cut_short, says, serving, stream_events, streams


def _send(url: str, retries: int = 0) -> Report:
    traffic = Traffic(url, MODEL, rate=50, max_tokens=(1, 3), answer_seconds=5, retries=retries)
    traffic.start()
    time.sleep(0.3)
    return traffic.stop()


def test_complete_answers_are_counted_as_answered_by_their_pod() -> None:
    with serving(chat=says(chat(), X_Sandbox_Pod="pod-1")) as server:
        report = _send(server.url)
    assert report.count("answered") == len(report.exchanges) > 5
    assert report.problems == {}
    # Every other request is a stream, which this server sends without the header.
    assert report.pods["pod-1"] >= len(report.exchanges) // 2


@pytest.mark.parametrize(("reply", "problem"), [(says({}, 503), "HTTP 503"), (closes, "RemoteDisconnected")])
def test_a_request_without_an_answer_has_failed(reply: Reply, problem: str) -> None:
    with serving(chat=reply, stream=reply) as server:
        report = _send(server.url)
    assert report.count("failed") == len(report.exchanges) > 5
    assert report.problems == {problem: len(report.exchanges)}
    assert report.longest_gap == float("inf")


def test_a_client_that_retries_asks_again_but_for_a_stream_that_has_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traffic_module, "_FIRST_RETRY_SECONDS", 0.01)
    asked = itertools.count()

    def busy_at_first(handler: Handler) -> None:
        (says({}, 503) if next(asked) < 3 else says(chat()))(handler)

    with serving(chat=busy_at_first, stream=breaks_off(*stream_events()[:2])) as server:
        report = _send(server.url, retries=3)
    assert {each.result for each in report.exchanges if not each.stream} == {"answered"}
    assert {each.result for each in report.exchanges if each.stream} == {"cut"}


def test_a_refused_connection_has_failed() -> None:
    report = _send("http://127.0.0.1:1/v1")
    assert report.count("failed") == len(report.exchanges) > 5
    assert set(report.problems) == {"ConnectionRefusedError"}


def _aborted(answer: Any) -> Any:
    return json.loads(json.dumps(answer).replace('"stop"', '"abort"'))


@pytest.mark.parametrize(
    ("whole", "streamed"),
    [
        (cut_short(json.dumps(chat()).encode()), breaks_off(*stream_events()[:2])),
        (says(_aborted(chat())), streams(*_aborted(stream_events()))),
    ],
    ids=["broken off", "aborted"],
)
def test_an_answer_that_ends_too_early_is_cut(whole: Reply, streamed: Reply) -> None:
    with serving(chat=whole, stream=streamed) as server:
        report = _send(server.url)
    assert report.count("cut") == len(report.exchanges) > 5


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
