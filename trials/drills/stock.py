"""Pools out of stock, each alone and each two together: at creation on a fresh sandbox, and later while requests are answered.

A run survives when the service answers from the best pool that is left, when what is missing is named with the reason and the
fix, and when with stock back one more update completes everything, previews empty and the replicas are where they belong. Beside
those: a plain `pulumi up`, which stops at its first error; no stock at all; and a request that is neither filled nor refused.
"""

from __future__ import annotations

import itertools
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import yaml

from components.settings.stack_files import PROJECT_NAME, stack_file
from sandbox.cli.client import Sandbox, fresh_sandbox
from sandbox.cli.status import ServiceError, chat
from sandbox.cli.traffic import Report, Traffic
from sandbox.kube.names import PREEMPTION_ANNOTATION
from trials.drills import events
from trials.results import Options, Result

_NAME = "drill-stock"

#: While serving: one more than the best pool has room for.
_REPLICAS = 3
#: The lower pool of the dev stack that has a minimum.
_WARM = "l4"
_RATE = 5.0
_PATIENCE_SECONDS = 180.0
#: Time in which every request has to be answered, once the rest serves.
_STEADY_SECONDS = 5.0

_UP = ("up", "--yes", "--skip-preview", "--non-interactive")
_NO_SERVER_WAIT = {"serverStartupSeconds": 60, "rolloutTimeoutSeconds": 60}

Pools = Sequence[Mapping[str, Any]]


def run(options: Options) -> Iterator[Result]:
    pools = yaml.safe_load(stack_file("dev").read_text())["config"][f"{PROJECT_NAME}:acceleratorPools"]
    names = [str(pool["name"]) for pool in pools]
    short = [*itertools.combinations(names, 1), *itertools.combinations(names, 2)]
    at_creation: list[Callable[[], Result]] = [
        *(lambda out=out: _at_creation(names, out, "out of stock at creation") for out in short),
        lambda: _at_creation(names, names[:1], "held at creation", supply="hold"),
        lambda: _at_creation(names, names[:2], "out of stock, plain `pulumi up`", command=_UP),
        lambda: _nothing_at_all(names),
    ]
    for scenario in options.sample(at_creation):
        yield scenario()
    with fresh_sandbox(_NAME) as sandbox:
        sandbox.command("up")
        sandbox.command("scale", str(_REPLICAS))
        home = _serving(sandbox)
        for out in options.sample(short):
            yield _while_serving(sandbox, pools, out, home)
        if options.share == 1:
            yield _held_while_serving(sandbox, pools, home)


# --- at creation


def _at_creation(
    names: Sequence[str], out: Sequence[str], what: str, *, supply: str = "out", command: Sequence[str] | None = None
) -> Result:
    """`command`: as a person runs pulumi, whose engine registers nothing after the first failure; None for the sandbox's own `up`."""
    problems = _Problems()
    with fresh_sandbox(_NAME) as sandbox:
        _stock(sandbox, out, supply)
        if command:
            sandbox.command("up", "--prepare")
        up = sandbox.pulumi(*command, check=False) if command else sandbox.command("up", check=False)
        problems.unless(up.returncode != 0, "`up` said that all was made")
        _check_messages(problems, up.stdout, out)
        left = _served_by(problems, sandbox, next(name for name in names if name not in out))
        _stock_returns(problems, sandbox, names, out)
    return problems.result(f"{' and '.join(out)} {what}", f"{left} served; `up` named {', '.join(out)}")


def _nothing_at_all(names: Sequence[str]) -> Result:
    problems = _Problems()
    with fresh_sandbox(_NAME) as sandbox:
        _stock(sandbox, names, "out")
        sandbox.command("up", "--prepare")
        started = time.monotonic()
        up = sandbox.pulumi(*_UP, "--continue-on-error", check=False, overrides=_NO_SERVER_WAIT)
        seconds = time.monotonic() - started
        problems.unless(up.returncode != 0, "`pulumi up` said that all was made")
        _check_messages(problems, up.stdout, names)
        problems.unless("timed out waiting to be Ready" in up.stdout, "the Deployment's time was not up")
        _stock_returns(problems, sandbox, names, names)
    said = f"`up` named every pool and ended with rolloutTimeoutSeconds (60 here, {seconds:.0f} s in all)"
    return problems.result("every pool out of stock at creation", f"nothing can serve: {said}")


def _stock(sandbox: Sandbox, pools: Sequence[str], supply: str) -> None:
    for pool in pools:
        sandbox.command("stock", pool, supply)


