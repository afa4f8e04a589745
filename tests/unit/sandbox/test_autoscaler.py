"""The autoscaler's decisions on snapshots of a cluster, without an API server."""

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kubernetes.client import ApiException

from components.catalog.node_labels import COMPUTE_CLASS_LABEL, NODE_POOL_LABEL
from sandbox.gke.autoscaler import Autoscaler
from sandbox.gke.cluster_view import ComputeClassRules, Snapshot
from sandbox.gke.node_pool import NodePool, node_allocatable, node_labels
from sandbox.google.latencies import Clock
from sandbox.google.stock import OutOfStockError

CLASS = "vllm-fallback"
ZONE = "asia-northeast1-b"


def pool(name: str, machine_type: str, *, nodes: int, low: int = 0, high: int = 2, **config: Any) -> NodePool:
    return NodePool(
        name=name,
        zones=[ZONE],
        nodes=[f"{name}-{number}" for number in range(nodes)],
        inputs={
            "autoscaling": {"minNodeCount": low, "maxNodeCount": high},
            "nodeConfig": {
                "machineType": machine_type,
                "labels": {COMPUTE_CLASS_LABEL: CLASS},
                "taints": [{"key": COMPUTE_CLASS_LABEL, "value": CLASS, "effect": "NO_SCHEDULE"}],
                **config,
            },
        },
    )


def ladder(tpu: int, spot: int, on_demand: int, *, warm: int = 1) -> dict[str, NodePool]:
    gpu: dict[str, Any] = {"guestAccelerators": [{"type": "nvidia-l4", "count": 1}]}
    return {
        "v6e-1": pool("v6e-1", "ct6e-standard-1t", nodes=tpu, low=1),
        "l4-spot": pool("l4-spot", "g2-standard-4", nodes=spot, preemptible=True, **gpu),
        "l4": pool("l4", "g2-standard-4", nodes=on_demand, low=warm, **gpu),
    }


RULES = ComputeClassRules(name=CLASS, rules=(("v6e-1",), ("l4-spot",), ("l4",)), active_migration=True, consolidation_delay_seconds=0.0)


def pod(name: str, node: str | None = None, *, ready: bool = True) -> dict[str, Any]:
    if node is None:
        conditions = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]
    else:
        conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    return {
        "metadata": {"name": name, "namespace": "default", "uid": name},
        "spec": {
            **({"nodeName": node} if node else {}),
            "nodeSelector": {COMPUTE_CLASS_LABEL: CLASS},
            "tolerations": [
                {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},
                {"key": "google.com/tpu", "operator": "Exists", "effect": "NoSchedule"},
                {"key": COMPUTE_CLASS_LABEL, "operator": "Equal", "value": CLASS, "effect": "NoSchedule"},
            ],
        },
        "status": {"conditions": conditions},
    }


class _Cluster:
    """The part of the node pools that the autoscaler uses; nodes come and go at once."""

    def __init__(self, pools: dict[str, NodePool]) -> None:
        self.by_name = pools
        self.lock = threading.RLock()
        self.clock = Clock(1000.0)
        self.added: list[str] = []
        self.removed: list[str] = []

    def add_node(self, name: str) -> str:
        self.added.append(name)
        node = next(f"{name}-{number}" for number in range(100) if f"{name}-{number}" not in self.by_name[name].nodes)
        self.by_name[name].nodes.append(node)
        return node

    def remove_node(self, name: str, node: str) -> None:
        self.removed.append(node)
        self.by_name[name].nodes.remove(node)


class _Scaler(Autoscaler):
    """Takes nodes away at once, in place of calling an API."""

    def __init__(self, cluster: _Cluster, state_dir: Path) -> None:
        super().__init__(cluster, None, state_dir=state_dir)  # type: ignore[arg-type]
        self.moved: list[str] = []
        self.events: list[str] = []

    def _move(self, pool: str, node: str, pods: list[dict[str, Any]]) -> bool:
        self.moved += [f"{pod['metadata']['name']} off {pool}" for pod in pods]
        self._pools.remove_node(pool, node)
        return True

    def _event(self, pod: dict[str, Any], reason: str, message: str, *, kind: str = "Normal") -> None:
        self.events.append(f"{reason}: {message}")

    def round(self, *pods: dict[str, Any], rules: ComputeClassRules = RULES, fresh: bool = False) -> bool:
        """`fresh`: the pods that are ready have just become so, and else they were a round ago."""
        if not fresh:
            self._at_rest = {pod["metadata"]["uid"] for pod in pods}
        settled = self._step(snapshot(self._pools.by_name, pods, rules))
        while self._growing:
            threading.Event().wait(0.001)
        return settled


