"""Pools out of stock, each alone and each two together: at creation on a fresh sandbox, and later while requests are answered.

A run survives when the service answers from the best pool that is left, when what is missing is named with the reason and the
cure, and when with stock back one more update completes everything, previews empty and the replicas are where they belong. Beside
those: a plain `pulumi up`, which stops at its first error; no stock at all; and a request that is neither filled nor refused.
"""

from __future__ import annotations

import itertools
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import yaml
from kubernetes import client, config

from components.settings.stack_files import PROJECT_NAME, stack_file
from sandbox.cli.client import Sandbox, fresh_sandbox
from sandbox.cli.status import ClusterView, ServiceError, chat
from sandbox.cli.traffic import Report, Traffic
from sandbox.kube.names import PREEMPTION_ANNOTATION
from trials.drills.results import Options, Result

_NAME = "drill-stock"

#: While serving: one more than the best pool has room for.
_REPLICAS = 3
_RATE = 5.0
_PATIENCE_SECONDS = 180.0
#: Of answers that have to come without an exception once the rest serves.
_STEADY_SECONDS = 5.0

_NO_SERVER_WAIT = {"serverStartupSeconds": 60, "rolloutTimeoutSeconds": 60}

Pools = Sequence[Mapping[str, Any]]


def run(options: Options) -> Iterator[Result]:
    pools = _pools()
    names = [str(pool["name"]) for pool in pools]
    short = [*itertools.combinations(names, 1), *itertools.combinations(names, 2)]
    at_creation: list[Callable[[], Result]] = [
        *(lambda out=out: _at_creation(names, out, "out") for out in short),
        lambda: _at_creation(names, (names[0],), "hold"),
        lambda: _plain_update(names, tuple(names[:2])),
        lambda: _nothing_at_all(names),
    ]
    draw = random.Random(options.seed)
    for scenario in draw.sample(at_creation, options.some(len(at_creation))) if options.share < 1 else at_creation:
        yield scenario()
    serving = short if options.share == 1 else draw.sample(short, options.some(len(short)))
    with fresh_sandbox(_NAME) as sandbox:
        sandbox.command("up")
        sandbox.command("scale", str(_REPLICAS))
        view = _View(sandbox)
        home = view.serving()
        for out in serving:
            yield _while_serving(sandbox, view, pools, out, home)
        if options.share == 1:
            yield _held_while_serving(sandbox, view, pools, home)


# --- at creation


def _at_creation(names: Sequence[str], out: Sequence[str], supply: str) -> Result:
    problems = _Problems()
    with fresh_sandbox(_NAME) as sandbox:
        for pool in out:
            sandbox.command("stock", pool, supply)
        up = sandbox.command("up", check=False)
        problems.unless(up.returncode == 1, f"`up` ended with {up.returncode}")
        _check_words(problems, up.stdout, out)
        left = _served_by_the_best_of(problems, sandbox, [name for name in names if name not in out])
        _stock_returns(problems, sandbox, names, out)
    word = "held" if supply == "hold" else "out of stock"
    return _result(f"{' and '.join(out)} {word} at creation", problems, f"{left} served; `up` named {', '.join(out)}")


def _plain_update(names: Sequence[str], out: Sequence[str]) -> Result:
    """As a person runs it, whose engine registers nothing after the first failure."""
    problems = _Problems()
    with fresh_sandbox(_NAME) as sandbox:
        for pool in out:
            sandbox.command("stock", pool, "out")
        sandbox.command("up", "--prepare")
        up = sandbox.pulumi("up", "--yes", "--skip-preview", "--non-interactive", check=False)
        problems.unless(up.returncode != 0, "`pulumi up` said that all was made")
        _check_words(problems, up.stdout, out)
        left = _served_by_the_best_of(problems, sandbox, [name for name in names if name not in out])
        _stock_returns(problems, sandbox, names, out)
    return _result(f"{' and '.join(out)} out of stock, plain `pulumi up`", problems, f"{left} served; it named them, too")


def _nothing_at_all(names: Sequence[str]) -> Result:
    problems = _Problems()
    with fresh_sandbox(_NAME) as sandbox:
        for pool in names:
            sandbox.command("stock", pool, "out")
        sandbox.command("up", "--prepare")
        started = time.monotonic()
        up = sandbox.pulumi(
            "up", "--yes", "--skip-preview", "--non-interactive", "--continue-on-error", check=False, overrides=_NO_SERVER_WAIT
        )
        seconds = time.monotonic() - started
        problems.unless(up.returncode != 0, "`pulumi up` said that all was made")
        _check_words(problems, up.stdout, names)
        problems.unless("timed out waiting to be Ready" in up.stdout, "the Deployment's time was not up")
        _stock_returns(problems, sandbox, names, names)
    return _result(
        "every pool out of stock at creation",
        problems,
        f"nothing can serve: `up` named every pool and ended with rolloutTimeoutSeconds (60 here, {seconds:.0f} s in all)",
    )


