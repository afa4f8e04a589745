"""The drill `load`: requests go on while the service is updated, moved, scaled, preempted, and while its servers hang and crash.

What is planned may lose nothing, nor may a Spot machine's end with notice lose a request of under 15 s. What comes unannounced costs
what is under way on the replica that it hits, and what is still sent there until the failure is noticed: `bound` is that number, of the
requests' rate and the probes' own times. Left out: several events at once, and faults of a whole zone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from components.serving.probes import container_probes, seconds_to_notice
from sandbox.cli.client import CommandFailed, Sandbox, fresh_sandbox
from sandbox.cli.traffic import Report
from sandbox.google.latencies import POD_SECONDS, SILENT_SECONDS
from trials.drills import events
from trials.drills.events import RATE, Load, load
from trials.drills.results import Options, Result

#: The stand-in's, of one token.
_TOKEN_SECONDS = 0.02

#: Answers of 0.3 to 13.8 s, so that long ones are under way whatever happens. So many of them that each length is streamed and not, and
#: comes to each of two or three replicas in turn.
_TOKENS = (16, 64, 200, 16, 64, 690, 200)

#: With one of 30 s, which a Spot machine's end does not wait for.
_TOKENS_WITH_LONG = (*_TOKENS, 1500, 16, 64, 690)

#: For how long requests go on before: long enough for some of all lengths on each replica.
_BEFORE_SECONDS = 14.0

#: What the health command gives a server, and an engine that stands still for one token (images/fungibility-health).
_HEALTH_SECONDS = 5.0
_TOKEN_OF_HEALTH_SECONDS = 3.0

_PROBES = container_probes(startup_seconds=1200)

#: From a hang on; the first look at an engine that hangs still sees what it did before.
_HANG_SEEN_SECONDS = seconds_to_notice(_PROBES["readiness_probe"], answer_seconds=_HEALTH_SECONDS)
_ENGINE_HANG_SEEN_SECONDS = _PROBES["readiness_probe"]["period_seconds"] + seconds_to_notice(
    _PROBES["readiness_probe"], answer_seconds=_TOKEN_OF_HEALTH_SECONDS
)

#: Until a hung server has been restarted; what it holds is let go then.
_RESTART_SECONDS = 90.0

#: From a container's or a machine's end until endpoints and load balancer have heard of it.
_HEARD_SECONDS = 2.0

#: Between two looks of the controller manager at the nodes (kube-controller-manager's --node-monitor-period).
_MONITOR_SECONDS = 5.0

#: The settings of the drill over those of dev: the program's own default, with which nothing moves the only replica.
_SETTINGS: dict[str, Any] = {"keepLastReplica": True, "replicas": 2}


def run(options: Options) -> Iterator[Result]:
    with fresh_sandbox("drill-load") as sandbox:
        sandbox.command("up")
        service = _Service(sandbox)
        for name, event in options.sample(_EVENTS):
            try:
                yield from event(service, name)
            except CommandFailed as error:
                service.deployed = None
                yield Result(event=name, tried=1, survived=0, recovery=f"the event did not come to its end: {error}")


@dataclass
class _Service:
    """The stack's service between events."""

    sandbox: Sandbox
    #: The settings that it has; None when that is not known.
    deployed: dict[str, Any] | None = None

    def deploy(self, **changes: Any) -> None:
        """An update with the drill's settings and changes to them."""
        self.deployed = None
        events.deploy(self.sandbox, **{**_SETTINGS, **changes})
        self.deployed = {**_SETTINGS, **changes}

    def settle(self, count: int, **changes: Any) -> None:
        """So many replicas, all of them where they belong; an update comes before only where the settings are others."""
        if self.deployed != {**_SETTINGS, **changes}:
            self.deploy(**changes)
        self.sandbox.command("scale", str(count))

    def without_the_tpu_pool(self) -> dict[str, Any]:
        return {"acceleratorPools": events.pools(self.sandbox, enabled=False)}

    def wait_for(self, count: int) -> None:
        events.wait_until(lambda: len(events.serving(self.sandbox)) == count, 90, f"{count} ready replicas")


# --- planned


def _rolling_update(service: _Service, name: str, *, keep_alive: bool) -> Iterator[Result]:
    service.settle(2)
    with load(service.sandbox, tokens=_TOKENS, keep_alive=keep_alive, calm_seconds=_BEFORE_SECONDS) as traffic:
        service.deploy(maxModelLen=4096)
    yield _planned(name, traffic, "each new pod served before an old one left")


def _drain(service: _Service, name: str) -> Iterator[Result]:
    service.settle(2)
    node = min(events.serving(service.sandbox))
    with load(service.sandbox, tokens=_TOKENS, calm_seconds=_BEFORE_SECONDS) as traffic:
        events.drain(service.sandbox, node)
    service.sandbox.kubectl("uncordon", node)
    yield _planned(name, traffic, "its replica finished what was under way, and came up on another node")


