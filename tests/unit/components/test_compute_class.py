"""The ComputeClass: rules in the order of the list, and weights by which the scheduler follows the same order."""

from __future__ import annotations

import itertools
import json

import pytest

from components.cluster.compute_class import compute_class_spec, preference_weights
from components.settings.accelerator_pool import MAX_POOLS
from components.settings.sections import AcceleratorSettings
from components.settings.settings import load_stack
from tests.unit.program import NAMESPACE, config, run_program


def _args(*names: str, active_migration: bool = True) -> AcceleratorSettings:
    pools = [{"name": name, "machineType": "g2-standard-4", "maxNodeCount": 2} for name in names]
    overrides = {"acceleratorPools": pools, "activeMigration": active_migration, "consolidationDelayMinutes": 7}
    return load_stack("dev", {"gcp:project": "my-project", **overrides}).accelerators


def test_rules_name_one_pool_each_in_order_and_hold_nothing_else() -> None:
    spec = compute_class_spec(_args("v6e-1", "l4-spot", "l4"))
    assert spec["priorities"] == [{"nodepools": ["v6e-1"]}, {"nodepools": ["l4-spot"]}, {"nodepools": ["l4"]}]


def test_pods_that_no_pool_has_room_for_stay_pending() -> None:
    assert compute_class_spec(_args("l4"))["whenUnsatisfiable"] == "DoNotScaleUp"


@pytest.mark.parametrize("active", [True, False])
def test_active_migration_follows_the_setting(active: bool) -> None:
    spec = compute_class_spec(_args("l4", active_migration=active))
    assert spec["activeMigration"] == {"optimizeRulePriority": active}


def test_idle_nodes_go_after_the_delay_of_the_settings() -> None:
    assert compute_class_spec(_args("l4"))["autoscalingPolicy"] == {"consolidationDelayMinutes": 7}


@pytest.mark.parametrize("count", range(1, MAX_POOLS + 1))
def test_weights_fall_strictly_from_100_within_kubernetes_s_range(count: int) -> None:
    weights = list(preference_weights([f"pool-{index}" for index in range(count)]).values())
    assert weights[0] == 100
    assert all(one > other for one, other in itertools.pairwise(weights))
    assert weights[-1] >= 1


def test_weights_of_more_pools_than_there_are_weights_never_rise_and_stay_in_range() -> None:
    weights = list(preference_weights([f"pool-{index}" for index in range(300)]).values())
    assert weights == sorted(weights, reverse=True)
    assert (weights[0], weights[-1]) == (100, 1)
    # Neighbours share a weight, three pools or four one.
    assert max(weights.count(each) for each in weights) <= 4


def test_disabled_pool_is_in_no_rule() -> None:
    pools = json.loads(config()[f"{NAMESPACE}:acceleratorPools"])
    pools[0]["enabled"] = False
    spec = run_program({"acceleratorPools": pools}).only("kubernetes:cloud.google.com/v1:ComputeClass").inputs["spec"]
    assert spec["priorities"] == [{"nodepools": ["l4-spot"]}, {"nodepools": ["l4"]}]