def snapshot(pools: dict[str, NodePool], pods: tuple[dict[str, Any], ...], rules: ComputeClassRules = RULES) -> Snapshot:
    """Every node is ready that is not on its way."""
    nodes = {
        name: {
            "metadata": {"name": name, "labels": node_labels(each, node=name, zone=ZONE)},
            "spec": {},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        }
        for each in pools.values()
        for name in each.nodes
        if name not in each.joining
    }
    return Snapshot(classes=(rules,), nodes=nodes, pods=pods)


@pytest.fixture
def scaler_of(tmp_path: Path) -> Any:
    def make(**sizes: int) -> tuple[_Scaler, _Cluster]:
        cluster = _Cluster(ladder(**sizes))
        return _Scaler(cluster, tmp_path), cluster

    return make


@pytest.mark.parametrize(
    ("sizes", "nodes", "moved", "added"),
    [
        # A pending pod gets a node of the first pool with room; a full pool is passed over.
        ((1, 0, 1), ("v6e-1-0", "l4-0", None), [], ["v6e-1"]),
        ((2, 0, 1), ("v6e-1-0", "v6e-1-1", "l4-0", None), [], ["l4-spot"]),
        # A replica moves up only from a pool above its minimum, and a better pool that may grow does so before anything is evicted.
        ((2, 1, 1), ("v6e-1-0", "l4-spot-0", "l4-0"), ["1 off l4-spot"], []),
        ((1, 1, 1), ("v6e-1-0", "l4-spot-0", "l4-0"), [], ["v6e-1"]),
    ],
)
def test_pools_grow_and_replicas_move_by_the_rules(
    scaler_of: Any, sizes: tuple[int, int, int], nodes: tuple[str | None, ...], moved: list[str], added: list[str]
) -> None:
    scaler, cluster = scaler_of(**dict(zip(("tpu", "spot", "on_demand"), sizes, strict=True)))
    scaler.round(*(pod(str(number), node) for number, node in enumerate(nodes)))
    assert (scaler.moved, cluster.added) == (moved, added)


def test_an_expected_node_holds_a_pod_until_one_of_a_higher_priority_takes_its_place(scaler_of: Any) -> None:
    scaler, cluster = scaler_of(tpu=1, spot=0, on_demand=1)
    cluster.by_name["v6e-1"].nodes.append("v6e-1-x")
    cluster.by_name["v6e-1"].joining["v6e-1-x"] = ZONE
    # Whether the class names the pool or not.
    rules = replace(RULES, rules=RULES.rules[1:], active_migration=False)
    serving = (pod("a", "v6e-1-0"), pod("z", "l4-0"))
    scaler.round(*serving, pod("b"), rules=rules)
    assert cluster.added == []
    placeholder = pod("p")
    placeholder["spec"]["priority"] = 1
    placeholder["spec"]["nodeSelector"] = {COMPUTE_CLASS_LABEL: CLASS, NODE_POOL_LABEL: "v6e-1"}
    scaler.round(*serving, pod("b"), placeholder, rules=rules)
    assert cluster.added == ["l4-spot"]


def test_a_pool_without_stock_is_not_tried_again_for_a_while(scaler_of: Any) -> None:
    scaler, cluster = scaler_of(tpu=1, spot=0, on_demand=1)
    real = cluster.add_node

    def out_of_stock(name: str) -> str:
        if name == "v6e-1":
            raise OutOfStockError("[GCE_STOCKOUT]", seconds=60.0)
        return str(real(name))

    cluster.add_node = out_of_stock
    scaler.round(pod("a", "v6e-1-0"), pod("z", "l4-0"), pod("b"))
    scaler.round(pod("a", "v6e-1-0"), pod("z", "l4-0"), pod("b"))
    assert cluster.added == ["l4-spot"]
    assert (
        "FailedScaleUp: Node scale up in zones asia-northeast1-b associated with this pod failed: GCE out of resources. "
        "Pod is at risk of not being scheduled."
    ) in scaler.events


