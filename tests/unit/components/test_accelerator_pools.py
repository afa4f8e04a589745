"""The node pools: what each key of a pool's settings becomes, and what keeps pools apart."""

from __future__ import annotations

import json
from typing import Any

import pytest

from components.settings.accelerator_pool import KEYS
from tests.unit.program import NAMESPACE, Run, config, run_program

NODE_POOL = "gcp:container/nodePool:NodePool"
MULTI_GPU = {"name": "l4", "machineType": "g2-standard-24", "maxNodeCount": 2}


def _pools() -> list[dict[str, Any]]:
    pools: list[dict[str, Any]] = json.loads(config()[f"{NAMESPACE}:acceleratorPools"])
    return pools


def _pool_inputs(pool: dict[str, Any], **settings: Any) -> dict[str, Any]:
    return run_program({"acceleratorPools": [pool], **settings}).named(NODE_POOL, pool["name"]).inputs


@pytest.fixture(scope="module")
def dev() -> Run:
    return run_program()


@pytest.fixture(scope="module")
def base() -> dict[str, Any]:
    """Inputs of a single GPU pool of which every key of `CHANGES` is changed."""
    return _pool_inputs(_pools()[2])


def _at(inputs: dict[str, Any], path: str) -> Any:
    value: Any = inputs
    for step in path.split("."):
        value = value[int(step)] if isinstance(value, list) else value.get(step)
    return value


# Key of a pool -> a value for the third pool of the dev environment, the input that it changes, and what that becomes.
CHANGES: dict[str, tuple[Any, str, Any]] = {
    "name": ("l4-other", "name", "l4-other"),
    "machineType": ("g2-standard-8", "nodeConfig.machineType", "g2-standard-8"),
    "gpuDriverVersion": (
        "DEFAULT",
        "nodeConfig.guestAccelerators.0.gpuDriverInstallationConfig.gpuDriverVersion",
        "DEFAULT",
    ),
    "provisioning": ("spot", "nodeConfig.spot", True),
    "initialNodeCount": (2, "initialNodeCount", 2),
    "minNodeCount": (0, "autoscaling.minNodeCount", 0),
    "maxNodeCount": (5, "autoscaling.maxNodeCount", 5),
    "zones": (
        ["asia-northeast1-a", "asia-northeast1-c"],
        "nodeLocations",
        ["asia-northeast1-a", "asia-northeast1-c"],
    ),
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
    # Of these an existing pool ignores the initial count: nothing is replaced.
    changed = {key for key in before if before[key] != after.get(key)}
    assert changed == {"autoscaling", "initialNodeCount"}
    assert after["autoscaling"] == {"minNodeCount": 0, "maxNodeCount": 2}
    for name in ("l4-spot", "l4"):
        assert run.named(NODE_POOL, name).inputs == dev.named(NODE_POOL, name).inputs


@pytest.mark.parametrize("key", CHANGES)
def test_key_of_a_pool_reaches_its_node_pool(key: str, base: dict[str, Any]) -> None:
    value, path, expected = CHANGES[key]
    # With a base image that every driver runs.
    changed = _pool_inputs({**_pools()[2], key: value}, gpuBaseImage="docker.io/vllm/vllm-openai:v0.31.0-cu129")
    assert _at(base, path) != expected
    assert _at(changed, path) == expected


def test_what_a_machine_carries_need_not_be_said() -> None:
    said = [{**_pools()[0], "tpuTopology": ASSERTIONS["tpuTopology"]}, *_pools()[1:]]
    unsaid = [{key: value for key, value in pool.items() if key not in ASSERTIONS} for pool in said]
    one, other = (
        {each.name: each.inputs for each in run_program({"acceleratorPools": pools}).of_type(NODE_POOL)} for pools in (said, unsaid)
    )
    assert one == other


@pytest.mark.parametrize("name", ["v6e-1", "l4-spot", "l4"])
def test_pool_carries_label_and_taint_of_the_class(dev: Run, name: str) -> None:
    node_config = dev.named(NODE_POOL, name).inputs["nodeConfig"]
    assert node_config["labels"] == {"cloud.google.com/compute-class": "vllm-fallback"}
    assert node_config["taints"] == [{"key": "cloud.google.com/compute-class", "value": "vllm-fallback", "effect": "NO_SCHEDULE"}]


@pytest.mark.parametrize("name", ["v6e-1", "l4-spot", "l4"])
def test_pool_streams_images_and_runs_as_the_node_account_with_shielded_boot(dev: Run, name: str) -> None:
    node_config = dev.named(NODE_POOL, name).inputs["nodeConfig"]
    assert node_config["gcfsConfig"] == {"enabled": True}
    assert node_config["serviceAccount"] == "nodes@example.iam.gserviceaccount.com"
    assert node_config["workloadMetadataConfig"] == {"mode": "GKE_METADATA"}
    assert node_config["shieldedInstanceConfig"]["enableIntegrityMonitoring"] is True


@pytest.mark.parametrize(
    ("provisioning", "expected"),
    [("on-demand", (None, None)), ("spot", (True, None)), ("preemptible", (None, True))],
)
def test_provisioning_is_exactly_one_of_three(provisioning: str, expected: tuple[Any, Any]) -> None:
    node_config = _pool_inputs({**_pools()[2], "provisioning": provisioning})["nodeConfig"]
    assert (node_config.get("spot"), node_config.get("preemptible")) == expected


def test_tpu_pool_declares_no_guest_accelerator(dev: Run) -> None:
    assert "guestAccelerators" not in dev.named(NODE_POOL, "v6e-1").inputs["nodeConfig"]


def test_gpu_pool_declares_all_gpus_of_its_machine() -> None:
    (accelerator,) = _pool_inputs(MULTI_GPU)["nodeConfig"]["guestAccelerators"]
    assert (accelerator["type"], accelerator["count"]) == ("nvidia-l4", 2)


def test_dev_pools_have_the_walkthrough_s_counts_and_zone(dev: Run) -> None:
    found = {
        name: (pool.inputs["initialNodeCount"], *pool.inputs["autoscaling"].values(), pool.inputs["nodeLocations"])
        for name in ("v6e-1", "l4-spot", "l4")
        for pool in [dev.named(NODE_POOL, name)]
    }
    zone = ["asia-northeast1-b"]
    assert dev.named(NODE_POOL, "l4").inputs["autoscaling"] == {"minNodeCount": 1, "maxNodeCount": 2}
    assert dev.named(NODE_POOL, "l4-spot").inputs["autoscaling"] == {"minNodeCount": 0, "maxNodeCount": 2}
    assert {name: (each[0], each[-1]) for name, each in found.items()} == {
        "v6e-1": (1, zone),
        "l4-spot": (1, zone),
        "l4": (1, zone),
    }


def test_moved_provisioning_of_one_pool_touches_no_other_pool(dev: Run) -> None:
    pools = _pools()
    pools[1]["provisioning"] = "spot"
    changed = run_program({"acceleratorPools": pools})
    different = {urn for urn, each in changed.resources.items() if each.inputs != dev.resources[urn].inputs}
    # The dashboard shows how each pool is provisioned.
    assert {urn.rpartition("::")[2] for urn in different} == {"l4-spot", "observability-dashboard"}
