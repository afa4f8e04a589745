"""The drill `load`: requests go on while the service is updated, moved, scaled, preempted, and while its servers hang and crash.

What is planned may lose nothing, nor may a Spot machine's end with notice lose a request of under 15 s. What comes unannounced costs
what is under way on the replica that it hits, and what is still sent there until somebody knows: `bound` is that number, of the
requests' rate and the probes' own times. Left out: several events at once, and faults of a whole zone.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from components.probes import container_probes, seconds_to_notice
from drills import events
from drills.events import RATE, Load, load
from drills.results import Options, Result
from sandbox.client import CommandFailed, Sandbox, fresh_sandbox
from sandbox.latencies import POD_SECONDS, SILENT_SECONDS
from sandbox.traffic import Report

#: The stand-in's, of one token.
_TOKEN_SECONDS = 0.02

#: Of 0.3 to 13.8 s, so that long answers are under way whatever happens; an odd number, since every other one is streamed.
_TOKENS = (16, 64, 200, 16, 64, 690, 200)

#: With one of 30 s, which a Spot machine's end does not wait for.
_TOKENS_WITH_LONG = (*_TOKENS[:4], 1500, *_TOKENS[4:], 690)

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

#: The settings of the drill over those of dev: the program's own default, with which nothing moves the only replica.
_SETTINGS: dict[str, Any] = {"keepLastReplica": True, "replicas": 2}


def run(options: Options) -> Iterator[Result]:
    chooser = random.Random(options.seed)
    chosen = sorted(chooser.sample(range(len(_EVENTS)), options.some(len(_EVENTS))))
    with fresh_sandbox("drill-load") as sandbox:
        sandbox.command("up")
        for number in chosen:
            name, event = _EVENTS[number]
            try:
                events.deploy(sandbox, **_SETTINGS)
                sandbox.command("scale", "2")
                yield from event(sandbox, name)
            except CommandFailed as error:
                yield Result(event=name, tried=1, survived=0, recovery=f"the event did not come to its end: {error}")


# --- planned


def _rolling_update(sandbox: Sandbox, name: str, *, keep_alive: bool) -> Iterator[Result]:
    with load(sandbox, tokens=_TOKENS, keep_alive=keep_alive) as traffic:
        events.deploy(sandbox, **_SETTINGS, maxModelLen=4096)
    yield _planned(name, traffic, "each new pod served before an old one left")


def _drain(sandbox: Sandbox, name: str) -> Iterator[Result]:
    node = min(events.serving(sandbox))
    with load(sandbox, tokens=_TOKENS) as traffic:
        events.drain(sandbox, node)
    sandbox.kubectl("uncordon", node)
    yield _planned(name, traffic, "its replica finished what was under way, and came up on another node")


def _scale(sandbox: Sandbox, name: str) -> Iterator[Result]:
    events.deploy(sandbox, keepLastReplica=True, replicas=1)
    sandbox.command("scale", "1")
    with load(sandbox, tokens=_TOKENS) as traffic:
        sandbox.command("scale", "3")
        sandbox.command("scale", "1")
    yield _planned(name, traffic, "replicas came on the best pools that had room, and left after their last answer")


def _pool_out_of_service(sandbox: Sandbox, name: str) -> Iterator[Result]:
    with load(sandbox, tokens=_TOKENS) as traffic:
        events.deploy(sandbox, **_SETTINGS, acceleratorPools=events.pools(sandbox, enabled=False))
        events.wait_until(
            lambda: len(events.serving(sandbox)) == 2 and "v6e-1" not in events.serving(sandbox).values(),
            90,
            "both replicas on other pools",
        )
    yield _planned(
        name, traffic, "one setting (`enabled: false`), and replicas on the next pools before the TPUs' left"
    )


def _migration(sandbox: Sandbox, name: str) -> Iterator[Result]:
    events.deploy(sandbox, **_SETTINGS, acceleratorPools=events.pools(sandbox, enabled=False))
    sandbox.command("scale", "2")
    with load(sandbox, tokens=_TOKENS) as traffic:
        events.deploy(sandbox, **_SETTINGS)
        events.wait_until(
            lambda: list(events.serving(sandbox).values()) == ["v6e-1"] * 2, 120, "both replicas back on the TPUs"
        )
    yield _planned(name, traffic, "the TPU pool came back, and replicas moved up to it one at a time")


def _update_that_crashes(sandbox: Sandbox, name: str) -> Iterator[Result]:
    wrong = ["--no-such-flag"]
    patience: dict[str, Any] = {"serverStartupSeconds": 20, "rolloutTimeoutSeconds": 30}
    with load(sandbox, tokens=_TOKENS) as traffic:
        said = events.deploy(
            sandbox, check=False, **_SETTINGS, **patience, tpuServerArguments=wrong, gpuServerArguments=wrong
        )
        events.deploy(sandbox, **_SETTINGS)
    named = "failed and named the container" if "CrashLoopBackOff" in said else "failed"
    yield _planned(
        name, traffic, f"the update {named}; the old pods served on, and the next update, corrected, went through"
    )


# --- unannounced


def _preemption(sandbox: Sandbox, name: str) -> Iterator[Result]:
    sandbox.command("scale", "3")
    with load(sandbox, tokens=_TOKENS_WITH_LONG) as traffic:
        traffic.happens()
        events.preempt(sandbox, "l4-spot")
    short = traffic.report.only(lambda each: each.tokens * _TOKEN_SECONDS < POD_SECONDS)
    yield _result(
        f"{name}: requests of under {POD_SECONDS:g} s", short, "its pod left the load balancer first, and finished", 0
    )
    long = traffic.report.only(lambda each: each.tokens * _TOKEN_SECONDS >= POD_SECONDS)
    bound = _under_way(long, traffic.happened)
    yield _result(
        f"{name}: requests of 30 s",
        long,
        f"those under way on it were cut after {POD_SECONDS:g} s: send them again",
        bound,
    )


def _preemption_without_notice(sandbox: Sandbox, name: str) -> Iterator[Result]:
    sandbox.command("scale", "3")
    with load(sandbox, tokens=_TOKENS) as traffic:
        traffic.happens()
        events.preempt(sandbox, "l4-spot", notice=0)
    recovery = "the autoscaler brought another node once Kubernetes had missed its heartbeats"
    yield _unannounced(name, traffic, SILENT_SECONDS + _HEARD_SECONDS, replicas=3, recovery=recovery)


def _hang(sandbox: Sandbox, name: str, *, engine: bool) -> Iterator[Result]:
    pod = events.replicas(sandbox)[0]["name"]
    with load(sandbox, tokens=_TOKENS, answer_seconds=2 * _RESTART_SECONDS) as traffic:
        traffic.happens()
        sandbox.command("hang", pod, *(["--engine"] if engine else []))
        events.wait_until(lambda: events.restarts(sandbox, pod) > 0, _RESTART_SECONDS, "the hung server's restart")
        events.wait_until(lambda: len(events.serving(sandbox)) == 2, 60, "both replicas")
    seen = _ENGINE_HANG_SEEN_SECONDS if engine else _HANG_SEEN_SECONDS
    liveness = "the liveness probe restarted its container"
    yield _unannounced(name, traffic, seen, replicas=2, recovery=liveness)


def _death(sandbox: Sandbox, name: str) -> Iterator[Result]:
    pod = events.replicas(sandbox)[0]["name"]
    with load(sandbox, tokens=_TOKENS) as traffic:
        traffic.happens()
        sandbox.command("crash", pod, "--once")
        events.wait_until(lambda: events.restarts(sandbox, pod) > 0, 60, "the restart")
        events.wait_until(lambda: len(events.serving(sandbox)) == 2, 60, "both replicas")
    yield _unannounced(name, traffic, _HEARD_SECONDS, replicas=2, recovery="its container was started again")


def _crash_loop(sandbox: Sandbox, name: str) -> Iterator[Result]:
    pod = events.replicas(sandbox)[0]["name"]
    with load(sandbox, tokens=_TOKENS) as traffic:
        traffic.happens()
        sandbox.command("crash", pod)
        events.wait_until(lambda: events.restarts(sandbox, pod) > 2, 90, "the crash loop")
        sandbox.kubectl("delete", "pod", pod)
        events.wait_until(lambda: len(events.serving(sandbox)) == 2, 90, "both replicas")
    recovery = "it was restarted in vain, more and more slowly; `kubectl delete pod` brought another"
    yield _unannounced(name, traffic, _HEARD_SECONDS, replicas=2, recovery=recovery)


_EVENTS: tuple[tuple[str, Callable[[Sandbox, str], Iterator[Result]]], ...] = (
    ("rolling update, a connection a request", lambda sandbox, name: _rolling_update(sandbox, name, keep_alive=False)),
    ("rolling update, connections kept open", lambda sandbox, name: _rolling_update(sandbox, name, keep_alive=True)),
    ("drain of a node", _drain),
    ("scale-out 1 to 3 to 1", _scale),
    ("the TPU pool taken out of service", _pool_out_of_service),
    ("active migration back to the TPUs", _migration),
    ("an update whose servers crash on start", _update_that_crashes),
    ("Spot preemption, 30 s of notice", _preemption),
    ("Spot preemption without notice", _preemption_without_notice),
    ("a server that hangs", lambda sandbox, name: _hang(sandbox, name, engine=False)),
    ("a server whose engine hangs, /health still 200", lambda sandbox, name: _hang(sandbox, name, engine=True)),
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


def _under_way(report: Report, at: float) -> int:
    return sum(each.sent <= at < each.ended for each in report.exchanges)


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
    # Backends take turns, so shares differ by little.
    under_way = math.ceil(_under_way(traffic.report, traffic.happened) / replicas) + 2
    later = math.ceil(RATE * seconds / replicas) + 1
    explained = (
        f"{recovery}; {losses.under_way} were under way on it, {losses.later} came to it in the "
        f"{seconds:g} s until it gets no more (at most {later} of {RATE:g} a second to {replicas} replicas)"
    )
    return _result(event, traffic.report, explained, min(losses.under_way, under_way) + later)