def _check_messages(problems: _Problems, printed: str, out: Sequence[str]) -> None:
    """One message a pool: its name, the reason, the fixes."""
    for pool in out:
        said = next((line for line in printed.splitlines() if f"warning: Accelerator pool {pool} " in line), "")
        for part in ("most likely since none is free there now", "enabled: false", "zones", "run the same update again"):
            problems.unless(part in said, f"the message about {pool} does not say {part!r}")


def _served_by(problems: _Problems, sandbox: Sandbox, best: str) -> str:
    """The pool that answers."""
    outputs = sandbox.outputs()
    if "service_url" not in outputs:
        problems.add("the stack has no service_url")
        return "nothing"
    # Or the warm pool, to which active migration moves it down (docs/ladder.md).
    on = {best, _WARM}
    problems.unless(_comes_true(lambda: _serving(sandbox).total() == 1 and set(_serving(sandbox)) <= on), f"{_shown(sandbox)}, not {best}")
    try:
        return chat(outputs["service_url"], outputs["model"], "ping").pool
    except ServiceError as error:
        problems.add(str(error))
        return "nothing"


def _stock_returns(problems: _Problems, sandbox: Sandbox, names: Sequence[str], out: Sequence[str]) -> None:
    _stock(sandbox, out, "in")
    second = sandbox.command("up", check=False)
    problems.unless(second.returncode == 0, f"the second `up` ended with {second.returncode}")
    _check_home(problems, sandbox, Counter({names[0]: 1}))


def _check_home(problems: _Problems, sandbox: Sandbox, home: Counter[str]) -> None:
    problems.unless(_comes_home(sandbox, home), f"{_shown(sandbox)}, not {_text(home)}")
    preview = sandbox.pulumi("preview", "--expect-no-changes", "--non-interactive", check=False)
    problems.unless(preview.returncode == 0, "the preview after it was not empty")


def _comes_home(sandbox: Sandbox, home: Counter[str]) -> bool:
    """Whether as many replicas are on the first pool as before; one on a warm lower pool moves with a rollout alone (docs/ladder.md)."""
    best = max(home, key=lambda pool: home[pool])

    def there() -> bool:
        now = _serving(sandbox)
        return now.total() == home.total() and now[best] >= home[best]

    if _comes_true(there):
        return True
    sandbox.kubectl("rollout", "restart", "deploy/vllm")
    return _comes_true(there)


# --- while serving


def _while_serving(sandbox: Sandbox, pools: Pools, out: Sequence[str], home: Counter[str]) -> Result:
    """Stock goes, and with it every machine of the pools, without notice; then stock comes back."""
    problems = _Problems()
    wanted = min(_REPLICAS, sum(int(pool["maxNodeCount"]) for pool in pools if pool["name"] not in out))
    traffic = _traffic(sandbox)
    _stock(sandbox, out, "out")
    _lose_machines(problems, sandbox, out)
    problems.unless(_comes_true(lambda: _serving(sandbox).total() == wanted), f"{_shown(sandbox)}, not {wanted}")
    # A pod of a lost machine is replaced, and so asks its pool for another, when the pod garbage collector has found it: up to 80 s.
    problems.unless(_comes_true(lambda: _said_to_be_short(sandbox) >= set(out)), "the class's status never named all of them")
    on = _serving(sandbox)
    steady = time.monotonic()
    time.sleep(_STEADY_SECONDS)
    _stock(sandbox, out, "in")
    _check_home(problems, sandbox, home)
    report = traffic.stop()
    _check_steady(problems, report, steady)
    said = f"{_text(on)} of {_REPLICAS} replicas served, then {_text(home)} again; {_counts(report)}"
    return problems.result(f"{' and '.join(out)} out of stock while serving, machines lost", said, report)