def _scale(service: _Service, name: str) -> Iterator[Result]:
    service.settle(1, replicas=1)
    with load(service.sandbox, tokens=_TOKENS, calm_seconds=_BEFORE_SECONDS) as traffic:
        service.sandbox.command("scale", "3")
        service.sandbox.command("scale", "1")
    yield _planned(name, traffic, "replicas came on the best pools that had room, and left after their last answer")


def _pool_out_of_service(service: _Service, name: str) -> Iterator[Result]:
    service.settle(2)
    with load(service.sandbox, tokens=_TOKENS, calm_seconds=_BEFORE_SECONDS) as traffic:
        service.deploy(**service.without_the_tpu_pool())
        _wait_for_pools(service, lambda pool: pool != "v6e-1", "both replicas on other pools")
    yield _planned(name, traffic, "one setting (`enabled: false`), and replicas on the next pools before the TPUs' left")


def _migration(service: _Service, name: str) -> Iterator[Result]:
    service.settle(2, **service.without_the_tpu_pool())
    with load(service.sandbox, tokens=_TOKENS, calm_seconds=_BEFORE_SECONDS) as traffic:
        service.deploy()
        _wait_for_pools(service, lambda pool: pool == "v6e-1", "both replicas back on the TPUs")
    yield _planned(name, traffic, "the TPU pool came back, and replicas moved up to it one at a time")


def _wait_for_pools(service: _Service, wanted: Callable[[str], bool], what: str) -> None:
    def there() -> bool:
        pools = list(events.serving(service.sandbox).values())
        return len(pools) == 2 and all(map(wanted, pools))

    events.wait_until(there, 120, what)


def _update_that_crashes(service: _Service, name: str) -> Iterator[Result]:
    service.settle(2)
    wrong = ["--no-such-flag"]
    patience = {"serverStartupSeconds": 20, "rolloutTimeoutSeconds": 30}
    with load(service.sandbox, tokens=_TOKENS, calm_seconds=_BEFORE_SECONDS) as traffic:
        said = events.deploy(
            service.sandbox, check=False, **{**_SETTINGS, **patience, "tpuServerArguments": wrong, "gpuServerArguments": wrong}
        )
        service.deploy()
    named = "failed and named the container" if "CrashLoopBackOff" in said else "failed"
    yield _planned(name, traffic, f"the update {named}; the old pods served on, and the next update, corrected, went through")


# --- unannounced


def _preemption(service: _Service, name: str) -> Iterator[Result]:
    service.settle(3)
    with load(service.sandbox, tokens=_TOKENS_WITH_LONG, calm_seconds=_BEFORE_SECONDS) as traffic:
        events.preempt(service.sandbox, "l4-spot", told=traffic.happens)
    short = traffic.report.only(lambda each: each.tokens * _TOKEN_SECONDS < POD_SECONDS)
    yield _result(f"{name}: requests of under {POD_SECONDS:g} s", short, "its pod left the load balancer first, and finished", 0)
    long = traffic.report.only(lambda each: each.tokens * _TOKEN_SECONDS >= POD_SECONDS)
    lost = len(long.exchanges) - long.count("answered")
    recovery = f"{lost or 'none'} were under way on it and cut after {POD_SECONDS:g} s: to be sent again"
    yield _result(f"{name}: requests of 30 s", long, recovery, _share(long, traffic.happened, replicas=3))


def _preemption_without_notice(service: _Service, name: str) -> Iterator[Result]:
    service.settle(3)
    with load(service.sandbox, tokens=_TOKENS, calm_seconds=_BEFORE_SECONDS) as traffic:
        events.preempt(service.sandbox, "l4-spot", notice=0, told=traffic.happens)
    recovery = "the autoscaler brought another node once Kubernetes had missed its heartbeats"
    seen = SILENT_SECONDS + _MONITOR_SECONDS + _HEARD_SECONDS
    yield _unannounced(name, traffic, seen, replicas=3, recovery=recovery)


def _hang(service: _Service, name: str, *, engine: bool) -> Iterator[Result]:
    service.settle(2)
    pod = events.replicas(service.sandbox)[0]["name"]
    before = events.restarts(service.sandbox, pod)
    with load(service.sandbox, tokens=_TOKENS, calm_seconds=_BEFORE_SECONDS, answer_seconds=2 * _RESTART_SECONDS) as traffic:
        service.sandbox.command("hang", pod, *(["--engine"] if engine else []))
        traffic.happens()
        _wait_for_restarts(service, pod, before + 1)
        service.wait_for(2)
    seen = _ENGINE_HANG_SEEN_SECONDS if engine else _HANG_SEEN_SECONDS
    yield _unannounced(name, traffic, seen, replicas=2, recovery="the liveness probe restarted its container")


