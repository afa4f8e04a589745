"""A TPU request that is neither filled nor refused: how long a replica waits until the next pool serves it, by each way to bound that.

Times are those of Google's clock, from the pod's creation to its being ready. Each way has a sandbox of its own, at a speed at which the
seconds that this machine adds are minutes there.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import yaml

from components.serving.fallback_program import HOLDS
from sandbox.cli.client import Sandbox, fresh_sandbox
from trials.drills import events
from trials.results import Options, Result

_UP = ("up", "--yes", "--skip-preview", "--non-interactive", "--continue-on-error")
_CONTROLLED_MINUTES = 10


@dataclass(frozen=True, kw_only=True)
class _Way:
    name: str
    speed: float
    runs: int
    #: Minutes of waiting that it promises.
    minutes: float
    settings: Mapping[str, Any] = field(default_factory=dict)
    #: Changes to the best pool.
    best: Mapping[str, Any] = field(default_factory=dict)

    @property
    def bound(self) -> float:
        """Minutes, with a quarter and ten minutes for the node, its server and this machine."""
        return self.minutes * 1.25 + 10


WAYS = (
    _Way(name="GKE alone", speed=600, runs=3, minutes=600),
    _Way(name="`provisioning: flex-start`", speed=120, runs=5, minutes=30, best={"provisioning": "flex-start"}),
    _Way(
        name=f"`fallbackAfterMinutes: {_CONTROLLED_MINUTES}`",
        speed=30,
        runs=5,
        minutes=_CONTROLLED_MINUTES,
        settings={"fallbackAfterMinutes": _CONTROLLED_MINUTES},
    ),
)


def run(options: Options) -> Iterator[Result]:
    for way in options.sample(WAYS):
        with fresh_sandbox("drill-fallback", {"SANDBOX_SPEED": f"{way.speed:g}"}) as sandbox:
            _deploy(sandbox, way)
            waited = [_once(sandbox, way) for _ in range(options.some(way.runs))]
        survived = sum(minutes <= way.bound for minutes in waited)
        said = f"median {_text(statistics.median(waited))}, worst {_text(max(waited))}, on Google's clock"
        yield Result(event=f"TPU held, {way.name}", tried=len(waited), survived=survived, recovery=said)


def _text(minutes: float) -> str:
    return f"{minutes:.1f} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def _deploy(sandbox: Sandbox, way: _Way) -> None:
    """Not warm below the best pool, and without idle nodes for long."""
    sandbox.command("up", "--prepare")
    pools = events.cold_pools(sandbox, **{"initialNodeCount": 1, **way.best})
    for pool in pools[1:]:
        pool["initialNodeCount"] = 0
    sandbox.pulumi(*_UP, overrides={"acceleratorPools": pools, "consolidationDelayMinutes": 1, **way.settings})
    _at_home(sandbox)


def _once(sandbox: Sandbox, way: _Way) -> float:
    """Minutes on Google's clock for which one more replica than there are TPUs waits; leaves everything as it was."""
    best = str(events.pools(sandbox)[0]["name"])
    sandbox.command("stock", best, "hold")
    sandbox.kubectl("scale", "deploy/vllm", "--replicas=2")
    patience = way.bound * 60 / way.speed + 30
    events.wait_until(lambda: len(events.serving(sandbox)) == 2, patience, "the second replica")
    pods = yaml.safe_load(sandbox.kubectl("get", "pods", "-l", "app=vllm", "--output", "json"))["items"]
    newest = max(pods, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))
    (ready,) = [each for each in newest["status"]["conditions"] if each["type"] == "Ready"]
    seconds = (_time(ready["lastTransitionTime"]) - _time(newest["metadata"]["creationTimestamp"])).total_seconds()
    elsewhere = set(events.serving(sandbox).values()) - {best}
    sandbox.command("stock", best, "in")
    sandbox.kubectl("scale", "deploy/vllm", "--replicas=1")
    _at_home(sandbox)
    return seconds * way.speed / 60 if elsewhere else float("inf")


def _at_home(sandbox: Sandbox) -> None:
    """One replica on the best pool, no other node of an accelerator, and no placeholder."""
    pools = [str(pool["name"]) for pool in events.pools(sandbox)]

    def there() -> bool:
        nodes = [node["pool"] for node in sandbox.status()["nodes"] if node["pool"] in pools]
        holds = sandbox.kubectl("get", "pods", "--all-namespaces", "--selector", HOLDS, "--output", "name")
        return not holds and nodes == pools[:1] and list(events.serving(sandbox).values()) == pools[:1]

    events.wait_until(there, 240, "one replica on the best pool")


def _time(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
