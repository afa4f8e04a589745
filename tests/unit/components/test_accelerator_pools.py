"""The node pools: what each key of a pool's settings becomes, and what keeps pools apart."""

from __future__ import annotations

import json
from typing import Any

import pytest

from components.settings.accelerator_pool import KEYS, parse_pools
from tests.unit.inventory import left_on
from tests.unit.program import NAMESPACE, Run, config, run_program

NODE_POOL = "gcp:container/nodePool:NodePool"
MULTI_GPU = {"name": "l4", "machineType": "g2-standard-24", "maxNodeCount": 2}


def _pools() -> list[dict[str, Any]]:
    pools: list[dict[str, Any]] = json.loads(config()[f"{NAMESPACE}:acceleratorPools"])
    return pools


def _pool_run(pool: dict[str, Any], **settings: Any) -> Run:
    return run_program({"acceleratorPools": [pool], **settings})


def _pool_inputs(pool: dict[str, Any]) -> dict[str, Any]:
    return _pool_run(pool).named(NODE_POOL, pool["name"]).inputs


@pytest.fixture(scope="module")
def dev() -> Run:
    return run_program()


@pytest.fixture(scope="module")
def base() -> Run:
    """A stack with one GPU pool, of which every key of `CHANGES` is changed."""
    return _pool_run(_pools()[2])


def _at(inputs: dict[str, Any], path: str) -> Any:
    value: Any = inputs
    for step in path.split("."):
        value = value[int(step)] if isinstance(value, list) else value.get(step)
    return value


# Key of a pool -> a value for the third pool of the dev environment, the input that it changes, and what that becomes.
CHANGES: dict[str, tuple[Any, str, Any]] = {
    "name": ("l4-other", "name", "l4-other"),
    "machineType": ("g2-standard-8", "nodeConfig.machineType", "g2-standard-8"),
    "gpuDriverVersion": ("DEFAULT", "nodeConfig.guestAccelerators.0.gpuDriverInstallationConfig.gpuDriverVersion", "DEFAULT"),
    "provisioning": ("spot", "nodeConfig.spot", True),
    "locationPolicy": ("ANY", "autoscaling.locationPolicy", "ANY"),
    "nodeCounts": ("total", "autoscaling.totalMaxNodeCount", 2),
    "initialNodeCount": (2, "initialNodeCount", 2),
    "minNodeCount": (0, "autoscaling.minNodeCount", 0),
    "maxNodeCount": (5, "autoscaling.maxNodeCount", 5),
    "zones": (["asia-northeast1-a", "asia-northeast1-c"], "nodeLocations", ["asia-northeast1-a", "asia-northeast1-c"]),
    "diskSizeGb": (200, "nodeConfig.diskSizeGb", 200),
    "secondaryBootDiskImage": (
        "global/images/vllm",
        "nodeConfig.secondaryBootDisks",
        [{"diskImage": "global/images/vllm", "mode": "CONTAINER_IMAGE_CACHE"}],
    ),
}

#: What a machine carries follows from its type; these keys say it again, and a contradiction is refused.
ASSERTIONS = {"accelerator": "nvidia-l4", "acceleratorCount": 1, "tpuTopology": "1x1"}

#: Of one way to buy nodes alone: `CAPACITY`.
OF_CAPACITY = {"maxRunDays", "reservation"}


def test_every_key_of_a_pool_is_covered_here() -> None:
    assert {*CHANGES, *ASSERTIONS, *OF_CAPACITY, "enabled"} == set(KEYS)


def test_disabled_pool_stays_and_gives_its_idle_nodes_back(dev: Run) -> None:
    pools = _pools()
    pools[0]["enabled"] = False
    run = run_program({"acceleratorPools": pools})
    assert set(run.resources) == set(dev.resources)
    before, after = (each.named(NODE_POOL, "v6e-1").inputs for each in (dev, run))
    # An existing pool ignores the initial count, so nothing is replaced.
    changed = {key for key in before if before[key] != after.get(key)}
    assert changed == {"autoscaling", "initialNodeCount"}
    assert after["autoscaling"] == {"minNodeCount": 0, "maxNodeCount": 2, "locationPolicy": "BALANCED"}
    for name in ("l4-spot", "l4"):
        assert run.named(NODE_POOL, name).inputs == dev.named(NODE_POOL, name).inputs


