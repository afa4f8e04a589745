"""A project in which everything of the dev stack is as it should be: the answers that a test of `preflight` starts from."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from tests.unit.preflight_server import DIGEST, Fault, PreflightServer, Seen, api_error

PROJECT = "my-project"
REGION = "asia-northeast1"
ZONE = "asia-northeast1-b"

DISKS = {"SSD_TOTAL_GB": (500, 0), "DISKS_TOTAL_GB": (4096, 0), "HDB_TOTAL_GB": (500, 0)}
QUOTAS = {"NVIDIA_L4_GPUS": (4, 0), "PREEMPTIBLE_NVIDIA_L4_GPUS": (4, 0), "CPUS": (100, 6), **DISKS}
FAMILY, SPOT_TPU = "compute.googleapis.com/tpus_per_tpu_family", "compute.googleapis.com/preemptible_tpu_v6e"
TPU_QUOTA = "serviceusage.services.consumerQuotaMetrics.get"

MACHINES: dict[str, dict[str, Any]] = {
    "ct6e-standard-1t": {"name": "ct6e-standard-1t", "guestCpus": 44},
    "g2-standard-4": {
        "name": "g2-standard-4",
        "guestCpus": 4,
        "accelerators": [{"guestAcceleratorType": "nvidia-l4", "guestAcceleratorCount": 1}],
    },
}

CLUSTER = f"projects/{PROJECT}/locations/{REGION}/clusters/tpu-gpu-fungibility"
REPOSITORY = f"projects/{PROJECT}/locations/{REGION}/repositories/docker-repo"
ACCOUNT = f"projects/{PROJECT}/serviceAccounts/tpu-gpu-fungibility-nodes@{PROJECT}.iam.gserviceaccount.com"

GPU_BASE = "HEAD registry-1.docker.io/v2/vllm/vllm-openai/manifests/sha256:c1c9f6fd5c109ba7f0546a59f5b2f15fb87f64c77782e90a27b648b42a8e67c3"
TPU_BASE = "HEAD registry-1.docker.io/v2/vllm/vllm-tpu/manifests/sha256:d6748bc7b1b020ab6411506d4bf30f8bfabb5db2b8505328f26d1a545b479df8"
MODEL = "GET huggingface.co/api/models/Qwen/Qwen2-1.5B"
MODEL_FILE = "HEAD huggingface.co/Qwen/Qwen2-1.5B/resolve/main/config.json"


def set_project(server: PreflightServer) -> None:
    """Every answer of a good project in which the stack is not up."""
    set_services(server)
    server.set("cloudresourcemanager.projects.testIamPermissions", lambda seen: dict(seen.body))
    server.set(
        "cloudbilling.projects.getBillingInfo",
        {
            "name": f"projects/{PROJECT}/billingInfo",
            "projectId": PROJECT,
            "billingAccountName": "billingAccounts/0A-1B",
            "billingEnabled": True,
        },
    )
    server.set("compute.machineTypes.get", lambda seen: copy.deepcopy(MACHINES[seen.params["machineType"]]))
    server.set("compute.acceleratorTypes.get", {"name": "nvidia-l4", "maximumCardsPerInstance": 8})
    set_regional_quotas(server, QUOTAS)
    server.set("compute.projects.get", {"name": PROJECT, "quotas": [{"metric": "GPUS_ALL_REGIONS", "limit": 8, "usage": 0}]})
    server.set("compute.instances.aggregatedList", {"items": {"zones/us-central1-a": {"warning": {"code": "NO_RESULTS_ON_PAGE"}}}})
    set_tpu_quota(server, [({"region": REGION, "tpu_family": "CT6E"}, 2), ({}, 0)])
    network = f"https://www.googleapis.com/compute/v1/projects/{PROJECT}/global/networks/default"
    server.set("compute.networks.get", {"name": "default", "selfLink": network})
    proxies = {"purpose": "REGIONAL_MANAGED_PROXY", "role": "ACTIVE", "ipCidrRange": "10.129.0.0/23", "network": network}
    server.set("compute.subnetworks.list", {"items": [proxies]})
    server.set("container.projects.locations.getServerConfig", channels(REGULAR="1.33.5-gke.1201000"))
    for method in (
        "container.projects.locations.clusters.get",
        "artifactregistry.projects.locations.repositories.get",
        "iam.projects.serviceAccounts.get",
    ):
        server.set(method, api_error(404, "not found"))
    for base in (GPU_BASE, TPU_BASE):
        server.set(base, registry_answer(server))
    server.set("GET auth.docker.io/token", {"token": "anonymous"})
    server.set(MODEL, {"id": "Qwen/Qwen2-1.5B", "gated": False})
    server.set(MODEL_FILE, Fault())


def set_services(server: PreflightServer, *off: str) -> None:
    def state(name: str) -> dict[str, Any]:
        known = "DISABLED" if name.rpartition("/")[2].removesuffix(".googleapis.com") in off else "ENABLED"
        # Google answers with the project's number.
        return {"name": name.replace(PROJECT, "123"), "parent": "projects/123", "state": known}

    server.set("serviceusage.services.batchGet", lambda seen: {"services": [state(name) for name in seen.params["names"].split(",")]})


def set_regional_quotas(server: PreflightServer, quotas: Mapping[str, tuple[float, float]]) -> None:
    """Metric -> limit and usage."""
    listed = [{"metric": metric, "limit": limit, "usage": usage} for metric, (limit, usage) in quotas.items()]
    server.set("compute.regions.get", {"name": REGION, "quotas": listed})


def set_tpu_quota(server: PreflightServer, buckets: list[tuple[dict[str, str], int]], metric: str = FAMILY) -> None:
    """Dimensions -> value, as Service Usage has them; every other metric is unknown."""
    name = f"projects/{PROJECT}/services/compute.googleapis.com/consumerQuotaMetrics/{metric}"
    listed = [{"dimensions": dimensions, "effectiveLimit": str(value)} for dimensions, value in buckets]
    limits = [
        {"metric": metric, "unit": "1/{project}/{zone}", "quotaBuckets": [{"effectiveLimit": "9999"}]},
        {"metric": metric, "unit": "1/{project}/{region}", "quotaBuckets": listed},
    ]
    answer = {"name": name, "metric": metric, "consumerQuotaLimits": limits}

    def tell(seen: Seen) -> dict[str, Any] | Fault:
        return answer if seen.params["name"] == name else api_error(404, "no such metric")

    server.set(TPU_QUOTA, tell)


def channels(**defaults: str) -> dict[str, Any]:
    return {"channels": [{"channel": name, "defaultVersion": version} for name, version in defaults.items()]}


def instance(machine_type: str, *, cluster: str = "", spot: bool = False, status: str = "RUNNING", disk_gb: int = 100) -> dict[str, Any]:
    """As `instances.aggregatedList` gives one."""
    prefix = f"https://www.googleapis.com/compute/v1/projects/{PROJECT}/zones/{ZONE}/machineTypes"
    labels = {"goog-k8s-cluster-name": cluster, "goog-k8s-cluster-location": REGION} if cluster else {}
    return {
        "machineType": f"{prefix}/{machine_type}",
        "status": status,
        "disks": [{"boot": True, "diskSizeGb": str(disk_gb)}, {"boot": False, "diskSizeGb": "375"}],
        "labels": labels,
        "scheduling": {"preemptible": spot, "provisioningModel": "SPOT" if spot else "STANDARD"},
    }


def set_instances(server: PreflightServer, *instances: dict[str, Any]) -> None:
    server.set("compute.instances.aggregatedList", {"items": {f"zones/{ZONE}": {"instances": list(instances)}}})


def registry_answer(server: PreflightServer) -> Any:
    """Docker Hub's: nothing without the token that its own challenge leads to."""
    challenge = f'Bearer realm="{server.url}/auth.docker.io/token",service="registry.docker.io",scope="repository:x:pull"'

    def answer(seen: Seen) -> Fault:
        if seen.headers.get("authorization") != "Bearer anonymous":
            return Fault(status=401, headers={"WWW-Authenticate": challenge})
        return Fault(headers={"Docker-Content-Digest": DIGEST})

    return answer


def set_stack_up(server: PreflightServer, version: str = "1.33.5-gke.1201000") -> None:
    """Cluster, repository and account are there."""
    server.set(
        "container.projects.locations.clusters.get", {"name": "tpu-gpu-fungibility", "currentMasterVersion": version, "status": "RUNNING"}
    )
    server.set("artifactregistry.projects.locations.repositories.get", {"name": REPOSITORY, "format": "DOCKER"})
    server.set("iam.projects.serviceAccounts.get", {"name": ACCOUNT})
