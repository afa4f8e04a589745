"""The cluster: its features, its identity, and the kubeconfig that holds no credential."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from components.cluster.cluster import make_kubeconfig, node_account_id, plain_machine
from tests.unit.program import Run, run_program

CLUSTER = "gcp:container/cluster:Cluster"
NODE_POOL = "gcp:container/nodePool:NodePool"
MEMBERS = (
    "gcp:projects/iAMMember:IAMMember",
    "gcp:artifactregistry/repositoryIamMember:RepositoryIamMember",
)


@pytest.fixture(scope="module")
def dev() -> Run:
    return run_program()


@pytest.fixture(scope="module")
def cluster(dev: Run) -> dict[str, Any]:
    return dev.only(CLUSTER).inputs


def test_cluster_is_regional_and_keeps_no_default_pool(cluster: dict[str, Any]) -> None:
    assert cluster["location"] == "asia-northeast1"
    assert "enableAutopilot" not in cluster
    assert (cluster["removeDefaultNodePool"], cluster["initialNodeCount"]) == (True, 1)


def test_short_lived_default_pool_takes_account_machine_and_disk_of_the_system_pool(cluster: dict[str, Any]) -> None:
    assert cluster["nodeConfig"] == {
        "serviceAccount": "nodes@example.iam.gserviceaccount.com",
        "machineType": "e2-standard-2",
        "diskType": "pd-standard",
        "diskSizeGb": 50,
    }


@pytest.mark.parametrize(("machine_type", "disk_type"), [("n2-standard-4", "pd-standard"), ("c3-standard-4", "pd-balanced")])
def test_system_pool_has_a_disk_that_its_machines_can_have(machine_type: str, disk_type: str) -> None:
    assert plain_machine(machine_type)["disk_type"] == disk_type


def test_workload_identity_pool_is_the_project_s(cluster: dict[str, Any]) -> None:
    assert cluster["workloadIdentityConfig"] == {"workloadPool": "my-project.svc.id.goog"}


def test_kube_state_metrics_of_pods_and_deployments_are_collected(cluster: dict[str, Any]) -> None:
    assert cluster["monitoringConfig"]["enableComponents"] == ["SYSTEM_COMPONENTS", "POD", "DEPLOYMENT"]


def test_image_streaming_shielded_nodes_and_release_channel_are_on(cluster: dict[str, Any]) -> None:
    assert cluster["nodePoolDefaults"] == {"nodeConfigDefaults": {"gcfsConfig": {"enabled": True}}}
    assert cluster["enableShieldedNodes"] is True
    assert cluster["releaseChannel"] == {"channel": "REGULAR"}


def test_system_pool_is_a_resource_of_its_own_with_one_node_a_zone(dev: Run) -> None:
    system = dev.named(NODE_POOL, "cluster-system").inputs
    assert (system["name"], system["nodeCount"]) == ("system", 1)
    # All zones of the region, and no accelerator's taint.
    assert "nodeLocations" not in system
    assert "taints" not in system["nodeConfig"]
    assert system["nodeConfig"]["serviceAccount"] == "nodes@example.iam.gserviceaccount.com"


def test_node_account_has_the_node_role_and_reads_the_repository_and_nothing_else(dev: Run) -> None:
    granted = [each for type_token in MEMBERS for each in dev.of_type(type_token)]
    assert sorted(each.inputs["role"] for each in granted) == [
        "roles/artifactregistry.reader",
        "roles/container.defaultNodeServiceAccount",
        # Image streaming's.
        "roles/serviceusage.serviceUsageConsumer",
    ]
    assert {each.inputs["member"] for each in granted} == {"serviceAccount:nodes@example.iam.gserviceaccount.com"}


def test_needed_apis_are_switched_on_and_never_off(dev: Run) -> None:
    services = dev.of_type("gcp:projects/service:Service")
    assert {each.inputs["service"].removesuffix(".googleapis.com") for each in services} == {
        "artifactregistry",
        "cloudresourcemanager",
        "compute",
        "container",
        "containerfilesystem",
        "iam",
        "monitoring",
    }
    assert {each.inputs["disableOnDestroy"] for each in services} == {False}


def test_cluster_waits_for_the_apis_and_the_node_role(dev: Run) -> None:
    seen: set[str] = set()
    todo = [dev.only(CLUSTER).urn]
    while todo:
        new = set(dev.resources[todo.pop()].dependencies) - seen
        seen |= new
        todo += [urn for urn in new if urn in dev.resources]
    names = {urn.rpartition("::")[2] for urn in seen}
    assert {"cluster-container-api", "cluster-compute-api", "cluster-node-role"} <= names


def test_nodes_wait_for_what_image_streaming_needs(dev: Run) -> None:
    names = {urn.rpartition("::")[2] for urn in dev.only(CLUSTER).dependencies}
    assert {"cluster-containerfilesystem-api", "cluster-image-streaming-role"} <= names


def test_without_image_streaming_every_pool_says_so_and_nothing_is_asked_for_it() -> None:
    run = run_program({"imageStreaming": False})
    configs = [pool.inputs["nodeConfig"] for pool in run.of_type(NODE_POOL)]
    configs.append(run.only(CLUSTER).inputs["nodePoolDefaults"]["nodeConfigDefaults"])
    assert [config["gcfsConfig"] for config in configs] == [{"enabled": False}] * 5
    assert not any("containerfilesystem" in urn or "image-streaming" in urn for urn in run.resources)


def test_buckets_can_be_mounted_only_where_pods_do(cluster: dict[str, Any]) -> None:
    assert cluster["addonsConfig"] == {"gcsFuseCsiDriverConfig": {"enabled": False}}
    changed = run_program({"weightsCache": True, "gpuEphemeralStorageLimit": "38Gi"}).only(CLUSTER).inputs
    assert changed["addonsConfig"] == {"gcsFuseCsiDriverConfig": {"enabled": True}}


def test_kubeconfig_runs_google_s_plugin_and_holds_no_credential() -> None:
    config = json.loads(make_kubeconfig(context="c", endpoint="203.0.113.10", ca_certificate="Q0E="))
    (user,) = config["users"]
    assert list(user["user"]) == ["exec"]
    assert user["user"]["exec"]["command"] == "gke-gcloud-auth-plugin"
    (cluster,) = config["clusters"]
    assert cluster["cluster"] == {"server": "https://203.0.113.10", "certificate-authority-data": "Q0E="}
    assert config["current-context"] == "c"


@pytest.mark.parametrize("name", ["c", "tpu-gpu-fungibility", "a" * 24, "a" * 25, "a" * 40, "abcdefghijklmn-" + "x" * 25])
def test_node_account_id_is_one_that_iam_accepts(name: str) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9-]{4,28}[a-z0-9]", node_account_id(name))


def test_long_names_with_a_common_beginning_get_different_accounts() -> None:
    assert node_account_id("a" * 39 + "b") != node_account_id("a" * 39 + "c")
