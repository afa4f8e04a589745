"""What the hardening settings make of the resources: network, control plane, policy, keys, devices, protection."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from components.catalog.machines import MACHINE_TYPES
from components.cluster.cluster_hardening import NO_ENDPOINT, dns_endpoint_of, ip_endpoint_of
from components.serving.device_access import device_access
from components.serving.network_policy import address_block, network_policy_spec
from components.settings.network_ranges import NetworkRanges
from components.settings.settings import load_stack
from tests.unit.program import API_KEY, EXISTING, STORED, Resource, Run, run_program

CLUSTER = "gcp:container/cluster:Cluster"
REPOSITORY = "gcp:artifactregistry/repository:Repository"
DEPLOYMENT = "kubernetes:apps/v1:Deployment"
SERVICE = "kubernetes:core/v1:Service"
SECRET = "kubernetes:core/v1:Secret"
NETWORK_POLICY = "kubernetes:networking.k8s.io/v1:NetworkPolicy"

GPU_POOLS = [{"name": "l4", "machineType": "g2-standard-24", "maxNodeCount": 2}]
TPU_POOLS = [{"name": "v6e", "machineType": "ct6e-standard-4t", "maxNodeCount": 2}]


def _pod(run: Run) -> dict[str, Any]:
    template: dict[str, Any] = run.only(DEPLOYMENT).inputs["spec"]["template"]
    return template


# --- network


@pytest.mark.parametrize("owner", ["host-project", "my-project"])
def test_of_an_existing_network_nothing_is_made_and_nodes_are_private_in_it(owner: str) -> None:
    names = {key: value for key, value in EXISTING["existing"].items() if key != "hostProject" or owner != "my-project"}
    run = run_program({"network": {"existing": names}})
    assert not [each for each in run.resources.values() if each.type.startswith("gcp:compute/")]
    cluster = run.only(CLUSTER).inputs
    assert (cluster["network"], cluster["subnetwork"]) == (
        f"projects/{owner}/global/networks/shared",
        f"projects/{owner}/regions/asia-northeast1/subnetworks/tokyo",
    )
    assert cluster["ipAllocationPolicy"] == {"clusterSecondaryRangeName": "tokyo-pods", "servicesSecondaryRangeName": "tokyo-services"}
    pools = run.of_type("gcp:container/nodePool:NodePool")
    assert all(each.inputs["networkConfig"] == {"enablePrivateNodes": True} for each in (*pools,))


def test_a_zonal_cluster_is_in_its_zone_and_so_are_the_names_that_others_find_it_by() -> None:
    run = run_program({"location": "zonal"})
    of_gke = [*run.of_type(CLUSTER), *run.of_type("gcp:container/nodePool:NodePool")]
    assert {each.inputs["location"] for each in of_gke} == {"asia-northeast1-b"} == {run.outputs["cluster_location"]}
    assert json.loads(run.outputs["kubeconfig"])["current-context"] == "gke_my-project_asia-northeast1-b_tpu-gpu-fungibility"
    assert 'location="asia-northeast1-b"' in json.dumps(run.only("gcp:monitoring/dashboard:Dashboard").inputs).replace("\\", "")
    assert run.only(REPOSITORY).inputs["location"] == "asia-northeast1"


# --- control plane


def test_ranges_of_the_control_plane_let_no_stranger_s_machine_of_google_cloud_in() -> None:
    inputs = run_program({"controlPlaneSourceRanges": ["203.0.113.0/24", "198.51.100.7/32"]}).only(CLUSTER).inputs
    assert inputs["masterAuthorizedNetworksConfig"] == {
        "cidrBlocks": [{"cidrBlock": "203.0.113.0/24"}, {"cidrBlock": "198.51.100.7/32"}],
        "gcpPublicCidrsAccessEnabled": False,
    }
    assert inputs["controlPlaneEndpointsConfig"]["ipEndpointsConfig"] == {"enabled": True}


# --- who reaches the servers


def _policy(**changes: Any) -> Any:
    network = replace(load_stack("dev", {"gcp:project": "my-project"}).network, **changes)
    return network_policy_spec(network, pod_labels={"app": "vllm"}, port=8000)


def test_policy_admits_the_listed_namespaces() -> None:
    (rule,) = _policy(client_namespaces=["chat"])["ingress"]
    (expression,) = rule["from_"][-1]["namespace_selector"]["match_expressions"]
    assert "chat" in expression["values"]


def test_everybody_outside_is_not_everybody_inside() -> None:
    (rule,) = _policy(vpc=NetworkRanges(nodes="10.64.0.0/22", pods="10.65.0.0/17", services="10.64.16.0/20"))["ingress"]
    assert rule["from_"][0] == {"ip_block": {"cidr": "0.0.0.0/0", "except_": ["10.65.0.0/17"]}}
    # The API server refuses an exception outside of its range.
    assert address_block("203.0.113.0/24", "10.65.0.0/17") == {"cidr": "203.0.113.0/24"}


# --- secrets


def _key_secret(run: Run) -> Resource:
    return run.named(SECRET, "vllm-vllm-api-key")


@pytest.mark.parametrize(("overrides", "value"), [({"apiKey": API_KEY}, API_KEY), ({"apiKeySecret": "vllm-api-key"}, STORED)])
def test_api_key_reaches_both_containers_by_a_secret_and_nothing_else(overrides: dict[str, Any], value: str) -> None:
    run = run_program(overrides)
    secret = _key_secret(run)
    assert (secret.inputs["stringData"], secret.secrets) == ({"api_key": value}, ["stringData"])
    # Under a name of its own, so that a changed key's Secret is made beside the old one and the Deployment is not replaced.
    assert "name" not in secret.inputs["metadata"]
    for container in _pod(run)["spec"]["containers"]:
        (entry,) = [each for each in container["env"] if each["name"] == "VLLM_API_KEY"]
        assert entry["valueFrom"] == {"secretKeyRef": {"name": "vllm-vllm-api-key-1a2b3c4d", "key": "api_key"}}
        assert value not in json.dumps(container)
    for resource in run.resources.values():
        assert resource.urn == secret.urn or value not in json.dumps(resource.inputs), resource.urn


def test_token_of_secret_manager_is_a_secret_from_the_start() -> None:
    run = run_program({"huggingFaceTokenSecret": "projects/other/secrets/hf/versions/3"})
    secret = run.named(SECRET, "vllm-hf-secret")
    assert (secret.inputs["stringData"], secret.secrets) == ({"hf_api_token": STORED}, ["stringData"])


# --- devices


@pytest.mark.parametrize(
    ("choice", "machine_types", "access"),
    [
        ("auto", ["ct6e-standard-1t", "g2-standard-4"], "privileged"),
        ("auto", ["g2-standard-4", "a2-highgpu-1g"], "request"),
        ("auto", ["g2-standard-4", "g2-standard-24"], "privileged"),
        ("auto", ["ct6e-standard-1t"], "request"),
        ("privileged", ["g2-standard-4"], "privileged"),
        ("request", ["ct6e-standard-1t"], "request"),
    ],
)
def test_privilege_is_for_pods_that_fit_different_nodes(choice: str, machine_types: list[str], access: str) -> None:
    assert device_access(choice, [MACHINE_TYPES[each] for each in machine_types]) == access


@pytest.mark.parametrize(("pools", "resource", "count"), [(GPU_POOLS, "nvidia.com/gpu", "2"), (TPU_POOLS, "google.com/tpu", "4")])
def test_pods_for_one_accelerator_request_it_and_have_no_privilege(pools: list[Any], resource: str, count: str) -> None:
    spec = _pod(run_program({"acceleratorPools": pools, "xlaCache": False}))["spec"]
    (container,) = spec["containers"]
    assert container["securityContext"] == {"privileged": False, "allowPrivilegeEscalation": False}
    for part in ("requests", "limits"):
        assert container["resources"][part][resource] == count
    assert {"cpu", "memory"} <= set(container["resources"]["requests"])
    # What GKE's device plugin brings: NVIDIA's folder, and libtpu's variables.
    assert {each["name"] for each in (*spec["volumes"], *container["volumeMounts"])} == {f"shared-memory-{container['name'][5:]}"}
    assert not [each for each in container["env"] if each["name"].startswith("TPU_")]


def test_a_cluster_that_could_not_be_made_has_an_endpoint_that_leads_nowhere_and_ends_the_program_with_no_traceback() -> None:
    assert dns_endpoint_of(None) == ip_endpoint_of(None, None) == NO_ENDPOINT
    assert NO_ENDPOINT[0].endswith(".invalid")
    assert dns_endpoint_of(SimpleNamespace(dns_endpoint_config=SimpleNamespace(endpoint="gke-1.goog"))) == ("gke-1.goog", None)
    assert ip_endpoint_of("203.0.113.10", "Q0E=") == ("203.0.113.10", "Q0E=")