def test_a_replica_leaves_a_pool_out_of_service_for_a_new_node_of_the_others_and_the_pool_s_node_goes(scaler_of: Any) -> None:
    scaler, cluster = scaler_of(tpu=1, spot=0, on_demand=0, warm=0)
    cluster.by_name["v6e-1"].inputs["autoscaling"]["minNodeCount"] = 0
    without_tpu = replace(RULES, rules=RULES.rules[1:])
    for _ in range(2):
        scaler.round(pod("a", "v6e-1-0"), rules=without_tpu)
    assert (cluster.added, scaler.moved, cluster.removed) == (["l4-spot"], ["a off v6e-1"], ["v6e-1-0"])


def test_nothing_moves_while_a_replica_is_still_starting(scaler_of: Any) -> None:
    scaler, _cluster = scaler_of(tpu=2, spot=1, on_demand=1)
    scaler.round(pod("a", "v6e-1-0", ready=False), pod("b", "l4-spot-0", ready=False))
    assert scaler.moved == []


def test_a_replica_that_is_just_ready_stays_for_a_round_and_is_not_settled_until_then(scaler_of: Any) -> None:
    scaler, _cluster = scaler_of(tpu=2, spot=1, on_demand=1)
    assert not scaler.round(pod("c", "l4-spot-0"), fresh=True)
    assert scaler.moved == []
    scaler.round(pod("c", "l4-spot-0"), fresh=True)
    assert scaler.moved == ["c off l4-spot"]


def test_without_active_migration_nothing_moves(scaler_of: Any) -> None:
    scaler, _cluster = scaler_of(tpu=2, spot=1, on_demand=1)
    rules = replace(RULES, active_migration=False, consolidation_delay_seconds=1000.0)
    assert scaler.round(pod("c", "l4-spot-0"), rules=rules)
    assert scaler.moved == []


def test_replicas_move_off_a_pool_that_no_priority_names(scaler_of: Any) -> None:
    scaler, cluster = scaler_of(tpu=1, spot=1, on_demand=0, warm=0)
    cluster.by_name["v6e-1"].inputs["autoscaling"]["minNodeCount"] = 0
    scaler.round(pod("a", "v6e-1-0"), rules=replace(RULES, rules=RULES.rules[1:]))
    assert scaler.moved == ["a off v6e-1"]


@pytest.mark.parametrize("refused", [False, True])
def test_a_node_is_closed_and_emptied_only_where_disruption_budgets_allow_it(tmp_path: Path, refused: bool) -> None:
    asked: list[tuple[str, str | None]] = []

    class Core:
        def patch_node(self, name: str, body: dict[str, Any]) -> None:
            asked.append((f"unschedulable {body['spec']['unschedulable']}", None))

        def create_namespaced_pod_eviction(self, name: str, namespace: str, body: Any, dry_run: str | None = None) -> None:
            asked.append((name, dry_run))
            if refused:
                raise ApiException(status=429)

        def create_namespaced_event(self, namespace: str, body: Any) -> None:
            asked.append((body.reason, None))

    cluster = _Cluster(ladder(1, 1, 1))
    scaler = Autoscaler(cluster, None, state_dir=tmp_path)  # type: ignore[arg-type]
    scaler._core = Core()
    assert scaler._move("l4-spot", "l4-spot-0", [pod("a", "l4-spot-0")]) is not refused
    while scaler._leaving:
        threading.Event().wait(0.001)
    done = [("unschedulable True", None), ("a", None), ("ScaleDown", None)]
    assert asked == [("a", "All"), *([] if refused else done)]
    assert cluster.removed == ([] if refused else ["l4-spot-0"])


def test_idle_nodes_above_the_minimum_go_away_and_the_rest_stays(scaler_of: Any) -> None:
    scaler, cluster = scaler_of(tpu=2, spot=1, on_demand=1)
    for _ in range(5):
        scaler.round(pod("a", "v6e-1-0"))
    assert cluster.removed == ["v6e-1-1", "l4-spot-0"]
    assert scaler.round(pod("a", "v6e-1-0"))


def test_a_node_offers_its_accelerators_and_what_gke_leaves_of_the_machine() -> None:
    pools = ladder(1, 1, 1)
    assert node_allocatable(pools["v6e-1"])["google.com/tpu"] == "1"
    l4 = node_allocatable(pools["l4"])
    assert (l4["nvidia.com/gpu"], l4["cpu"]) == ("1", "3920m")
    # 100 GB: room for one limit of 43Gi and not for two, as the walkthrough relies on.
    assert 43 * 2**30 < int(l4["ephemeral-storage"]) < 2 * 43 * 2**30