def _death(service: _Service, name: str) -> Iterator[Result]:
    service.settle(2)
    pod = events.replicas(service.sandbox)[0]["name"]
    before = events.restarts(service.sandbox, pod)
    with load(service.sandbox, tokens=_TOKENS, calm_seconds=_BEFORE_SECONDS) as traffic:
        service.sandbox.command("crash", pod, "--once")
        traffic.happens()
        _wait_for_restarts(service, pod, before + 1)
        service.wait_for(2)
    yield _unannounced(name, traffic, _HEARD_SECONDS, replicas=2, recovery="its container was started again")


def _crash_loop(service: _Service, name: str) -> Iterator[Result]:
    service.settle(2)
    pod = events.replicas(service.sandbox)[0]["name"]
    before = events.restarts(service.sandbox, pod)
    with load(service.sandbox, tokens=_TOKENS, calm_seconds=_BEFORE_SECONDS) as traffic:
        service.sandbox.command("crash", pod)
        traffic.happens()
        _wait_for_restarts(service, pod, before + 3)
        service.sandbox.kubectl("delete", "pod", pod)
        service.wait_for(2)
    recovery = "it was restarted in vain, more and more slowly; `kubectl delete pod` brought another"
    yield _unannounced(name, traffic, _HEARD_SECONDS, replicas=2, recovery=recovery)


def _wait_for_restarts(service: _Service, pod: str, count: int) -> None:
    events.wait_until(lambda: events.restarts(service.sandbox, pod) >= count, _RESTART_SECONDS, f"restart {count} of {pod}")


_EVENTS: tuple[tuple[str, Callable[[_Service, str], Iterator[Result]]], ...] = (
    ("rolling update, a connection a request", lambda service, name: _rolling_update(service, name, keep_alive=False)),
    ("rolling update, connections kept open", lambda service, name: _rolling_update(service, name, keep_alive=True)),
    ("drain of a node", _drain),
    ("scale-out 1 to 3 to 1", _scale),
    ("the TPU pool taken out of service", _pool_out_of_service),
    ("active migration back to the TPUs", _migration),
    ("an update whose servers crash on start", _update_that_crashes),
    ("Spot preemption, 30 s of notice", _preemption),
    ("Spot preemption without notice", _preemption_without_notice),
    ("a server that hangs", lambda service, name: _hang(service, name, engine=False)),
    ("a server whose engine hangs, /health still 200", lambda service, name: _hang(service, name, engine=True)),
    ("a server that is killed", _death),
    ("a server that crashes, and then on every start", _crash_loop),
)


# --- results


@dataclass(frozen=True)
class _Losses:
    """What an unannounced event cost: requests under way on the replica, and those that still came to it."""

    under_way: int
    later: int


def _losses(report: Report, happened: float) -> _Losses:
    lost = [each for each in report.exchanges if each.result != "answered"]
    before = sum(each.sent <= happened for each in lost)
    return _Losses(under_way=before, later=len(lost) - before)


def _share(report: Report, at: float, *, replicas: int) -> int:
    """How many requests one of the replicas had under way at a moment; backends take turns, so shares differ by little."""
    return math.ceil(sum(each.sent <= at < each.ended for each in report.exchanges) / replicas) + 2


def _result(event: str, report: Report, recovery: str, bound: int) -> Result:
    problems = ", ".join(f"{count} {problem}" for problem, count in sorted(report.problems.items()))
    return Result(
        event=event,
        tried=len(report.exchanges),
        survived=report.count("answered"),
        failed=report.count("failed"),
        cut=report.count("cut"),
        longest_gap=round(report.longest_gap, 2) if report.count("answered") > 1 else None,
        bound=bound,
        recovery=recovery + (f" ({problems})" if problems else ""),
    )


def _planned(event: str, traffic: Load, recovery: str) -> Result:
    return _result(event, traffic.report, recovery, 0)


def _unannounced(event: str, traffic: Load, seconds: float, *, replicas: int, recovery: str) -> Result:
    """`seconds` until requests go to the others; each of the replicas has its share of them until then."""
    losses = _losses(traffic.report, traffic.happened)
    under_way = _share(traffic.report, traffic.happened, replicas=replicas)
    later = math.ceil(RATE * seconds / replicas) + 1
    explained = (
        f"{recovery}; {losses.under_way} were under way on it, {losses.later} came to it in the "
        f"{seconds:g} s until it gets no more (at most {later} of {RATE:g} a second to {replicas} replicas)"
    )
    return _result(event, traffic.report, explained, min(losses.under_way, under_way) + later)
