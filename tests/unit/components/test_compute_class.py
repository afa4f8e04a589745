"""The ComputeClass: rules in the order of the list, and weights by which the scheduler follows the same order."""

from __future__ import annotations

import itertools
import json

import pytest

from components.cluster.compute_class import preference_weights
from components.settings.accelerator_pool import MAX_POOLS
from tests.unit.program import NAMESPACE, config, run_program


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


def test_disabled_pool_is_in_no_rule_and_the_class_says_that_it_is_meant() -> None:
    pools = json.loads(config()[f"{NAMESPACE}:acceleratorPools"])
    pools[0]["enabled"] = False
    spec = run_program({"acceleratorPools": pools}).only("kubernetes:cloud.google.com/v1:ComputeClass").inputs["spec"]
    assert spec["priorities"] == [{"nodepools": ["l4-spot"]}, {"nodepools": ["l4"]}]
    assert "on purpose (enabled: false)" in spec["description"]
    assert spec["description"].endswith(": v6e-1")
