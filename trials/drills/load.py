"""The drill `load`: requests go on while the service is updated, moved, scaled, preempted, and while its servers hang and crash.

What is planned may lose nothing, nor may a Spot machine's end with notice lose a request of under 15 s. What comes unannounced costs
what is under way on the replica that it hits, and what is still sent there until the failure is noticed: `bound` is that number, of the
requests' rate and the probes' own times. On real vLLM (`--server vllm`) the planned events alone are made: what the others may cost is
computed from the stand-in's speed. Left out: several events at once, and faults of a whole zone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from components.serving.probes import container_probes, seconds_to_notice
from components.settings.schema import defaults
from sandbox.cli.client import CommandFailed, Sandbox, fresh_sandbox
from sandbox.cli.status import SETTLE_SECONDS
from sandbox.cli.traffic import Report
from sandbox.google.latencies import POD_SECONDS, SILENT_SECONDS
from sandbox.servers.model_server import VLLM
from trials.drills import events
from trials.drills.events import RATE, Load, load
from trials.results import Options, Result

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

_PROBES = container_probes(startup_seconds=defaults()["serverStartupSeconds"])

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

#: Real vLLM starts and answers more slowly on a processor that pods share: every wait for it is this many times as long, and it gets
#: fewer and shorter requests, so that the next server can start beside them.
_VLLM_PATIENCE = 4.0
_VLLM_RATE = 1.0
_VLLM_TOKENS = (8, 32, 100, 200)

#: Until replicas are where they belong.
_MOVE_SECONDS = 120.0

#: The settings of the drill over those of dev: the program's own default, with which nothing moves the only replica.
_SETTINGS: dict[str, Any] = {"keepLastReplica": True, "replicas": 2}


def run(options: Options) -> Iterator[Result]:
    with fresh_sandbox("drill-load") as sandbox:
        real = options.server == VLLM
        # Real servers start slowly, so that they begin with the drill's own settings and not with those of dev.
        sandbox.command("up", "--server", options.server, *(["--prepare"] if real else []))
        service = _Service(sandbox, patience=_VLLM_PATIENCE, rate=_VLLM_RATE, tokens=_VLLM_TOKENS) if real else _Service(sandbox)
        for name, event in options.sample(_PLANNED if real else _EVENTS):
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
    #: How many times as long as for the stand-in to wait.
    patience: float = 1.0
    #: Of the requests: how many a second, and the lengths of their answers.
    rate: float = RATE
    tokens: Sequence[int] = _TOKENS

    def deploy(self, **changes: Any) -> None:
        """An update with the drill's settings and changes to them."""
        self.deployed = None
        settings = {**_SETTINGS, "acceleratorPools": events.cold_pools(self.sandbox), **changes}
        events.deploy(self.sandbox, **settings)
        self.deployed = settings

    def settle(self, count: int, **changes: Any) -> None:
        """So many replicas, all of them where they belong; an update comes before only where the settings are others."""
        if self.deployed != {**_SETTINGS, "acceleratorPools": events.cold_pools(self.sandbox), **changes}:
            self.deploy(**changes)
        self.scale(count)

    def scale(self, count: int) -> None:
        self.sandbox.command("scale", str(count), "--timeout", f"{SETTLE_SECONDS * self.patience:g}")

    def without_the_tpu_pool(self) -> dict[str, Any]:
        return {"acceleratorPools": events.cold_pools(self.sandbox, enabled=False)}

    def wait_for(self, count: int) -> None:
        events.wait_until(lambda: len(events.serving(self.sandbox)) == count, 90, f"{count} ready replicas")

    def under_load(
        self, *, tokens: Sequence[int] | None = None, keep_alive: bool = False, answer_seconds: float = 60.0
    ) -> AbstractContextManager[Load]:
        return load(
            self.sandbox,
            tokens=tokens or self.tokens,
            rate=self.rate,
            keep_alive=keep_alive,
            answer_seconds=answer_seconds * self.patience,
            calm_seconds=_BEFORE_SECONDS,
        )


