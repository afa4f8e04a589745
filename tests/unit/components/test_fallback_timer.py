"""The fallback timer: what its program decides, what it asks of the API server in which order, and that it may do that alone."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from components.serving.fallback_program import HOLDS, Decision, decide, look
from tests.unit.program import Run, run_program
from tests.unit.sandbox.test_autoscaler import pod

POOLS = ("v6e-1", "l4-spot", "l4")
NOW = 1_800_000_000.0
AFTER, OUT = 600.0, 1800.0

CLASS_ROLE = "kubernetes:rbac.authorization.k8s.io/v1:ClusterRole"
ROLE = "kubernetes:rbac.authorization.k8s.io/v1:Role"


def _time(ago: float) -> str:
    return datetime.fromtimestamp(NOW - ago, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _replica(waits: float | None = None, **metadata: Any) -> Any:
    body = pod("vllm-1", None if waits is not None else "v6e-1-0")
    body["metadata"] |= metadata
    for condition in body["status"]["conditions"]:
        condition["lastTransitionTime"] = _time(waits or 0)
    return body


def _hold(pool: str, ago: float, node: str | None = None) -> Any:
    spec = {"nodeName": node} if node else {}
    return {"metadata": {"labels": {HOLDS: pool}, "creationTimestamp": _time(ago)}, "spec": spec}


def _decide(*pods: Any, pools: tuple[str, ...] = POOLS, changed: float = OUT) -> Decision:
    replicas = [each for each in pods if HOLDS not in each["metadata"].get("labels", {})]
    holds = [each for each in pods if each not in replicas]
    return decide(NOW, pools=pools, replicas=replicas, holds=holds, after=AFTER, out=OUT, since=NOW - changed)


@pytest.mark.parametrize(
    ("pods", "expected"),
    [
        # Nothing waits, or not for long enough, or only since the last change; an ending pod needs no node.
        ([_replica()], Decision(POOLS)),
        ([_replica(599)], Decision(POOLS)),
        ([_replica(3600, deletionTimestamp=_time(0))], Decision(POOLS)),
        # The pool that is tried first goes, then the next, and the last one never.
        ([_replica(600)], Decision(("l4-spot", "l4"), held="v6e-1")),
        ([_replica(1300), _hold("v6e-1", 700)], Decision(("l4",), held="l4-spot")),
        ([_replica(9000), _hold("v6e-1", 700), _hold("l4-spot", 650)], Decision(("l4",))),
        # It stays out while nothing waits any more, and comes back by a machine or by the time, not at once again.
        ([_replica(), _hold("v6e-1", 1799)], Decision(("l4-spot", "l4"))),
        ([_replica(), _hold("v6e-1", 60), _hold("v6e-1", 60, "gke-tpu-1")], Decision(POOLS, ("v6e-1",))),
        ([_replica(9000), _hold("v6e-1", 1800)], Decision(POOLS, ("v6e-1",))),
        # Of an earlier ladder.
        ([_replica(), _hold("v5e", 60), _hold("l4", 60)], Decision(POOLS, ("v5e", "l4"))),
    ],
)
def test_a_pool_that_keeps_replicas_waiting_goes_and_comes_back(pods: list[Any], expected: Decision) -> None:
    found = _decide(*pods)
    assert (tuple(found.priorities), tuple(found.comes_back), found.held) == (
        tuple(expected.priorities),
        tuple(expected.comes_back),
        expected.held,
    )


def test_the_time_begins_anew_with_each_change_of_the_class() -> None:
    assert _decide(_replica(9000), changed=599).held is None
    assert _decide(_replica(9000), changed=600).held == "v6e-1"


def test_placeholders_come_after_the_class_has_lost_the_pool_and_go_before_it_has_it_again() -> None:
    asked: list[tuple[str, Any]] = []

    class Cluster:
        def __init__(self, *pods: Any) -> None:
            self.replicas = lambda: [each for each in pods if HOLDS not in each["metadata"].get("labels", {})]
            self.holds = lambda: [each for each in pods if HOLDS in each["metadata"].get("labels", {})]

        def __getattr__(self, name: str) -> Any:
            return lambda argument: asked.append((name, tuple(argument) if isinstance(argument, list) else argument))

    times = {"pools": POOLS, "after": AFTER, "out": OUT, "since": 0.0}
    look(Cluster(_replica(10.0**9)), **times)  # type: ignore[arg-type]
    look(Cluster(_replica(), _hold("v6e-1", 10.0**9)), **times)  # type: ignore[arg-type]
    assert asked == [("set_priorities", POOLS[1:]), ("hold", "v6e-1"), ("let_go", "v6e-1"), ("set_priorities", POOLS)]


@pytest.fixture(scope="module")
def timed() -> Run:
    return run_program({"fallbackAfterMinutes": 15, "namespace": "inference"})


def test_its_account_may_change_one_class_list_the_servers_pods_and_make_its_own(timed: Run) -> None:
    may = {
        (each.inputs["metadata"].get("namespace"), *rule["resources"], *rule.get("resourceNames", []), *rule["verbs"])
        for each in [*timed.of_type(CLASS_ROLE), *timed.of_type(ROLE)]
        for rule in each.inputs["rules"]
    }
    assert may == {
        (None, "computeclasses", "vllm-fallback", "get", "patch"),
        ("inference", "pods", "list"),
        ("fallback-timer", "pods", "list", "create", "deletecollection"),
    }


def test_a_placeholder_takes_the_place_of_a_server_and_drives_none_out(timed: Run) -> None:
    program = next(each for each in timed.of_type("kubernetes:apps/v1:Deployment") if each.inputs["metadata"]["name"] == "fallback-timer")
    *_, source, argument = program.inputs["spec"]["template"]["spec"]["containers"][0]["command"]
    compile(source, "fallback_program", "exec")
    config = json.loads(argument)
    # One for each node that the pool may have.
    assert config["pools"] == {"v6e-1": 2, "l4-spot": 2, "l4": 2}
    placeholder = config["placeholders"]["v6e-1"]["spec"]
    assert placeholder["nodeSelector"]["cloud.google.com/gke-nodepool"] == "v6e-1"
    beside = placeholder["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][0]
    assert (beside["labelSelector"]["matchLabels"], beside["namespaces"]) == ({"app": "vllm"}, ["inference"])
    priority = timed.only("kubernetes:scheduling.k8s.io/v1:PriorityClass").inputs
    assert (priority["value"], priority["preemptionPolicy"]) == (1, "Never")


def test_the_class_s_priorities_are_the_timer_s_while_there_is_one(timed: Run) -> None:
    of_class = "kubernetes:cloud.google.com/v1:ComputeClass"
    assert timed.only(of_class).ignore_changes == ["spec.priorities"]
    assert run_program().only(of_class).ignore_changes == []
