"""What each check of preflight says of projects that are not as they should be."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bootstrap import roles
from components.catalog.boot_disks import default_disk_type, plain_disk_type
from components.catalog.machines import MACHINE_TYPES, PLAIN_MACHINE_TYPES
from components.settings import stack_files
from components.settings.gateway import CLASSES
from ops.findings import Finding
from ops.preflight.checks import gateway, versions
from ops.preflight.checks.quotas import Demand, Limit, demands, disk_demands, effective_value, judge
from ops.preflight.quota_metrics import DISK_METRICS
from ops.preflight.registry import Reference
from tests.unit.preflight_project import (
    ACCOUNT,
    CLUSTER,
    DISKS,
    FAMILY,
    GPU_BASE,
    MACHINES,
    MODEL,
    MODEL_FILE,
    PROJECT,
    QUOTAS,
    REGION,
    REPOSITORY,
    SPOT_TPU,
    ZONE,
    channels,
    instance,
    set_instances,
    set_regional_quotas,
    set_services,
    set_stack_up,
    set_tpu_quota,
)
from tests.unit.preflight_run import Bench
from tests.unit.preflight_server import ACCESS_TOKEN, HF_TOKEN, Fault, PreflightServer, Seen, api_error, disabled

TESTS = "cloudresourcemanager.projects.testIamPermissions"
BILLING = "cloudbilling.projects.getBillingInfo"
VERSIONS = "container.projects.locations.getServerConfig"
ACCESS = "secretmanager.projects.secrets.versions.access"

RESERVATION = "compute.reservations.get"
RESERVED = {
    "name": "r", "machineType": "g2-standard-4", "provisioning": "reservation", "reservation": "l4", "minNodeCount": 1, "maxNodeCount": 3,
}  # fmt: skip

Setup = Callable[[PreflightServer], object]


def gives(method: str, answer: Any) -> Setup:
    return lambda server: server.set(method, answer)


def shown(finding: Finding) -> str:
    return f"{finding.field}: {finding.value} / {finding.reason} / {finding.fix}"


def without(*refused: str) -> Any:
    return lambda seen: {"permissions": [each for each in seen.body["permissions"] if each not in refused]}


def unknown_permission(seen: Seen) -> Any:
    if any(each.startswith("container.thirdPartyObjects") for each in seen.body["permissions"]):
        return api_error(400, "Permission container.thirdPartyObjects.create is not valid for this resource.")
    return dict(seen.body)


def tpu_machine_elsewhere(server: PreflightServer) -> None:
    def answer(seen: Seen) -> Any:
        known = seen.params["machineType"] != "ct6e-standard-1t"
        return MACHINES[seen.params["machineType"]] if known else api_error(404, "was not found")

    here = {"machineTypes": [{"name": "ct6e-standard-1t"}]}
    server.set("compute.machineTypes.get", answer)
    pages = [
        {"items": {"zones/us-east5-a": here, "zones/us-east1-b": {}}, "nextPageToken": "second"},
        {"items": {f"zones/{REGION}-c": here}},
    ]
    server.set("compute.machineTypes.aggregatedList", pages)


def reservation(*, machine: str = "g2-standard-4", used: int = 0, named: bool = True) -> dict[str, Any]:
    holds = {"count": "2", "inUseCount": str(used), "instanceProperties": {"machineType": machine}}
    return {"name": "l4", "specificReservationRequired": named, "specificReservation": holds}


def secret(text: str) -> dict[str, Any]:
    return {"name": "x", "payload": {"data": base64.b64encode(text.encode()).decode()}}


def bad_cluster(server: PreflightServer) -> None:
    set_stack_up(server)
    broken = {"currentMasterVersion": "1.33.5-gke.1201000", "status": "ERROR", "statusMessage": "no addresses left"}
    server.set("container.projects.locations.clusters.get", broken)


CERTIFICATE = "certificatemanager.projects.locations.certificates.get"
INTERNAL, REGIONAL, GLOBAL = CLASSES


def door(class_name: str, certificate: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"gateway": {"class": class_name, "hostName": "llm.example.com", "certificate": certificate, **more}}


def proxies(cidr: str) -> dict[str, str]:
    network = f"https://www.googleapis.com/compute/v1/projects/{PROJECT}/global/networks/default"
    return {"purpose": "REGIONAL_MANAGED_PROXY", "role": "ACTIVE", "ipCidrRange": cidr, "network": network}


def stack_with(service_ip: str) -> str:
    """A `pulumi` whose stack has that output."""
    resource = {"type": "pulumi:pulumi:Stack", "outputs": {"service_ip": service_ip}}
    return f"echo '{json.dumps({'deployment': {'resources': [resource]}})}'"


def set_map(server: PreflightServer, *entries: dict[str, str]) -> None:
    server.set("certificatemanager.projects.locations.certificateMaps.get", {"name": "edge"})
    method = "certificatemanager.projects.locations.certificateMaps.certificateMapEntries.list"
    server.set(method, {"certificateMapEntries": list(entries)})


#: Check, what the project answers, settings; then status and words of the one finding that is not `ok`.
CASES: dict[str, tuple[str, Setup, dict[str, Any], str, list[str]]] = {
    "an API that up needs first": ("apis", lambda server: set_services(server, "cloudresourcemanager"), {}, "failed",
        ["off, and `up` needs it", "gcloud services enable cloudresourcemanager.googleapis.com --project=my-project"]),
    "a permission": ("permissions", gives(TESTS, without("container.clusters.create")), {}, "failed",
        ["missing: container.clusters.create", "gcloud projects add-iam-policy-binding my-project --member=serviceAccount:deployer@",
        " --role=roles/container.admin"]),
    "a permission that may be given elsewhere": ("permissions", gives(TESTS, without("iam.serviceAccounts.actAs")), {}, "warning",
        ["it may be given on the nodes' service account itself"]),
    "a project that is not there": (
        "permissions", gives(TESTS, api_error(403, "Permission denied on resource project my-project (or it may not exist).")), {},
        "failed", ["does not exist, or nothing in it is yours", "pulumi config set gcp:project"]),
    "a permission that Google does not know": (
        "permissions", gives(TESTS, unknown_permission), {}, "warning", ["roles/container.admin: not checked", "thirdPartyObjects"]),
    "no billing account": (
        "billing", gives(BILLING, {}), {}, "failed", ["gcloud billing projects link my-project --billing-account=ACCOUNT_ID"]),
    "a closed billing account": (
        "billing", gives(BILLING, {"billingAccountName": "billingAccounts/0A", "billingEnabled": False}), {}, "failed",
        ["is linked and closed", "https://console.cloud.google.com/billing"]),
    "a machine type that is elsewhere": ("machines", tpu_machine_elsewhere, {}, "failed",
        [f"it is in {REGION}-c, us-east5-a", 'gcloud compute machine-types list --project=my-project --filter="name=ct6e-standard-1t"']),
    "a machine with another accelerator": ("machines",
        gives("compute.machineTypes.get", {"accelerators": [{"guestAcceleratorType": "nvidia-l4", "guestAcceleratorCount": 2}]}),
        {}, "failed", ["components/catalog/machines.py is out of date"]),
    "a GPU that the zone does not have": (
        "machines", gives("compute.acceleratorTypes.get", api_error(404, "The resource was not found")), {}, "failed",
        ["nvidia-l4 does not exist there", "accelerator-types list"]),
    "a reservation that is not there": (
        "machines", gives(RESERVATION, api_error(404, "was not found")), {"acceleratorPools": [RESERVED]}, "failed",
        ["reservation l4 in asia-northeast1-b (pool r): does not exist there", "gcloud compute reservations list --project=my-project"]),
    "a shared reservation that its project does not show": ("machines", gives(RESERVATION, api_error(403, "denied")),
        {"acceleratorPools": [{**RESERVED, "reservation": "projects/other-project/reservations/l4"}]}, "warning",
        ["project other-project does not show it"]),
    "a reservation for any machine": ("machines", gives(RESERVATION, reservation(named=False)), {"acceleratorPools": [RESERVED]}, "failed",
        ["is not one that has to be named", "--require-specific-reservation"]),
    "a reservation of other machines": (
        "machines", gives(RESERVATION, reservation(machine="g2-standard-8")), {"acceleratorPools": [RESERVED]}, "failed",
        ["holds g2-standard-8, and the pool is of g2-standard-4"]),
    "a reservation that others use": ("machines", gives(RESERVATION, reservation(used=2)), {"acceleratorPools": [RESERVED]}, "failed",
        ["0 of 2 machines are free, and the pool may have 3", "the pool starts with 1"]),
    "a reservation that is small": (
        "machines", gives(RESERVATION, reservation(used=1)), {"acceleratorPools": [{**RESERVED, "reservation": "l4/reservationBlocks/b"}]},
        "warning", ["1 of 2 machines are free, and the pool may have 3"]),
    "a GPU quota too small to start": (
        "quotas", lambda server: set_regional_quotas(server, {**QUOTAS, "NVIDIA_L4_GPUS": (0, 0)}), {}, "failed",
        ["NVIDIA_L4_GPUS in asia-northeast1: 0 free of 0, and pool l4 starts with 1",
        "--quota-id=NVIDIA-L4-GPUS-per-project-region", "--dimensions=region=asia-northeast1"]),
    "a GPU quota just enough to start": (
        "quotas", lambda server: set_regional_quotas(server, {**QUOTAS, "NVIDIA_L4_GPUS": (1, 0)}), {}, "warning",
        ["enough to start with (1)", "or lower maxNodeCount"]),
    "a TPU quota that the region has not been given": (
        "quotas", lambda server: set_tpu_quota(server, [({"region": "us-east5", "tpu_family": "CT6E"}, 32), ({}, 0)]), {}, "failed",
        [FAMILY, "--dimensions=region=asia-northeast1,tpu_family=CT6E"]),
    "a quota of Spot TPUs": ("quotas", lambda server: set_tpu_quota(server, [({}, 1536), ({"region": REGION}, 4)], SPOT_TPU),
        {"acceleratorPools": [{"name": "a", "machineType": "ct6e-standard-4t", "maxNodeCount": 2, "provisioning": "spot"}]}, "warning",
        [SPOT_TPU, "4 free of 4, enough to start with (0)", "--quota-id=PREEMPTIBLE-TPU-V6E-per-project-region"]),
    "all GPUs of the project": (
        "quotas", gives("compute.projects.get", {"quotas": [{"metric": "GPUS_ALL_REGIONS", "limit": 0, "usage": 0}]}), {}, "failed",
        ["0 free of 0, and pools l4-spot, l4 start with", "--quota-id=GPUS-ALL-REGIONS-per-project"]),
    "a quota that the region does not list": (
        "quotas", lambda server: set_regional_quotas(server, {"NVIDIA_L4_GPUS": (4, 0), **DISKS}), {}, "warning",
        ["PREEMPTIBLE_NVIDIA_L4_GPUS", "the name is from enum of Quota.metric in the discovery document"]),
    "a quota of standard disks too small for the system pool": (
        "quotas", lambda server: set_regional_quotas(server, {**QUOTAS, "DISKS_TOTAL_GB": (500, 400)}), {}, "failed",
        ["DISKS_TOTAL_GB in asia-northeast1: 100 free of 500, and pool system starts with 150", "in GB, boot disks of type pd-standard",
        "--quota-id=DISKS-TOTAL-GB-per-project-region", "--preferred-value=550"]),
    "a new project's quota of SSDs": (
        "quotas", lambda server: set_regional_quotas(server, {**QUOTAS, "SSD_TOTAL_GB": (250, 0)}), {}, "warning",
        ["250 free of 250, enough to start with (200); pools l4-spot, l4 may reach 400", "boot disks of type pd-balanced",
        "--quota-id=SSD-TOTAL-GB-per-project-region"]),
    "a quota of Hyperdisk Balanced that the region does not list": (
        "quotas", lambda server: set_regional_quotas(server, {k: v for k, v in QUOTAS.items() if k != "HDB_TOTAL_GB"}), {}, "warning",
        ["HDB_TOTAL_GB in asia-northeast1: not checked", "(unverified)"]),
    "a release channel that is too old": (
        "versions", gives(VERSIONS, channels(REGULAR="1.31.4-gke.1255999", RAPID="1.35.0-gke.1000")), {}, "failed",
        ["tpu-v6e-slice needs 1.31.4-gke.1256000", "pulumi config set releaseChannel RAPID"]),
    "a release channel that the region lacks": (
        "versions", gives(VERSIONS, channels(STABLE="1.33.5-gke.1201000")), {}, "warning", ["get-server-config"]),
    "a release channel that is too old for the inference gateway": (
        "versions", gives(VERSIONS, channels(REGULAR="1.33.5-gke.1201000", RAPID="1.35.0-gke.1000")),
        {"gateway": {"class": INTERNAL}, "inferenceGateway": True}, "failed", ["inferenceGateway needs 1.34.0-gke.1626000"]),
    "a cluster that is too old": ("versions", lambda server: set_stack_up(server, version="1.30.0-gke.1"), {}, "failed",
        ["gcloud container clusters upgrade tpu-gpu-fungibility --master"]),
    "a secret that is not there": ("secrets", gives(ACCESS, api_error(404, "not found")), {"apiKeySecret": "key"}, "failed",
        ["does not exist in project my-project", "gcloud secrets create key --project=my-project"]),
    "a secret that may not be read": ("secrets", gives(ACCESS, api_error(403, "denied")), {"apiKeySecret": "key"}, "failed",
        ["may not be read", "--role=roles/secretmanager.secretAccessor"]),
    "an empty secret": (
        "secrets", gives(ACCESS, secret(" ")), {"apiKeySecret": "key"}, "failed", ["is empty", "gcloud secrets versions add key"]),
    "a secret without text": ("secrets", gives(ACCESS, {"name": "x"}), {"apiKeySecret": "key"}, "failed", ["makes no sense"]),
    "a certificate that waits for its record": (
        "gateway", gives(CERTIFICATE, {"managed": {"state": "PROVISIONING", "provisioningIssue": {"reason": "AUTHORIZATION_ISSUE"},
        "authorizationAttemptInfo": [{"domain": "d", "details": "no CNAME was found"}]}}),
        door(REGIONAL, {"dnsAuthorization": True}), "warning", ["PROVISIONING", "no CNAME was found", "pulumi stack output dns_records"]),
    "a certificate map that is not there": (
        "gateway", gives("certificatemanager.projects.locations.certificateMaps.get", api_error(404, "not found")),
        door(GLOBAL, {"map": "edge"}), "failed", ["certificate map edge: does not exist", "gcloud certificate-manager maps create edge"]),
    "a certificate map for other names": ("gateway", lambda server: set_map(server, {"hostname": "www.example.com"}),
        door(GLOBAL, {"map": "edge"}), "failed", ["has no entry for llm.example.com", "maps entries create gateway --map=edge"]),
    "a network without a proxy-only subnet": ("gateway", gives("compute.subnetworks.list", {}), {"gateway": {"class": INTERNAL}}, "failed",
        [f"proxy-only subnet in {REGION}: does not exist", "--purpose=REGIONAL_MANAGED_PROXY --role=ACTIVE --range=10.129.0.0/23"]),
    "a proxy-only subnet of another range": (
        "gateway", gives("compute.subnetworks.list", {"items": [proxies("10.9.0.0/24")]}),
        {"gateway": {"class": INTERNAL}, "networkPolicy": True}, "failed",
        ["is 10.9.0.0/24, and gateway.proxyRange is 10.129.0.0/23", "pulumi config set --path gateway.proxyRange 10.9.0.0/24"]),
    "a Cloud Armor policy that is not there": ("gateway", gives("compute.securityPolicies.get", api_error(404, "not found")),
        door(GLOBAL, {"secret": "tls"}, securityPolicy="edge"), "failed", ["edge (global): does not exist", "--global --type=CLOUD_ARMOR"]),
    "a base image that is not there": ("images", gives(GPU_BASE, Fault(status=404)), {}, "failed", ["gpuBaseImage", "does not exist"]),
    "a private base image": ("images", gives(GPU_BASE, Fault(status=403)), {}, "failed", ["is not for everybody"]),
    "a registry that asks for a password": (
        "images", gives(GPU_BASE, Fault(status=401, headers={"WWW-Authenticate": "Basic realm=x"})), {}, "failed", ["is not for everybody"],
    ),
    "a registry that is asked too often": ("images", gives(GPU_BASE, Fault(status=429)), {}, "warning", ["no more requests"]),
    "a registry that points elsewhere": (
        "images", gives(GPU_BASE, Fault(status=302, headers={"Location": "/login"})), {}, "failed", ["refused"]),
    "a model that is not there": ("model", gives(MODEL, Fault(status=404)), {}, "failed", ["does not exist, or is private"]),
    "a model without a configuration": ("model", gives(MODEL_FILE, Fault(status=404)), {}, "failed", ["cannot be served"]),
    "a model's description that is none": ("model", gives(MODEL, {"error": "x"}), {}, "failed", ["makes no sense"]),
    "a Hugging Face with trouble": ("model", gives(MODEL, Fault(status=502)), {}, "failed", ["the server has trouble"]),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_is_missing_is_named_with_its_reason_and_fix(bench: Bench, case: str) -> None:
    check, setup, settings, status, words = CASES[case]
    setup(bench.server)
    (found,) = [each for each in bench.findings(check, **settings) if each.status not in ("ok", "skipped")]
    assert found.status == status
    for word in words:
        assert word in shown(found)


def test_a_gateway_is_good_once_its_name_its_certificate_and_its_proxies_are_there(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.server.set(CERTIFICATE, {"managed": {"state": "ACTIVE"}, "expireTime": "2027-02-01T00:00:00Z"})
    found = bench.findings("gateway", **door(REGIONAL, {"dnsAuthorization": True}))
    assert [each.status for each in found] == ["ok", "ok", "ok"]
    assert "203.0.113.9" in found[0].value
    assert "until 2027-02-01" in found[1].value
    bench.server.set("compute.subnetworks.list", {"items": [proxies("10.9.0.0/24")]})
    (elsewhere,) = bench.findings("gateway", gateway={"class": INTERNAL})
    # The range matters to a NetworkPolicy alone.
    assert (elsewhere.status, elsewhere.value) == ("ok", "is 10.9.0.0/24")
    monkeypatch.setattr(gateway, "addresses", lambda host: [])
    nameless, secret, _ = bench.findings("gateway", **door(REGIONAL, {"secret": "tls"}))
    assert (nameless.status, secret.status) == ("warning", "skipped")
    assert "kubectl get secret tls" in secret.fix


@pytest.mark.parametrize("entry", [{"hostname": "llm.example.com"}, {"hostname": "*.example.com"}, {"matcher": "PRIMARY"}])
def test_a_certificate_map_serves_a_name_by_its_own_entry_its_domain_s_or_the_primary_one(bench: Bench, entry: dict[str, str]) -> None:
    set_map(bench.server, entry)
    assert [each.status for each in bench.findings("gateway", **door(GLOBAL, {"map": "edge"}))] == ["ok", "ok"]


@pytest.mark.parametrize(
    ("script", "status", "words"),
    [
        (stack_with("203.0.113.9"), "ok", "is 203.0.113.9, the gateway's address"),
        (stack_with("198.51.100.8"), "warning", "the gateway has 198.51.100.8"),
        ("echo 'error: passphrase must be set' >&2; exit 255", "warning", "passphrase must be set"),
    ],
)
def test_the_host_name_s_address_is_compared_with_the_gateway_s(bench: Bench, script: str, status: str, words: str) -> None:
    bench.pulumi(script)
    name = bench.findings("gateway", **door(GLOBAL, {"secret": "tls"}))[0]
    assert name.status == status
    assert words in shown(name)


# --- APIs and permissions


def test_apis_of_the_program_that_are_off_are_a_warning_with_the_command_that_enables_them(bench: Bench) -> None:
    set_services(bench.server, "compute", "container", "cloudbilling")
    found = {each.field: each for each in bench.findings("apis")}
    (program,) = [each for each in found.values() if each.status != "ok"]
    assert (program.field, program.status, program.value) == ("APIs of the program", "warning", "off: compute, container")
    assert "accessNotConfigured" in program.reason
    assert program.fix.startswith("gcloud services enable compute.googleapis.com container.googleapis.com --project=my-project")
    assert "cloudbilling" in found["APIs that preflight asks"].value


def test_on_a_fresh_project_what_cannot_be_asked_yet_is_skipped_and_nothing_fails(bench: Bench) -> None:
    off = ("compute", "container", "artifactregistry", "iam")
    set_services(bench.server, *off)
    for method in list(bench.server.answers):
        if (api := method.partition(".")[0]) in off:
            bench.server.set(method, disabled(api))
    report = bench.run()
    assert report.passed(strict=False), report.text()
    assert report.counts["warning"] == 1
    skipped = [outcome for outcome in report.outcomes if outcome.status == "skipped"]
    assert [outcome.check for outcome in skipped] == ["machines", "quotas", "versions", "names", "network"]
    assert "gcloud services enable compute.googleapis.com" in skipped[0].findings[0].fix


DIGEST = f"us-docker.pkg.dev/p/r/i@sha256:{'1' * 64}"


@pytest.mark.parametrize("overrides", [{}, {"maxReplicas": 3}, {"images": {"gpu": DIGEST, "tpu": DIGEST}}])
def test_every_permission_of_up_is_asked_and_no_other(bench: Bench, overrides: dict[str, Any]) -> None:
    context = bench.context(**overrides)
    assert bench.run("permissions", context=context).passed(strict=True)
    asked = {each for seen in bench.server.requests(TESTS) for each in seen.body["permissions"]}
    assert asked == {each for need in roles.needs(context.settings) for each in need.permissions}
    assert ("artifactregistry.repositories.uploadArtifacts" in asked) == ("images" not in overrides)


# --- machines and quotas


#: One machine of each accelerator, in ladders that the settings allow: all GPUs together, each TPU alone.
_ONE_OF_EACH = {machine.accelerator: name for name, machine in MACHINE_TYPES.items()}
_GPUS = [name for name in _ONE_OF_EACH.values() if MACHINE_TYPES[name].kind == "gpu"]
_LADDERS = [_GPUS, *([name] for name in _ONE_OF_EACH.values() if name not in _GPUS)]


@pytest.mark.parametrize("ladder", _LADDERS, ids=lambda ladder: ladder[0])
def test_every_accelerator_is_looked_up_as_google_tells_of_it(bench: Bench, ladder: list[str]) -> None:
    def told(seen: Seen) -> dict[str, Any]:
        machine = MACHINE_TYPES[seen.params["machineType"]]
        # GPUs are attached to an N1, and the type of a TPU names them otherwise.
        listed = machine.kind == "gpu" and not machine.counts
        carried = {"guestAcceleratorType": machine.accelerator, "guestAcceleratorCount": machine.count}
        return {"name": seen.params["machineType"], "accelerators": [carried] if listed else []}

    bench.server.set("compute.machineTypes.get", told)
    pools = [{"name": name, "machineType": name, "maxNodeCount": 2} for name in ladder]
    found = bench.findings("machines", acceleratorPools=pools)
    assert [each.status for each in found] == ["ok"] * len(ladder)
    assert {each.status for each in bench.findings("quotas", acceleratorPools=pools)} <= {"ok", "warning"}


def test_demand_is_the_sum_over_pools_zones_and_accelerators(bench: Bench) -> None:
    machine = {"machineType": "g2-standard-24"}
    pools = [
        {"name": "a", "maxNodeCount": 3, "minNodeCount": 1, "zones": [ZONE, f"{REGION}-c"], **machine},
        {"name": "b", "maxNodeCount": 1, "provisioning": "spot", **machine},
        {"name": "d", "maxNodeCount": 9, "enabled": False, **machine},
        {"name": "c", "maxNodeCount": 2, "provisioning": "preemptible", "initialNodeCount": 1, **machine},
    ]
    assert demands(bench.context(acceleratorPools=pools).settings) == {
        ("nvidia-l4", False): Demand(initial=4, maximum=12, pools=("a",)),
        ("nvidia-l4", True): Demand(initial=2, maximum=6, pools=("b", "c")),
    }


def test_boot_disks_count_on_the_quota_of_their_type(bench: Bench) -> None:
    l4 = {"machineType": "g2-standard-4", "minNodeCount": 1, "maxNodeCount": 2, "zones": [ZONE, f"{REGION}-c"], "diskSizeGb": 200}
    pools = [
        {"name": "tpu", "machineType": "ct6e-standard-1t", "maxNodeCount": 3},
        {"name": "l4", **l4},
        {"name": "off", "machineType": "g2-standard-4", "maxNodeCount": 9, "enabled": False},
    ]
    settings = bench.context(acceleratorPools=pools, systemMachineType="c3-standard-4").settings
    assert disk_demands(settings) == {
        "pd-balanced": Demand(initial=150 + 400, maximum=150 + 800, pools=("system", "l4")),
        "hyperdisk-balanced": Demand(initial=0, maximum=300, pools=("tpu",)),
    }
    types = [default_disk_type(each) for each in MACHINE_TYPES] + [plain_disk_type(each) for each in PLAIN_MACHINE_TYPES]
    assert set(types) == set(DISK_METRICS)


@pytest.mark.parametrize(
    ("limit", "used", "own", "status"),
    [(4, 0, 0, "ok"), (3, 0, 0, "warning"), (0, 0, 0, "failed"), (4, 4, 0, "failed"), (4, 4, 4, "ok"), (-1, 9, 0, "ok")],
)
def test_a_quota_is_judged_without_what_the_stack_itself_uses(limit: int, used: int, own: int, status: str) -> None:
    demand = Demand(initial=1, maximum=4, pools=("a",))
    assert judge("x", Limit(value=limit, used=used), own, demand, "fix").status == status


def _quota(bench: Bench, name: str) -> Finding:
    (found,) = [each for each in bench.findings("quotas") if each.field.startswith(name)]
    return found


@pytest.mark.parametrize(
    ("quota", "used", "machine", "count", "disk_gb"),
    [("NVIDIA_L4_GPUS", 2, "g2-standard-4", 2, 100), ("DISKS_TOTAL_GB", 150, "e2-standard-2", 3, 50)],
)
def test_a_stack_s_own_nodes_and_disks_do_not_count_against_its_quota(
    bench: Bench, quota: str, used: int, machine: str, count: int, disk_gb: int
) -> None:
    set_regional_quotas(bench.server, {**QUOTAS, quota: (used, used)})
    for cluster, status in (("tpu-gpu-fungibility", "ok"), ("another", "failed")):
        set_instances(bench.server, *[instance(machine, cluster=cluster, disk_gb=disk_gb)] * count)
        assert _quota(bench, quota).status == status
    assert "e2|g2" in bench.server.requests("compute.instances.aggregatedList")[-1].params["filter"]


def test_without_preemptible_quota_spot_nodes_count_as_standard_ones(bench: Bench) -> None:
    set_regional_quotas(bench.server, {"PREEMPTIBLE_NVIDIA_L4_GPUS": (0, 0), "NVIDIA_L4_GPUS": (3, 0), **DISKS})
    (found,) = [each for each in bench.findings("quotas") if "L4" in each.field]
    assert found.status == "warning"
    assert "the preemptible quota is 0" in found.reason


def test_a_tpu_quota_counts_the_chips_that_others_use(bench: Bench) -> None:
    assert _quota(bench, FAMILY).status == "ok"
    set_instances(
        bench.server,
        instance("ct6e-standard-1t"),
        instance("ct6e-standard-4t", spot=True),
        instance("ct6e-standard-4t", status="TERMINATED"),
        instance("ct6e-standard-1t", cluster="tpu-gpu-fungibility"),
    )
    found = _quota(bench, FAMILY)
    assert (found.status, found.value.partition(";")[0]) == ("warning", "1 free of 2, enough to start with (1)")


@pytest.mark.parametrize(
    ("infos", "value"),
    [
        ([({}, 5), ({"region": "r"}, 3)], 3),
        ([({"region": "r"}, 3), ({"region": "r", "tpu_family": "CT6E"}, 1), ({"region": "r", "tpu_family": "CT5P"}, 9)], 1),
        ([({"region": "other"}, 3)], None),
    ],
)
def test_the_most_specific_bucket_holds(infos: list[Any], value: int | None) -> None:
    assert effective_value(infos, {"region": "r", "tpu_family": "CT6E"}) == value


# --- versions


def test_versions_compare_by_number() -> None:
    assert versions.version_key("1.33.5-gke.1201000") > versions.version_key("1.9.10-gke.1201000")
    with pytest.raises(ValueError, match="not a version of GKE"):
        versions.version_key("1.31")


def test_without_v6e_an_older_version_will_do(bench: Bench) -> None:
    bench.server.set(VERSIONS, channels(REGULAR="1.30.3-gke.1451000"))
    pools = [{"name": "l4", "machineType": "g2-standard-4", "maxNodeCount": 2}]
    assert bench.outcome("versions", acceleratorPools=pools).status == "ok"
    assert bench.outcome("versions").status == "failed"


# --- names


def _export(*ids: str) -> str:
    resources: list[dict[str, str]] = [{"urn": f"urn:{each}", "id": each} for each in ids]
    state = {"version": 3, "deployment": {"resources": [*resources, {"urn": "x"}]}}
    return f"cat <<'END'\n{json.dumps(state)}\nEND"


@pytest.mark.parametrize(
    ("known", "statuses"), [((CLUSTER, REPOSITORY, ACCOUNT), ["ok"] * 3), ((REPOSITORY,), ["failed", "ok", "failed"]), ((), ["failed"] * 3)]
)
def test_a_name_is_taken_unless_the_stack_itself_has_it(bench: Bench, known: tuple[str, ...], statuses: list[str]) -> None:
    set_stack_up(bench.server)
    if known:
        bench.pulumi(_export(*known))
    found = bench.findings("names")
    assert [each.status for each in found] == statuses
    if found[0].status == "failed":
        assert found[0].fix.startswith("pulumi config set clusterName ANOTHER_NAME --stack dev")


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("echo 'error: PULUMI_ACCESS_TOKEN must be set' >&2; exit 255", "PULUMI_ACCESS_TOKEN must be set"),
        ("echo nothing", "printed no deployment"),
        ("exit 3", "exit status 3"),
        ("", "pulumi is not on PATH"),
    ],
)
def test_where_the_state_cannot_be_read_a_taken_name_is_a_warning(
    bench: Bench, script: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if script:
        bench.pulumi(script)
    else:
        monkeypatch.setenv("PATH", str(bench.folder))
    assert {each.status for each in bench.findings("names")} == {"ok"}
    set_stack_up(bench.server)
    found = bench.findings("names")
    assert {each.status for each in found} == {"warning"}
    assert why in found[0].reason


def test_a_cluster_in_a_bad_state_is_a_warning(bench: Bench) -> None:
    bad_cluster(bench.server)
    bench.pulumi(_export(CLUSTER, REPOSITORY, ACCOUNT))
    found = bench.findings("names")[0]
    assert (found.status, found.reason) == ("warning", "no addresses left")


# --- images


@pytest.mark.parametrize(
    ("text", "host", "name", "version"),
    [
        ("docker.io/vllm/vllm-openai:v0.31.0", "registry-1.docker.io", "vllm/vllm-openai", "v0.31.0"),
        ("docker.io/python:3.11", "registry-1.docker.io", "library/python", "3.11"),
        ("localhost:5000/a/b:c", "localhost:5000", "a/b", "c"),
        (f"quay.io/a/b:tag@sha256:{'0' * 64}", "quay.io", "a/b", f"sha256:{'0' * 64}"),
    ],
)
def test_references_are_taken_apart(text: str, host: str, name: str, version: str) -> None:
    assert Reference.of(text) == Reference(host=host, name=name, version=version)


@pytest.mark.parametrize(("answer", "words"), [(Fault(status=404), "not for everybody"), (Fault(body=b"[]"), "makes no sense")])
def test_a_token_server_that_gives_no_token(bench: Bench, answer: Any, words: str) -> None:
    bench.server.set("GET auth.docker.io/token", answer)
    assert all(words in each.value for each in bench.findings("images"))


def test_only_the_bases_of_images_that_are_built_are_asked(bench: Bench) -> None:
    (found,) = bench.findings("images", images={"tpu": DIGEST})
    assert found.field.startswith("gpuBaseImage")
    (found,) = bench.findings("images", imagesFrom="organization/tpu-gpu-fungibility/staging")
    assert found.status == "skipped"


# --- secrets and tokens: each goes where it belongs and nowhere else


def test_secrets_that_settings_name_are_read_and_not_shown(bench: Bench) -> None:
    bench.server.set(ACCESS, secret(HF_TOKEN))
    report = bench.run("secrets", apiKeySecret="key", huggingFaceTokenSecret="projects/other-one/secrets/token/versions/3")
    assert report.passed(strict=True), report.text()
    asked = sorted(each.params["name"] for each in bench.server.requests(ACCESS))
    assert asked == ["projects/my-project/secrets/key/versions/latest", "projects/other-one/secrets/token/versions/3"]
    assert HF_TOKEN not in report.text()


def test_google_s_registries_are_asked_with_the_access_token_and_others_are_not(bench: Bench) -> None:
    mirror = "HEAD asia-docker.pkg.dev/v2/p/mirror/vllm/manifests/v1"
    bench.server.set(mirror, Fault())
    assert bench.run("credentials", "images", gpuBaseImage="asia-docker.pkg.dev/p/mirror/vllm:v1").passed()
    (seen,) = bench.server.requests(mirror)
    assert seen.headers["authorization"] == f"Bearer {ACCESS_TOKEN}"
    assert ACCESS_TOKEN not in str([each for each in bench.server.seen if "docker.io" in each.method])


def _project_with_token(folder: Path, token: str = "\n    secure: AAABAciphertext") -> Path:
    """A copy of the settings whose file holds a token, encrypted or in the clear."""
    (folder / "project").mkdir()
    for name in ("Pulumi.yaml", "Pulumi.dev.yaml"):
        (folder / "project" / name).write_text((stack_files.PROJECT_DIR / name).read_text())
    with (folder / "project" / "Pulumi.dev.yaml").open("a") as file:
        file.write(f"  tpu-gpu-fungibility:huggingFaceToken:{token}\n")
    return folder / "project"


def _gate(server: PreflightServer, status: int = 200) -> None:
    """Gated: files for the right token alone."""

    def answer(seen: Seen) -> Fault:
        return Fault(status=status if seen.headers.get("authorization") == f"Bearer {HF_TOKEN}" else 401)

    server.set(MODEL, {"id": "Qwen/Qwen2-1.5B", "gated": "manual"})
    server.set(MODEL_FILE, answer)


def _refuses_tokens(server: PreflightServer) -> None:
    def answer(seen: Seen) -> Any:
        return Fault(status=401) if "authorization" in seen.headers else {"id": "Qwen/Qwen2-1.5B", "gated": False}

    server.set(MODEL, answer)


_READS_TOKEN = f'[ "$1" = config ] && echo {HF_TOKEN}'


@pytest.mark.parametrize(
    ("setup", "script", "status", "words"),
    [
        (_gate, _READS_TOKEN, "ok", "gated, and its files can be had with the stack's token"),
        (_gate, "", "failed", "pulumi config set --secret huggingFaceToken --stack dev"),
        (lambda server: _gate(server, 403), _READS_TOKEN, "failed", "has not been let in"),
        (_refuses_tokens, _READS_TOKEN, "failed", "huggingFaceToken is refused"),
        (_gate, "echo 'error: passphrase must be set' >&2; exit 255", "skipped", "passphrase must be set"),
    ],
)
def test_a_gated_model_is_asked_for_with_the_stack_s_token(bench: Bench, setup: Setup, script: str, status: str, words: str) -> None:
    setup(bench.server)
    context = bench.context(project_dir=_project_with_token(bench.folder)) if script else bench.context()
    if script:
        bench.pulumi(script)
    report = bench.run("model", context=context)
    (found,) = report.outcomes[0].findings
    assert found.status == status
    assert words in shown(found)
    assert HF_TOKEN not in report.text() + json.dumps(report.document()) + bench.pulumi_arguments()


def test_a_token_in_secret_manager_or_in_the_clear_opens_a_gated_model(bench: Bench) -> None:
    _gate(bench.server)
    bench.server.set(ACCESS, secret(f"{HF_TOKEN}\n"))
    assert bench.run("credentials", "model", huggingFaceTokenSecret="token").passed(strict=True)
    report = bench.run("model", context=bench.context(project_dir=_project_with_token(bench.folder, f" {HF_TOKEN}")))
    assert report.passed(strict=True)
    assert HF_TOKEN not in report.text()


def test_google_sees_no_token_of_hugging_face_and_the_other_way_round(bench: Bench) -> None:
    context = bench.context(project_dir=_project_with_token(bench.folder))
    bench.pulumi(f"{_READS_TOKEN} || exit 1")
    _gate(bench.server)
    report = bench.run(context=context)
    for seen in bench.server.seen:
        secret = ACCESS_TOKEN if seen.method.split()[-1].startswith("huggingface.co") else HF_TOKEN
        assert secret not in str(seen)
        assert seen.params.get("project", PROJECT) == PROJECT
    assert ACCESS_TOKEN not in report.text() + json.dumps(report.document())
