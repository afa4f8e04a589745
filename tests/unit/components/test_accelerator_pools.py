"""The node pools: what each key of a pool's settings becomes, and what keeps pools apart."""

from __future__ import annotations

import json
from typing import Any

import pytest

from components.settings.accelerator_pool import KEYS
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
ASSERTIONS = {"accelerator": "nvidia-l4", "tpuTopology": "1x1"}


def test_every_key_of_a_pool_is_covered_here() -> None:
    assert {*CHANGES, *ASSERTIONS, "enabled"} == set(KEYS)


def test_disabled_pool_stays_and_gives_its_idle_nodes_back(dev: Run) -> None:
    pools = _pools()
    pools[0]["enabled"] = False
    run = run_program({"acceleratorPools": pools})
    assert set(run.resources) == set(dev.resources)
    before, after = (each.named(NODE_POOL, "v6e-1").inputs for each in (dev, run))
    # An existing pool ignores the initial count, so nothing is replaced.
    changed = {key for key in before if before[key] != after.get(key)}
    assert changed == {"autoscaling", "initialNodeCount"}
    assert after["autoscaling"] == {"minNodeCount": 0, "maxNodeCount": 2}
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


def test_gpu_pool_declares_all_gpus_of_its_machine() -> None:
    (accelerator,) = _pool_inputs(MULTI_GPU)["nodeConfig"]["guestAccelerators"]
    assert (accelerator["type"], accelerator["count"]) == ("nvidia-l4", 2)