Event = Callable[[_Service, str], Iterator[Result]]


# --- planned


def _planned_event(
    happen: Callable[[_Service], str], *, keep_alive: bool = False, settle: Callable[[_Service], None] | None = None
) -> Event:
    """`happen` returns how the service came through; `settle` puts the service where it begins."""

    def event(service: _Service, name: str) -> Iterator[Result]:
        if settle:
            settle(service)
        else:
            service.settle(2)
        with service.under_load(keep_alive=keep_alive) as traffic:
            recovery = happen(service)
        yield _planned(name, traffic, recovery)

    return event


def _update(**changes: Any) -> Callable[[_Service], str]:
    def happen(service: _Service) -> str:
        service.deploy(**changes)
        return "each new pod served before an old one left"

    return happen


def _drain(service: _Service) -> str:
    node = min(events.serving(service.sandbox))
    events.drain(service.sandbox, node, seconds=60.0 * service.patience)
    service.sandbox.kubectl("uncordon", node)
    return "its replica finished what was under way, and came up on another node"


def _scale(service: _Service) -> str:
    service.scale(3)
    service.scale(1)
    return "replicas came on the best pools that had room, and left after their last answer"


def _disable_pool(service: _Service) -> str:
    service.deploy(**service.without_the_tpu_pool())
    _wait_for_pools(service, lambda pool: pool != "v6e-1", "both replicas on other pools")
    return "one setting (`enabled: false`), and replicas on the next pools before the TPUs' left"


def _migrate(service: _Service) -> str:
    service.deploy()
    _wait_for_pools(service, lambda pool: pool == "v6e-1", "both replicas back on the TPUs")
    return "the TPU pool came back, and replicas moved up to it one at a time"


def _wait_for_pools(service: _Service, wanted: Callable[[str], bool], what: str) -> None:
    def there() -> bool:
        pools = list(events.serving(service.sandbox).values())
        return len(pools) == 2 and all(map(wanted, pools))

    events.wait_until(there, _MOVE_SECONDS * service.patience, what)


def _update_that_crashes(service: _Service) -> str:
    wrong = ["--no-such-flag"]
    patience = {"serverStartupSeconds": 20, "rolloutTimeoutSeconds": 30}
    settings = {
        **_SETTINGS,
        "acceleratorPools": events.cold_pools(service.sandbox),
        **patience,
        "tpuServerArguments": wrong,
        "gpuServerArguments": wrong,
    }
    said = events.deploy(service.sandbox, check=False, **settings)
    service.deploy()
    named = "failed and named the container" if "CrashLoopBackOff" in said else "failed"
    return f"the update {named}; the old pods served on, and the next update, corrected, went through"


# --- unannounced


def _preemption(service: _Service, name: str) -> Iterator[Result]:
    service.settle(3)
    with service.under_load(tokens=_TOKENS_WITH_LONG) as traffic:
        events.preempt(service.sandbox, "l4-spot", told=traffic.happens)
    short = traffic.report.only(lambda each: each.tokens * _TOKEN_SECONDS < POD_SECONDS)
    yield events.requests_result(
        f"{name}: requests of under {POD_SECONDS:g} s", short, "its pod left the load balancer first, and finished", bound=0
    )
    long = traffic.report.only(lambda each: each.tokens * _TOKEN_SECONDS >= POD_SECONDS)
    lost = len(long.exchanges) - long.count("answered")
    recovery = f"{lost or 'none'} were under way on it and cut after {POD_SECONDS:g} s: to be sent again"
    yield events.requests_result(f"{name}: requests of 30 s", long, recovery, bound=_share(long, traffic.happened, replicas=3))


def _preemption_without_notice(service: _Service, name: str) -> Iterator[Result]:
    service.settle(3)
    with service.under_load() as traffic:
        events.preempt(service.sandbox, "l4-spot", notice=0, told=traffic.happens)
    recovery = "the autoscaler brought another node once Kubernetes had missed its heartbeats"
    seen = SILENT_SECONDS + _MONITOR_SECONDS + _HEARD_SECONDS
    yield _unannounced(name, traffic, seen, replicas=3, recovery=recovery)


