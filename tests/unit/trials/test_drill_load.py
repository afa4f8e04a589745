"""What the drill `load` makes of requests, and of how many of them an event has to cost."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from sandbox.cli.traffic import Exchange, Report
from trials.drills import load
from trials.drills.events import RATE, Load
from trials.results import Options


def exchange(sent: float, ended: float, result: str = "answered", tokens: int = 16) -> Exchange:
    problem = "" if result == "answered" else "RemoteDisconnected"
    return Exchange(sent=sent, ended=ended, result=result, problem=problem, pod="", tokens=tokens)  # type: ignore[arg-type]


def traffic(*exchanges: Exchange, happened: float = 10.0) -> Load:
    found = Load(happened=happened)
    found.over(Report(exchanges=exchanges))
    return found


def test_a_planned_event_may_lose_nothing() -> None:
    result = load._planned("drain", traffic(exchange(1, 2), exchange(2, 3, "failed"), exchange(3, 4, "cut")), "moved")
    assert (result.tried, result.survived, result.failed, result.cut, result.bound) == (3, 1, 1, 1, 0)
    assert result.bad
    assert result.recovery == "moved (2 RemoteDisconnected)"


def test_an_unannounced_event_may_cost_the_replicas_requests_until_it_is_noticed() -> None:
    lost = [exchange(9, 30, "cut"), exchange(12, 13, "failed"), exchange(13, 14, "failed")]
    result = load._unannounced("hang", traffic(*lost, exchange(8, 12), exchange(9, 11)), 15, replicas=2, recovery="restarted")
    assert result.lost == 3
    assert result.bound == 1 + 15 * RATE / 2 + 1
    assert not result.bad
    assert "1 were under way on it, 2 came to it in the 15 s" in result.recovery


@pytest.mark.parametrize(("server", "events"), [("stand-in", load._EVENTS), ("vllm", load._PLANNED)])
def test_real_vllm_gets_the_planned_events_alone_and_more_time(
    monkeypatch: pytest.MonkeyPatch, server: str, events: tuple[tuple[str, load.Event], ...]
) -> None:
    ran: list[str] = []
    sandbox = SimpleNamespace(command=lambda *arguments: ran.append(" ".join(arguments)))
    monkeypatch.setattr(load, "fresh_sandbox", lambda _: nullcontext(sandbox))

    def scale(service: load._Service, name: str) -> list[str]:
        service.scale(2)
        ran.append(name)
        return []

    for table in ("_EVENTS", "_PLANNED"):
        monkeypatch.setattr(load, table, [(name, scale) for name, _ in getattr(load, table)])
    assert list(load.run(Options(server=server))) == []
    assert ran[0] == f"up --server {server}" + (" --prepare" if server == "vllm" else "")
    assert ran[2::2] == [name for name, _ in events]
    assert set(ran[1::2]) == {f"scale 2 --timeout {720 if server == 'vllm' else 180}"}
