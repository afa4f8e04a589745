"""The check of an existing network, against its owner's answers."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.preflight_project import PROJECT
from tests.unit.preflight_run import Bench
from tests.unit.preflight_server import api_error
from tests.unit.program import EXISTING

_GKE = "serviceAccount:service-123@container-engine-robot.iam.gserviceaccount.com"
_APIS = "serviceAccount:123@cloudservices.gserviceaccount.com"
_HOST_POLICY = {"bindings": [{"role": "roles/container.hostServiceAgentUser", "members": [_GKE]}]}
_SUBNET_POLICY = {"bindings": [{"role": "roles/compute.networkUser", "members": [_GKE, _APIS]}]}
_NETWORK = "https://www.googleapis.com/compute/v1/projects/host-project/global/networks/shared"
_SUBNETWORK: dict[str, Any] = {
    "name": "tokyo",
    "network": _NETWORK,
    "ipCidrRange": "10.0.0.0/22",
    "privateIpGoogleAccess": True,
    "secondaryIpRanges": [
        {"rangeName": "tokyo-pods", "ipCidrRange": "10.4.0.0/16"},
        {"rangeName": "tokyo-services", "ipCidrRange": "10.8.0.0/20"},
    ],
}
_ROUTERS = {"items": [{"network": _NETWORK, "nats": [{"name": "nat"}]}]}

_GOOD: dict[str, Any] = {
    "compute.subnetworks.get": _SUBNETWORK,
    "compute.routers.list": _ROUTERS,
    "cloudresourcemanager.projects.get": {"name": "projects/123"},
    "cloudresourcemanager.projects.getIamPolicy": _HOST_POLICY,
    "compute.subnetworks.getIamPolicy": _SUBNET_POLICY,
}


def _shown(bench: Bench, **answers: Any) -> list[str]:
    for method, answer in {**_GOOD, **{key.replace("_", "."): value for key, value in answers.items()}}.items():
        bench.server.set(method, answer)
    return [
        f"{each.status} {each.field}: {each.value} / {each.reason} / {each.fix}" for each in bench.findings("network", network=EXISTING)
    ]


def test_a_shared_network_with_all_that_private_nodes_need(bench: Bench) -> None:
    assert [line.split(" /")[0] for line in _shown(bench)] == [
        "ok subnetwork tokyo of host-project in asia-northeast1: exists, with its ranges and Private Google Access",
        "ok way out of network shared: Cloud NAT",
        f"ok roles of {PROJECT} in host project host-project: GKE may use the network",
    ]


@pytest.mark.parametrize(
    ("method", "answer", "said"),
    [
        (
            "compute_subnetworks_get",
            api_error(404, "was not found"),
            "does not exist / was not found / gcloud compute networks subnets list",
        ),
        ("compute_subnetworks_get", {**_SUBNETWORK, "network": f"{_NETWORK}-2"}, "is of network shared-2"),
        (
            "compute_subnetworks_get",
            {**_SUBNETWORK, "secondaryIpRanges": _SUBNETWORK["secondaryIpRanges"][:1]},
            "lacks the secondary range tokyo-services / its secondary ranges are tokyo-pods / gcloud compute networks subnets update tokyo",
        ),
        ("compute_subnetworks_get", {**_SUBNETWORK, "ipCidrRange": "10.0.0.0/29"}, "has addresses for 4 nodes, and all pools together may"),
        ("compute_subnetworks_get", {**_SUBNETWORK, "privateIpGoogleAccess": False}, "--enable-private-ip-google-access"),
        ("compute_routers_list", {"items": [{"network": f"{_NETWORK}-2", "nats": [{"name": "nat"}]}]}, "no Cloud NAT in the region"),
        (
            "compute_subnetworks_getIamPolicy",
            {"bindings": [{"role": "roles/compute.networkUser", "members": [_GKE]}]},
            f"{_APIS} lacks roles/compute.networkUser / GKE makes nodes and addresses in the network as these accounts / gcloud projects "
            f"add-iam-policy-binding host-project --member={_APIS} --role=roles/compute.networkUser",
        ),
        ("compute_subnetworks_getIamPolicy", api_error(403, "denied"), "not checked: permission denied"),
    ],
)
def test_what_the_owner_has_to_see_to_is_named_with_the_command(bench: Bench, method: str, answer: Any, said: str) -> None:
    assert [line for line in _shown(bench, **{method: answer}) if said in line]


@pytest.mark.parametrize(("answer", "status"), [({"name": "default"}, "ok"), (api_error(404, "was not found"), "failed")])
def test_without_settings_of_a_network_the_project_needs_its_default_one(bench: Bench, answer: Any, status: str) -> None:
    bench.server.set("compute.networks.get", answer)
    (found,) = bench.findings("network")
    assert (found.status, found.field) == (status, "network default")
    assert status == "ok" or found.fix.startswith("gcloud compute networks create default")
