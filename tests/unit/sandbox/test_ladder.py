"""Where replicas end up by GKE's rules: rollouts, migrations and consolidations played through on the sandbox's autoscaler.

The scheduler and the Deployment's controller are the few lines below; docs/ladder.md says what follows from these cases.
"""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sandbox.gke.cluster_view import Snapshot
from sandbox.gke.consolidation import unneeded_nodes, utilisation
from sandbox.gke.node_pool import node_allocatable
from tests.unit.sandbox.test_autoscaler import RULES, _Cluster, _Scaler, ladder, pod, snapshot

NO_MIGRATION = replace(RULES, active_migration=False)


class World:
    """Replicas by name on the ladder's nodes; `warm` is the minimum of the last rung, `asks` what a replica requests of devices."""

    def __init__(
        self, state: Path, *, warm: int, tpu: int = 1, tpu_maximum: int = 2, replicas: int = 1, asks: dict[str, str] | None = None
    ) -> None:
        self.pools = ladder(tpu=tpu, spot=0, on_demand=warm, warm=warm)
        self.pools["v6e-1"].inputs["autoscaling"]["minNodeCount"] = tpu
        self.pools["v6e-1"].inputs["autoscaling"]["maxNodeCount"] = tpu_maximum
        self.scaler = _Scaler(_Cluster(self.pools), state)
        self.where: dict[str, str | None] = {f"old-{number}": None for number in range(replicas)}
        self.annotations: dict[str, str] = {}
        self.requests: dict[str, dict[str, str]] = dict.fromkeys(self.pools, asks or {})
        self._asks = asks or {}
        self.settle()

    def pods(self) -> tuple[dict[str, Any], ...]:
        made = []
        for name, node in self.where.items():
            each = pod(name, node)
            each["metadata"]["annotations"] = self.annotations
            pool = node.rpartition("-")[0] if node else ""
            each["spec"]["containers"] = [{"resources": {"requests": self.requests.get(pool, self._asks)}}]
            made.append(each)
        return tuple(made)

    def settle(self, *, rules: Any = RULES) -> None:
        """Until nothing has changed for a few rounds."""
        quiet = 0
        while quiet < 4:
            before = (dict(self.where), {name: list(pool.nodes) for name, pool in self.pools.items()})
            self._schedule()
            moved = len(self.scaler.moved)
            self.scaler.round(*self.pods(), rules=rules)
            for each in self.scaler.moved[moved:]:
                # Its ReplicaSet makes another one in its place.
                self.where[each.split()[0]] = None
            self._schedule()
            after = (dict(self.where), {name: list(pool.nodes) for name, pool in self.pools.items()})
            quiet = quiet + 1 if before == after else 0

    def _schedule(self) -> None:
        """The scheduler: the best free node by the pods' weighted affinity."""
        for name, node in self.where.items():
            if node is None:
                taken = set(self.where.values())
                able = [pool for pool in self.pools.values() if self._asks.keys() <= node_allocatable(pool).keys()]
                free = [each for pool in able for each in pool.nodes if each not in taken]
                self.where[name] = free[0] if free else None

    def roll_out(self, **options: Any) -> None:
        """One replica at a time, the new one first (maxSurge 1, maxUnavailable 0)."""
        for name in list(self.where):
            self.where[f"{name}+"] = None
            for _ in range(3):
                self._schedule()
                self.scaler.round(*self.pods(), **options)
            self._schedule()
            assert self.where[f"{name}+"] is not None
            del self.where[name]
            self.where[name] = self.where.pop(f"{name}+")
        self.settle(**options)

    @property
    def rungs(self) -> dict[str, int]:
        return dict(Counter(str(node).rpartition("-")[0] for node in self.where.values()))


def test_with_a_warm_lower_rung_a_rollout_leaves_the_tpu_and_stays_away(tmp_path: Path) -> None:
    world = World(tmp_path, warm=1)
    assert world.rungs == {"v6e-1": 1}
    ends = []
    for _ in range(3):
        world.roll_out()
        ends.append(world.rungs)
    # The surge pod takes the only free node there is, and nothing takes it away from there.
    assert ends == [{"l4": 1}, {"v6e-1": 1}, {"l4": 1}]
    assert len(world.pools["v6e-1"].nodes) == 1


@pytest.mark.parametrize(("replicas", "tpu", "maximum"), [(1, 1, 2), (2, 2, 4)], ids=["one replica", "two, as prod"])
def test_without_one_three_rollouts_in_a_row_end_on_the_tpu(tmp_path: Path, replicas: int, tpu: int, maximum: int) -> None:
    world = World(tmp_path, warm=0, replicas=replicas, tpu=tpu, tpu_maximum=maximum)
    for _ in range(3):
        world.roll_out()
        assert world.rungs == {"v6e-1": replicas}
    # What the surge took is given back.
    assert {name: len(pool.nodes) for name, pool in world.pools.items()} == {"v6e-1": tpu, "l4-spot": 0, "l4": 0}