def _fault(command: str, *options: str, seen: float, recovery: str, restarts: int = 1) -> Event:
    """A command of the sandbox strikes one of two replicas; without `--once` a crash goes on until the pod is deleted."""

    def event(service: _Service, name: str) -> Iterator[Result]:
        service.settle(2)
        sandbox, pod = service.sandbox, events.replicas(service.sandbox)[0]["name"]
        wanted = events.restarts(sandbox, pod) + restarts
        with service.under_load(answer_seconds=2 * _RESTART_SECONDS) as traffic:
            sandbox.command(command, pod, *options)
            traffic.happens()
            events.wait_until(lambda: events.restarts(sandbox, pod) >= wanted, _RESTART_SECONDS, f"restart {wanted} of {pod}")
            if restarts > 1:
                sandbox.kubectl("delete", "pod", pod)
            service.wait_for(2)
        yield _unannounced(name, traffic, seen, replicas=2, recovery=recovery)

    return event


_RESTARTED = "the liveness probe restarted its container"
_IN_VAIN = "it was restarted in vain, more and more slowly; `kubectl delete pod` brought another"

_PLANNED: tuple[tuple[str, Event], ...] = (
    ("rolling update, a connection a request", _planned_event(_update(maxModelLen=4096))),
    (
        "rolling update, connections kept open",
        _planned_event(_update(), keep_alive=True, settle=lambda service: service.settle(2, maxModelLen=4096)),
    ),
    ("drain of a node", _planned_event(_drain)),
    ("scale-out 1 to 3 to 1", _planned_event(_scale, settle=lambda service: service.settle(1, replicas=1))),
    ("the TPU pool taken out of service", _planned_event(_disable_pool)),
    (
        "active migration back to the TPUs",
        _planned_event(_migrate, settle=lambda service: service.settle(2, **service.without_the_tpu_pool())),
    ),
    ("an update whose servers crash on start", _planned_event(_update_that_crashes)),
)

_EVENTS = (
    *_PLANNED,
    ("Spot preemption, 30 s of notice", _preemption),
    ("Spot preemption without notice", _preemption_without_notice),
    ("a server that hangs", _fault("hang", seen=_HANG_SEEN_SECONDS, recovery=_RESTARTED)),
    ("a server whose engine hangs, /health still 200", _fault("hang", "--engine", seen=_ENGINE_HANG_SEEN_SECONDS, recovery=_RESTARTED)),
    ("a server that is killed", _fault("crash", "--once", seen=_HEARD_SECONDS, recovery="its container was started again")),
    ("a server that crashes, and then on every start", _fault("crash", seen=_HEARD_SECONDS, recovery=_IN_VAIN, restarts=3)),
)


# --- results


def _share(report: Report, at: float, *, replicas: int) -> int:
    """How many requests one of the replicas had under way at a moment; backends take turns, so shares differ by little."""
    return math.ceil(sum(each.sent <= at < each.ended for each in report.exchanges) / replicas) + 2


def _planned(event: str, traffic: Load, recovery: str) -> Result:
    return events.requests_result(event, traffic.report, recovery, bound=0)


def _unannounced(event: str, traffic: Load, seconds: float, *, replicas: int, recovery: str) -> Result:
    """`seconds` until requests go to the others; each of the replicas has its share of them until then."""
    lost = [each for each in traffic.report.exchanges if each.result != "answered"]
    under_way = sum(each.sent <= traffic.happened for each in lost)
    later = math.ceil(RATE * seconds / replicas) + 1
    explained = (
        f"{recovery}; {under_way} were under way on it, {len(lost) - under_way} came to it in the "
        f"{seconds:g} s until it gets no more (at most {later} of {RATE:g} a second to {replicas} replicas)"
    )
    bound = min(under_way, _share(traffic.report, traffic.happened, replicas=replicas)) + later
    return events.requests_result(event, traffic.report, explained, bound=bound)
