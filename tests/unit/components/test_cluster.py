"""The cluster: its features, its identity, and the kubeconfig that holds no credential."""

from __future__ import annotations

import re

import pytest

from components.cluster.cluster import node_account_id, plain_machine
from tests.unit.program import run_program

CLUSTER = "gcp:container/cluster:Cluster"
NODE_POOL = "gcp:container/nodePool:NodePool"


@pytest.mark.parametrize(("machine_type", "disk_type"), [("n2-standard-4", "pd-standard"), ("c3-standard-4", "pd-balanced")])
def test_system_pool_has_a_disk_that_its_machines_can_have(machine_type: str, disk_type: str) -> None:
    assert plain_machine(machine_type)["disk_type"] == disk_type


def test_without_image_streaming_every_pool_says_so_and_nothing_is_asked_for_it() -> None:
    run = run_program({"imageStreaming": False})
    configs = [pool.inputs["nodeConfig"] for pool in run.of_type(NODE_POOL)]
    configs.append(run.only(CLUSTER).inputs["nodePoolDefaults"]["nodeConfigDefaults"])
    assert [config["gcfsConfig"] for config in configs] == [{"enabled": False}] * 5
    assert not any("containerfilesystem" in urn or "image-streaming" in urn for urn in run.resources)


@pytest.mark.parametrize("name", ["c", "tpu-gpu-fungibility", "a" * 24, "a" * 25, "a" * 40, "abcdefghijklmn-" + "x" * 25])
def test_node_account_id_is_one_that_iam_accepts(name: str) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9-]{4,28}[a-z0-9]", node_account_id(name))


def test_long_names_with_a_common_beginning_get_different_accounts() -> None:
    assert node_account_id("a" * 39 + "b") != node_account_id("a" * 39 + "c")
