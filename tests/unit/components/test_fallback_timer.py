"""The fallback timer: what its program decides, what it may do, and how its placeholders stand to servers."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from components.serving.fallback_program import HOLDS, Decision, decide
from tests.unit.program import Run, run_program
from tests.unit.sandbox.test_autoscaler import pod

POOLS = ("v6e-1", "l4-spot", "l4")
NOW = 1_800_000_000.0
AFTER = 600.0

ROLE = "kubernetes:rbac.authorization.k8s.io/v1:Role"


def _time(ago: float) -> str:
    return datetime.fromtimestamp(NOW - ago, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _replica(waits: float | None = None, **metadata: Any) -> Any:
    body = pod("vllm-1", None if waits is not None else "v6e-1-0")
    body["metadata"] |= metadata
    for condition in body["status"]["conditions"]:
        condition["lastTransitionTime"] = _time(waits or 0)
    return body


def _hold(pool: str, node: str | None = None) -> Any:
    return {"metadata": {"labels": {HOLDS: pool}}, "spec": {"nodeName": node} if node else {}}


def _decide(*pods: Any, changed: float = 10_000.0) -> Decision:
    replicas = [each for each in pods if HOLDS not in each["metadata"].get("labels", {})]
    return decide(
        NOW, pools=POOLS, replicas=replicas, holds=[each for each in pods if each not in replicas], after=AFTER, since=NOW - changed
    )


@pytest.mark.parametrize(
    ("pods", "passed_over", "comes_back"),
    [
        # Nothing waits, or not for long enough; an ending pod needs no node.
        ([_replica()], [], []),
        ([_replica(599)], [], []),
        ([_replica(3600, deletionTimestamp=_time(0))], [], []),
        # The pool that is tried first is passed over, then the next, and the last one never.
        ([_replica(600)], ["v6e-1"], []),
        ([_replica(1300), _hold("v6e-1")], ["l4-spot"], []),
        ([_replica(9000), _hold("v6e-1"), _hold("l4-spot")], [], []),
        # It stays so while nothing waits any more, until it has a machine; what else waits has another try then.
        ([_replica(), _hold("v6e-1")], [], []),
        ([_replica(9000), _hold("v6e-1"), _hold("v6e-1", "gke-tpu-1"), _hold("l4-spot")], [], ["v6e-1"]),
        # Of an earlier ladder.
        ([_replica(), _hold("v5e"), _hold("l4")], [], ["v5e", "l4"]),
    ],
)
def test_a_pool_that_keeps_replicas_waiting_is_passed_over_and_comes_back(
    pods: list[Any], passed_over: list[str], comes_back: list[str]
) -> None:
    found = _decide(*pods)
    assert (list(found.passed_over), list(found.comes_back)) == (passed_over, comes_back)


def test_the_time_begins_anew_with_each_decision() -> None:
    assert not _decide(_replica(9000), changed=599).passed_over
    assert _decide(_replica(9000), changed=600).passed_over


@pytest.fixture(scope="module")
def timed() -> Run:
    return run_program({"fallbackAfterMinutes": 15, "namespace": "inference"})


def test_its_account_may_list_the_servers_pods_and_make_its_own_and_nothing_else(timed: Run) -> None:
    may = {
        (each.inputs["metadata"]["namespace"], *rule["resources"], *rule["verbs"])
        for each in timed.of_type(ROLE)
        for rule in each.inputs["rules"]
    }
    assert may == {("inference", "pods", "list"), ("fallback-timer", "pods", "list", "create", "deletecollection")}
    assert not timed.of_type("kubernetes:rbac.authorization.k8s.io/v1:ClusterRole")


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