def _check_words(problems: _Problems, printed: str, out: Sequence[str]) -> None:
    """One message a pool: its name, the reason, the cures."""
    for pool in out:
        said = next((line for line in printed.splitlines() if f"warning: Accelerator pool {pool} " in line), "")
        for part in (
            "most likely since none is free there now",
            "enabled: false",
            "zones",
            "run the same update again",
        ):
            problems.unless(part in said, f"nothing said {part!r} of {pool}")


def _served_by_the_best_of(problems: _Problems, sandbox: Sandbox, left: Sequence[str]) -> str:
    """The pool that answers."""
    outputs = sandbox.outputs()
    if "service_url" not in outputs:
        problems.add("the stack has no service_url")
        return "nothing"
    view = _View(sandbox)
    problems.unless(_comes_true(lambda: view.serving() == Counter({left[0]: 1})), f"{dict(view.serving())} serve, not {left[0]}")
    try:
        return chat(outputs["service_url"], outputs["model"], "ping").pool
    except ServiceError as error:
        problems.add(str(error))
        return "nothing"


def _stock_returns(problems: _Problems, sandbox: Sandbox, names: Sequence[str], out: Sequence[str]) -> None:
    for pool in out:
        sandbox.command("stock", pool, "in")
    second = sandbox.command("up", check=False)
    problems.unless(second.returncode == 0, f"the second `up` ended with {second.returncode}")
    _check_home(problems, sandbox, _View(sandbox), Counter({names[0]: 1}))


def _check_home(problems: _Problems, sandbox: Sandbox, view: _View, home: Counter[str]) -> None:
    preview = sandbox.pulumi("preview", "--expect-no-changes", "--non-interactive", check=False)
    problems.unless(preview.returncode == 0, "the preview after it was not empty")
    problems.unless(_comes_true(lambda: view.serving() == home), f"{view.shown()}, not {_shown(home)}")


# --- while serving


def _while_serving(sandbox: Sandbox, view: _View, pools: Pools, out: Sequence[str], home: Counter[str]) -> Result:
    """Stock goes, and with it every machine of the pools, without notice; then stock comes back."""
    problems = _Problems()
    left = sum(int(pool["maxNodeCount"]) for pool in pools if pool["name"] not in out)
    wanted = min(_REPLICAS, left)
    traffic = _traffic(sandbox)
    for pool in out:
        sandbox.command("stock", pool, "out")
    view.lose_machines(out)
    # Replicas on lost machines are still counted for a moment.
    problems.unless(_comes_true(lambda: not view.nodes_of(out)), f"machines of {', '.join(out)} are still there")
    problems.unless(_comes_true(lambda: view.serving().total() == wanted), f"{view.shown()}, not {wanted}")
    # A pod of a lost machine is replaced, and so asks its pool for another, when the pod garbage collector has found it: up to 80 s.
    said = {name for name in out if _comes_true(lambda name=name: name in view.said_to_be_short())}  # type: ignore[misc]
    problems.unless(said == set(out), f"the class's status never named {', '.join(set(out) - said)}")
    on = view.serving()
    steady = time.monotonic()
    time.sleep(_STEADY_SECONDS)
    for pool in out:
        sandbox.command("stock", pool, "in")
    problems.unless(_comes_true(lambda: view.serving() == home), f"{view.shown()}, not {_shown(home)}")
    _check_home(problems, sandbox, view, home)
    report = traffic.stop()
    _check_steady(problems, report, steady)
    return _result(
        f"{' and '.join(out)} out of stock while serving, machines lost",
        problems,
        f"{_shown(on)} of {_REPLICAS} replicas served, then {_shown(home)} again; {_counts(report)}",
        report,
    )