def test_without_one_a_rollout_with_no_spare_tpu_comes_back_to_it(tmp_path: Path) -> None:
    world = World(tmp_path, warm=0, tpu_maximum=1)
    for _ in range(3):
        world.roll_out()
        assert world.rungs == {"v6e-1": 1}
    assert world.scaler.moved == ["old-0 off l4-spot"] * 3


def test_two_replicas_with_a_warm_lower_rung_leave_one_tpu_idle_for_good(tmp_path: Path) -> None:
    world = World(tmp_path, warm=1, replicas=2, tpu=2, tpu_maximum=4)
    world.roll_out()
    world.settle()
    assert world.rungs == {"v6e-1": 1, "l4": 1}
    assert len(world.pools["v6e-1"].nodes) == 2


def _grown(state: Path, *, warm: int) -> World:
    """Two replicas on TPUs, of which the pool's minimum is one."""
    world = World(state, warm=warm, tpu=2, replicas=2)
    world.pools["v6e-1"].inputs["autoscaling"]["minNodeCount"] = 1
    return world


@pytest.mark.parametrize(("warm", "rungs"), [(1, {"v6e-1": 1, "l4": 1}), (0, {"v6e-1": 2})])
def test_a_replica_above_the_minimum_is_consolidated_onto_an_idle_lower_node(tmp_path: Path, warm: int, rungs: dict[str, int]) -> None:
    world = _grown(tmp_path, warm=warm)
    world.settle()
    assert world.rungs == rungs


@pytest.mark.parametrize("stop", ["request", "annotation"])
def test_a_requested_accelerator_and_an_annotation_stop_consolidation(tmp_path: Path, stop: str) -> None:
    world = _grown(tmp_path, warm=1)
    if stop == "request":
        world.requests = {"v6e-1": {"google.com/tpu": "1"}}
    else:
        world.annotations = {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}
    world.settle()
    assert world.rungs == {"v6e-1": 2}


def test_an_annotation_stops_the_way_up_as_well(tmp_path: Path) -> None:
    world = World(tmp_path, warm=0, tpu_maximum=1)
    world.annotations = {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}
    world.roll_out()
    assert world.rungs == {"l4-spot": 1}


# The other designs of docs/ladder.md.


def test_replicas_that_request_a_tpu_stay_on_tpus_beside_a_warm_gpu_and_never_fall_to_it(tmp_path: Path) -> None:
    world = World(tmp_path, warm=1, asks={"google.com/tpu": "1"})
    for _ in range(3):
        world.roll_out()
        assert world.rungs == {"v6e-1": 1}
    world.pools["v6e-1"].inputs["autoscaling"]["maxNodeCount"] = 1
    world.where["another"] = None
    world.settle()
    # The warm node is free, and its pool may grow.
    assert world.where["another"] is None
    assert len(world.pools["l4"].nodes) == 1


def test_a_resource_of_an_own_device_plugin_gets_no_first_node_and_is_no_use_of_one(tmp_path: Path) -> None:
    world = World(tmp_path, warm=0, asks={"fungibility.example/accelerator": "1"})
    assert world.where == {"old-0": None}
    assert utilisation(world.pods(), 1) == 0.0


def test_active_migration_moves_a_replica_down_to_an_idle_node(tmp_path: Path) -> None:
    """Priority counts for new nodes only."""
    world = World(tmp_path, warm=1, replicas=1)
    world.pools["l4-spot"].nodes.append("l4-spot-0")
    world.where = {"a": "v6e-1-0", "b": "l4-spot-0"}
    world.pools["v6e-1"].inputs["autoscaling"]["maxNodeCount"] = 1
    world.settle()
    assert world.rungs == {"v6e-1": 1, "l4": 1}


def test_an_idle_node_above_the_minimum_is_no_place_to_move_to() -> None:
    pools = ladder(tpu=2, spot=1, on_demand=0, warm=0)
    seen: Snapshot = snapshot(pools, (pod("a", "v6e-1-0"), pod("b", "v6e-1-1")), NO_MIGRATION)
    assert dict(unneeded_nodes(seen, list(pools.values()), ())) == {"l4-spot-0": []}


def test_use_is_the_accelerator_s_alone() -> None:
    busy = pod("a", "v6e-1-0")
    busy["spec"]["containers"] = [{"resources": {"requests": {"cpu": "40", "memory": "170Gi"}}}]
    assert utilisation([busy], 1) == 0.0
    busy["spec"]["containers"] = [{"resources": {"requests": {"google.com/tpu": "4"}}}]
    assert utilisation([busy], 4) == 1.0