@pytest.mark.parametrize("key", CHANGES)
def test_key_of_a_pool_reaches_its_node_pool_and_leaves_it_again(key: str, base: Run) -> None:
    value, path, expected = CHANGES[key]
    pool = {**_pools()[2], key: value}
    # With a base image that every driver runs.
    changed = _pool_run(pool, gpuBaseImage="docker.io/vllm/vllm-openai:v0.31.0-cu129")
    assert _at(base.named(NODE_POOL, "l4").inputs, path) != expected
    assert _at(changed.named(NODE_POOL, pool["name"]).inputs, path) == expected
    assert left_on(changed, base) == left_on(base, changed) == []


def test_a_machines_accelerator_need_not_be_set() -> None:
    said = [{**_pools()[0], "tpuTopology": ASSERTIONS["tpuTopology"]}, *_pools()[1:]]
    unsaid = [{key: value for key, value in pool.items() if key not in ASSERTIONS} for pool in said]
    one, other = (
        {each.name: each.inputs for each in run_program({"acceleratorPools": pools}).of_type(NODE_POOL)} for pools in (said, unsaid)
    )
    assert one == other


T4 = {"name": "t4", "machineType": "n1-standard-8", "acceleratorCount": 4, "maxNodeCount": 2}


@pytest.mark.parametrize(("pool", "expected"), [(MULTI_GPU, ("nvidia-l4", 2)), (T4, ("nvidia-tesla-t4", 4))])
def test_gpu_pool_declares_all_gpus_of_its_machine(pool: dict[str, Any], expected: tuple[str, int]) -> None:
    (accelerator,) = _pool_inputs(pool)["nodeConfig"]["guestAccelerators"]
    assert (accelerator["type"], accelerator["count"]) == expected


_BY_NAME = {"consumeReservationType": "SPECIFIC_RESERVATION", "key": "compute.googleapis.com/reservation-name"}

#: A way to buy nodes -> what nodeConfig says of it, the location policy, repairs, and surge nodes.
CAPACITY: dict[str, tuple[dict[str, Any], dict[str, Any], str, bool, int | None]] = {
    "on demand": ({}, {}, "BALANCED", True, 1),
    "preemptible": ({"provisioning": "preemptible"}, {"preemptible": True}, "ANY", True, 1),
    "flex-start": ({"provisioning": "flex-start", "maxRunDays": 2},
        {"flexStart": True, "maxRunDuration": "172800s", "reservationAffinity": {"consumeReservationType": "NO_RESERVATION"}},
        "ANY", False, None),
    "a reservation": ({"provisioning": "reservation", "reservation": "projects/shared-1/reservations/l4"},
        {"reservationAffinity": {**_BY_NAME, "values": ["projects/shared-1/reservations/l4"]}}, "ANY", True, 0),
    "a block of a reservation": ({"provisioning": "reservation", "reservation": "l4/reservationBlocks/b-1", "locationPolicy": "BALANCED"},
        {"reservationAffinity": {**_BY_NAME, "values": ["l4/reservationBlocks/b-1"]}}, "BALANCED", True, 0),
}  # fmt: skip


@pytest.mark.parametrize("way", CAPACITY)
def test_capacity_is_bought_as_the_pool_says(way: str) -> None:
    keys, config, policy, repaired, surge = CAPACITY[way]
    inputs = _pool_inputs({"name": "l4", "machineType": "g2-standard-4", "maxNodeCount": 2, **keys})
    bought = {"spot", "preemptible", "flexStart", "maxRunDuration", "reservationAffinity"}
    assert {key: value for key, value in inputs["nodeConfig"].items() if key in bought} == config
    assert inputs["autoscaling"]["locationPolicy"] == policy
    assert inputs["management"]["autoRepair"] is repaired
    assert inputs.get("upgradeSettings", {}).get("maxSurge") == surge


def test_limits_in_total_count_the_zones_together() -> None:
    zones = ["asia-northeast1-a", "asia-northeast1-c"]
    pool = {"name": "l4", "machineType": "g2-standard-4", "minNodeCount": 1, "maxNodeCount": 3, "nodeCounts": "total", "zones": zones}
    inputs = _pool_inputs(pool)
    assert inputs["autoscaling"] == {"totalMinNodeCount": 1, "totalMaxNodeCount": 3, "locationPolicy": "BALANCED"}
    assert inputs["initialNodeCount"] == 0
    (found,) = parse_pools([pool], region="asia-northeast1", zone=zones[0])[0]
    assert (found.min_nodes, found.max_nodes) == (1, 3)