def _held_while_serving(sandbox: Sandbox, view: _View, pools: Pools, home: Counter[str]) -> Result:
    """A request that is neither filled nor refused keeps a replica from the other pools; `enabled: false` lets it go."""
    problems = _Problems()
    best = str(pools[0]["name"])
    traffic = _traffic(sandbox)
    sandbox.command("stock", best, "hold")
    view.lose_machines([best])
    problems.unless(_comes_true(lambda: not view.nodes_of([best])), f"machines of {best} are still there")
    # The warm node takes one, and the last one waits for what does not come.
    problems.unless(_comes_true(lambda: view.serving().total() == _REPLICAS - 1), view.shown())
    time.sleep(_STEADY_SECONDS)
    waited = view.serving().total() == _REPLICAS - 1
    steady = time.monotonic()
    disabled = [{**pool, "enabled": False} if pool["name"] == best else dict(pool) for pool in pools]
    sandbox.pulumi(
        "up",
        "--yes",
        "--skip-preview",
        "--non-interactive",
        # An update brings the settings' number of replicas back, which `scale` had changed.
        overrides={"acceleratorPools": disabled, "replicas": _REPLICAS},
    )
    problems.unless(_comes_true(lambda: view.serving().total() == _REPLICAS), view.shown())
    on = view.serving()
    sandbox.command("stock", best, "in")
    # Brings the pool back, and the Deployment's one replica of the settings.
    sandbox.command("up")
    sandbox.command("scale", str(_REPLICAS))
    problems.unless(_comes_true(lambda: view.serving() == home), f"{view.shown()}, not {_shown(home)}")
    report = traffic.stop()
    _check_steady(problems, report, steady)
    held = "one replica waited" if waited else "no replica had to wait"
    return _result(
        f"{best} held while serving, machines lost",
        problems,
        f"{held} until `enabled: false`, then {_shown(on)}; {_shown(home)} again after the line was taken out; {_counts(report)}",
        report,
    )


def _traffic(sandbox: Sandbox) -> Traffic:
    outputs = sandbox.outputs()
    traffic = Traffic(outputs["service_url"], outputs["model"], rate=_RATE, max_tokens=(16,))
    traffic.start()
    return traffic


def _check_steady(problems: _Problems, report: Report, since: float) -> None:
    """Of requests in the seconds before stock came back, when nothing was lost any more."""
    late = [each for each in report.exchanges if since <= each.sent <= since + _STEADY_SECONDS]
    bad = [each.problem for each in late if each.result != "answered"]
    problems.unless(bool(late) and not bad, f"{len(bad)} of {len(late)} requests failed on what was left: {set(bad)}")


def _counts(report: Report) -> str:
    return f"of {len(report.exchanges)} requests {report.count('failed')} failed, {report.count('cut')} were cut"


# --- parts


class _View(ClusterView):
    """What the drill looks at, again and again."""

    def __init__(self, sandbox: Sandbox) -> None:
        super().__init__(sandbox.paths)
        api = config.new_client_from_config(str(sandbox.paths.kubeconfig))
        self._nodes = client.CoreV1Api(api)
        self._objects = client.CustomObjectsApi(api)

    def serving(self) -> Counter[str]:
        """Ready replicas by pool."""
        return Counter(str(pod["pool"]) for pod in self.pods() if pod["ready"] and pod["pool"])

    def shown(self) -> str:
        """Who serves, and why the others do not, as far as pods say it."""
        others = [f"{pod['name']} {pod['phase']} on {pod['node']}" for pod in self.pods() if not pod["ready"]]
        return "; ".join([f"{_shown(self.serving())} serve", *others])

    def nodes_of(self, pools: Sequence[str]) -> list[str]:
        return [node["name"] for node in self.nodes() if node["pool"] in pools]

    def lose_machines(self, pools: Sequence[str]) -> None:
        """At once, as when their hosts fail; of on-demand machines, too."""
        for node in self.nodes_of(pools):
            self._nodes.patch_node(node, {"metadata": {"annotations": {PREEMPTION_ANNOTATION: "0"}}})

    def said_to_be_short(self) -> set[str]:
        """Pools whose priority the ComputeClass's status calls suspended or constrained for want of machines."""
        found = set()
        for body in self._objects.list_cluster_custom_object("cloud.google.com", "v1", "computeclasses")["items"]:
            for status in (body.get("status") or {}).get("priorityStatuses") or []:
                if any(each["reason"] == "OutOfResources" for each in status["conditions"]):
                    found |= set(body["spec"]["priorities"][int(status["identifier"])]["nodepools"])
        return found


class _Problems:
    """What went otherwise than it should."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def add(self, problem: str) -> None:
        self.found.append(problem)

    def unless(self, right: bool, problem: str) -> None:
        if not right:
            self.add(problem)


def _result(event: str, problems: _Problems, recovery: str, report: Report | None = None) -> Result:
    return Result(
        event=event,
        tried=1,
        survived=0 if problems.found else 1,
        recovery="; ".join(problems.found) or recovery,
        longest_gap=report.longest_gap if report is not None else None,
    )


def _pools() -> list[dict[str, Any]]:
    return list(yaml.safe_load(stack_file("dev").read_text())["config"][f"{PROJECT_NAME}:acceleratorPools"])


def _shown(serving: Counter[str]) -> str:
    return " and ".join(f"{count} on {pool}" for pool, count in sorted(serving.items())) or "none"


def _comes_true(look: Callable[[], bool], seconds: float = _PATIENCE_SECONDS) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if look():
            return True
        time.sleep(0.3)
    return False
