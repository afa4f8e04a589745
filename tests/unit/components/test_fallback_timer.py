"""The fallback timer: what its program decides, what it may do, and how its placeholders stand to servers."""

from __future__ import annotations

import json
import time
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest

from components.serving.fallback_program import HOLDS, Decision, decide, look
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
        NOW,
        pools=POOLS,
        replicas=replicas,
        holds=[each for each in pods if each not in replicas],
        after=AFTER,
        since=NOW - changed,
        in_vain={},
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


class _Cluster:
    """An API server that makes `allowed` placeholders and then fails."""

    def __init__(self, *pods: Any) -> None:
        self.pods, self.made, self.allowed = list(pods), list[Any](), 99

    def replicas(self) -> list[Any]:
        return self.pods

    def holds(self) -> list[Any]:
        return self.made

    def hold(self, pool: str, count: int) -> None:
        for _ in range(count):
            if len(self.made) == self.allowed:
                raise OSError("the API server is away")
            self.made.append(_hold(pool))

    def let_go(self, pool: str) -> None:
        self.made = [each for each in self.made if each["metadata"]["labels"][HOLDS] != pool]


def _look(cluster: Any, in_vain: Counter[str], changed: float = 600.0) -> bool:
    return look(cluster, pools={"v6e-1": 3, "l4": 2}, after=AFTER, since=NOW - changed, in_vain=in_vain)


def test_placeholders_that_could_not_be_made_are_made_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: NOW)
    cluster = _Cluster(_replica(9000))
    cluster.allowed = 1
    with pytest.raises(OSError, match="away"):
        _look(cluster, Counter())
    cluster.allowed = 99
    assert not _look(cluster, Counter(), changed=0)
    assert cluster.made == [_hold("v6e-1")] * 3


def test_a_replica_that_machines_do_not_cure_waits_twice_as_long_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: NOW)
    in_vain: Counter[str] = Counter()
    cluster = _Cluster(_replica(99_000))
    for waited in (600.0, 1200.0, 2400.0):
        assert not _look(cluster, in_vain, changed=waited - 1)
        assert _look(cluster, in_vain, changed=waited)
        cluster.made[0]["spec"]["nodeName"] = "gke-tpu-1"
        assert _look(cluster, in_vain)
        assert not cluster.made


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