def _held_while_serving(sandbox: Sandbox, pools: Pools, home: Counter[str]) -> Result:
    """A request that is neither filled nor refused keeps a replica from the other pools; `enabled: false` lets it go."""
    problems = _Problems()
    best = str(pools[0]["name"])
    traffic = _traffic(sandbox)
    _stock(sandbox, [best], "hold")
    _lose_machines(problems, sandbox, [best])
    # The warm node takes one, and the last one waits for what does not come.
    problems.unless(_comes_true(lambda: _serving(sandbox).total() == _REPLICAS - 1), _shown(sandbox))
    time.sleep(_STEADY_SECONDS)
    held = "one replica waited" if _serving(sandbox).total() == _REPLICAS - 1 else "no replica had to wait"
    steady = time.monotonic()
    disabled = [{**pool, "enabled": False} if pool["name"] == best else dict(pool) for pool in pools]
    # An update brings the settings' number of replicas back, which `scale` had changed.
    sandbox.pulumi(*_UP, overrides={"acceleratorPools": disabled, "replicas": _REPLICAS})
    problems.unless(_comes_true(lambda: _serving(sandbox).total() == _REPLICAS), _shown(sandbox))
    on = _serving(sandbox)
    _stock(sandbox, [best], "in")
    # Brings the pool back, and the Deployment's one replica of the settings.
    sandbox.command("up")
    sandbox.command("scale", str(_REPLICAS))
    problems.unless(_comes_home(sandbox, home), f"{_shown(sandbox)}, not {_text(home)}")
    report = traffic.stop()
    _check_steady(problems, report, steady)
    said = f"{held} until `enabled: false`, then {_text(on)}; {_text(home)} again after the line was taken out; {_counts(report)}"
    return problems.result(f"{best} held while serving, machines lost", said, report)


def _lose_machines(problems: _Problems, sandbox: Sandbox, pools: Sequence[str]) -> None:
    """At once, as when their hosts fail, and on-demand machines too; returns when they are gone."""

    def nodes() -> list[str]:
        return [node["name"] for node in sandbox.status()["nodes"] if node["pool"] in pools]

    for node in nodes():
        sandbox.kubectl("annotate", "node", node, f"{PREEMPTION_ANNOTATION}=0", "--overwrite")
    # Replicas on lost machines are still counted for a moment.
    problems.unless(_comes_true(lambda: not nodes()), f"machines of {', '.join(pools)} are still there")


def _traffic(sandbox: Sandbox) -> Traffic:
    outputs = sandbox.outputs()
    traffic = Traffic(outputs["service_url"], outputs["model"], rate=_RATE, max_tokens=(16,))
    traffic.start()
    return traffic


def _check_steady(problems: _Problems, report: Report, since: float) -> None:
    """Every request is answered in the seconds before stock comes back, when nothing is lost any more."""
    late = [each for each in report.exchanges if since <= each.sent <= since + _STEADY_SECONDS]
    bad = [each.problem for each in late if each.result != "answered"]
    problems.unless(bool(late) and not bad, f"{len(bad)} of {len(late)} requests failed on what was left: {set(bad)}")


def _counts(report: Report) -> str:
    return f"of {len(report.exchanges)} requests {report.count('failed')} failed, {report.count('cut')} were cut"


# --- parts


class _Problems:
    """What was not as it should be."""

    def __init__(self) -> None:
        self._found: list[str] = []

    def add(self, problem: str) -> None:
        self._found.append(problem)

    def unless(self, right: bool, problem: str) -> None:
        if not right:
            self.add(problem)

    def result(self, event: str, recovery: str, report: Report | None = None) -> Result:
        return Result(
            event=event,
            tried=1,
            survived=0 if self._found else 1,
            recovery="; ".join(self._found) or recovery,
            longest_gap=report.longest_gap if report is not None else None,
        )


def _serving(sandbox: Sandbox) -> Counter[str]:
    """Ready replicas by pool."""
    return Counter(events.serving(sandbox).values())


def _shown(sandbox: Sandbox) -> str:
    """Which pools serve, and what the other pods say of themselves."""
    others = [f"{pod['name']} {pod['phase']} on {pod['node']}" for pod in sandbox.status()["pods"] if not pod["ready"]]
    return "; ".join([f"{_text(_serving(sandbox))} serve", *others])


def _text(serving: Counter[str]) -> str:
    return " and ".join(f"{count} on {pool}" for pool, count in sorted(serving.items())) or "none"


def _said_to_be_short(sandbox: Sandbox) -> set[str]:
    """Pools whose priority the ComputeClass's status calls suspended or constrained for want of machines."""
    found = set()
    for body in json.loads(sandbox.kubectl("get", "computeclasses", "--output", "json"))["items"]:
        for status in (body.get("status") or {}).get("priorityStatuses") or []:
            if any(each["reason"] == "OutOfResources" for each in status["conditions"]):
                found |= set(body["spec"]["priorities"][int(status["identifier"])]["nodepools"])
    return found


def _comes_true(look: Callable[[], bool]) -> bool:
    try:
        events.wait_until(look, _PATIENCE_SECONDS)
    except events.NotInTime:
        return False
    return True
