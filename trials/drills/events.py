"""What happens to a service on a sandbox while requests go on: each event is made to happen, and waited for.

For the drill `load` and for the tests of the same events, by the commands that a person has.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import yaml

from components.settings.stack_files import PROJECT_NAME
from sandbox.cli.client import CommandFailed, Sandbox
from sandbox.cli.traffic import Report, Traffic
from trials.results import Result

#: Requests a second.
RATE = 4.0

#: Between the first request and the event, and between its end and the last one.
_CALM_SECONDS = 2.0


class NotInTime(CommandFailed):
    """What should have come about did not."""


@dataclass
class Load:
    """`report` is there when the requests are over; `happened` (monotonic) is for events that begin at a moment."""

    happened: float = 0.0
    _reports: list[Report] = field(default_factory=list)

    def happens(self) -> None:
        """The event has begun just now: to be called when the command that makes it has ended, as that takes a second to start."""
        self.happened = time.monotonic()

    def over(self, report: Report) -> None:
        self._reports.append(report)

    @property
    def report(self) -> Report:
        return self._reports[0]


@contextmanager
def load(
    sandbox: Sandbox,
    *,
    tokens: Sequence[int],
    rate: float = RATE,
    keep_alive: bool = False,
    answer_seconds: float = 60.0,
    calm_seconds: float = _CALM_SECONDS,
) -> Iterator[Load]:
    """Requests from `calm_seconds` before, so that long answers are under way, to a little after."""
    outputs = sandbox.outputs()
    traffic = Traffic(
        outputs["service_url"], outputs["model"], rate=rate, max_tokens=tokens, keep_alive=keep_alive, answer_seconds=answer_seconds
    )
    found = Load()
    traffic.start()
    time.sleep(calm_seconds)
    try:
        yield found
    finally:
        time.sleep(_CALM_SECONDS)
        found.over(traffic.stop())


def requests_result(event: str, report: Report, recovery: str, *, bound: int) -> Result:
    """What became of the requests; `recovery` gets how often which problem came."""
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


def wait_until(what: Callable[[], Any], seconds: float, name: str = "it") -> None:
    """Raises `NotInTime`."""
    deadline = time.monotonic() + seconds
    while not what():
        if time.monotonic() > deadline:
            raise NotInTime(f"{name} not within {seconds:.0f} s")
        time.sleep(0.5)


def replicas(sandbox: Sandbox) -> list[dict[str, Any]]:
    """Pods of the service, ready or not."""
    return [pod for pod in sandbox.status()["pods"] if pod["name"].startswith("vllm-")]


def serving(sandbox: Sandbox) -> dict[str, str]:
    """Node -> pool, of every ready replica."""
    return {pod["node"]: pod["pool"] for pod in replicas(sandbox) if pod["ready"]}


def restarts(sandbox: Sandbox, pod: str) -> int:
    """The restarts of all the pod's containers; 0 for a pod that is gone."""
    return sum(each["restarts"] for found in replicas(sandbox) if found["name"] == pod for each in found["containers"])


def pools(sandbox: Sandbox, **first: Any) -> list[dict[str, Any]]:
    """The stack's accelerator pools with changes to the first."""
    found = yaml.safe_load(sandbox.stack_config.read_text())["config"][f"{PROJECT_NAME}:acceleratorPools"]
    return [{**found[0], **first}, *found[1:]]


def cold_pools(sandbox: Sandbox, **first: Any) -> list[dict[str, Any]]:
    """As `pools`, and none but the first is warm: replicas stay on nodes of a lower pool's minimum (docs/ladder.md)."""
    best, *lower = pools(sandbox, **first)
    return [best, *({**pool, "minNodeCount": 0} for pool in lower)]


def deploy(sandbox: Sandbox, *, check: bool = True, **settings: Any) -> str:
    """`pulumi up` with changed settings; what it printed."""
    done = sandbox.pulumi("up", "--yes", "--non-interactive", overrides=settings, check=check)
    return done.stdout + done.stderr


def drain(sandbox: Sandbox, node: str, *, seconds: float = 60.0) -> None:
    """As before an upgrade; returns when the node's replica serves elsewhere."""
    count = len(serving(sandbox))
    sandbox.kubectl("drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=150s")
    wait_until(lambda: len(serving(sandbox)) == count and node not in serving(sandbox), seconds, "a replica on another node")


def preempt(sandbox: Sandbox, pool: str, *, notice: float = 30.0, told: Callable[[], None] = lambda: None) -> None:
    """Google takes a serving Spot node; returns when it is gone and its replica serves elsewhere. `told` is called at the notice."""
    before = serving(sandbox)
    node = next(name for name, its_pool in before.items() if its_pool == pool)
    sandbox.command("preempt", node, "--notice", f"{notice:g}")
    told()
    wait_until(lambda: node not in {each["name"] for each in sandbox.status()["nodes"]}, 90, "the node's end")
    wait_until(lambda: len(serving(sandbox)) == len(before), 90, "the replica's successor")
