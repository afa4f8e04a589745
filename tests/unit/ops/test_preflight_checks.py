"""What each check of preflight says of projects that are not as they should be."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from bootstrap import roles
from components.catalog.machines import MACHINE_TYPES
from components.settings import stack_files
from ops.preflight.checks import versions
from ops.preflight.checks.quotas import Demand, Limit, demands, effective_value, in_use, judge
from ops.preflight.quota_metrics import METRICS
from ops.preflight.registry import Reference
from tests.unit.preflight_project import (
    ACCOUNT,
    CLUSTER,
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
from tests.unit.preflight_run import Bench, _bench, _key, _server, _shared_server  # noqa: F401  # fixtures
from tests.unit.preflight_server import ACCESS_TOKEN, HF_TOKEN, Fault, Seen, api_error, disabled

TESTS = "cloudresourcemanager.projects.testIamPermissions"


# APIs


def test_apis_that_up_needs_first_are_failures_and_the_programs_own_are_not(bench: Bench) -> None:
    set_services(bench.server, "cloudresourcemanager", "compute", "container", "cloudbilling")
    found = {each.field: each for each in bench.findings("apis")}
    assert found["cloudresourcemanager.googleapis.com"].status == "failed"
    assert (
        found["cloudresourcemanager.googleapis.com"].fix
        == "gcloud services enable cloudresourcemanager.googleapis.com --project=my-project"
    )
    program = found["APIs of the program"]
    assert program.status == "ok"
    assert "compute, container" in program.value
    assert "gcloud services enable compute.googleapis.com container.googleapis.com" in program.value
    assert "cloudbilling" in found["APIs that preflight asks"].value


def test_on_a_fresh_project_what_cannot_be_asked_yet_is_skipped_and_nothing_fails(bench: Bench) -> None:
    set_services(bench.server, "compute", "container", "artifactregistry", "iam")
    for method in list(bench.server.answers):
        api = method.partition(".")[0]
        if api in ("compute", "container", "artifactregistry", "iam"):
            bench.server.set(method, disabled(api))
    report = bench.run()
    assert report.passed(strict=True), report.text()
    skipped = [outcome for outcome in report.outcomes if outcome.status == "skipped"]
    assert [outcome.check for outcome in skipped] == ["machines", "quotas", "versions", "names"]
    assert "gcloud services enable compute.googleapis.com" in skipped[0].findings[0].fix


# Permissions


def test_every_permission_of_up_is_asked_and_no_other(bench: Bench) -> None:
    variants: tuple[dict[str, Any], ...] = ({}, {"maxReplicas": 3})
    for overrides in variants:
        context = bench.context(**overrides)
        bench.server.seen.clear()
        assert bench.run("permissions", context=context).passed(strict=True)
        asked = {each for seen in bench.server.requests(TESTS) for each in seen.body["permissions"]}
        assert asked == {each for need in roles.needs(context.settings) for each in need.permissions}


def _without(*refused: str) -> Any:
    return lambda seen: {"permissions": [each for each in seen.body["permissions"] if each not in refused]}


def test_a_missing_permission_names_the_role_and_the_command(bench: Bench) -> None:
    bench.server.set(TESTS, _without("container.clusters.create"))
    (found,) = bench.findings("permissions")
    assert found.status == "failed"
    assert "container.clusters.create" in found.value
    assert found.fix == (
        "gcloud projects add-iam-policy-binding my-project "
        "--member=serviceAccount:deployer@my-project.iam.gserviceaccount.com --role=roles/container.admin"
    )


def test_a_permission_that_may_be_given_elsewhere_is_a_warning(bench: Bench) -> None:
    bench.server.set(TESTS, _without("iam.serviceAccounts.actAs"))
    (found,) = bench.findings("permissions")
    assert found.status == "warning"
    assert "service account itself" in found.reason


def test_no_permission_at_all(bench: Bench) -> None:
    bench.server.set(TESTS, {})
    found = bench.findings("permissions")
    assert {each.status for each in found} == {"failed", "warning"}
    needs = roles.needs(bench.context().settings)
    assert len(found) == len({(need.role, need.elsewhere) for need in needs})


def test_a_project_that_is_not_there_is_no_warning(bench: Bench) -> None:
    bench.server.set(TESTS, api_error(403, "Permission denied on resource project my-project (or it may not exist)."))
    (found,) = bench.findings("permissions")
    assert found.status == "failed"
    assert "does not exist, or nothing in it is yours" in found.value
    assert "pulumi config set gcp:project" in found.fix


def test_a_permission_that_google_does_not_know_spoils_only_its_role(bench: Bench) -> None:
    def answer(seen: Seen) -> Any:
        if any(each.startswith("container.thirdPartyObjects") for each in seen.body["permissions"]):
            return api_error(400, "Permission container.thirdPartyObjects.create is not valid for this resource.")
        return dict(seen.body)

    bench.server.set(TESTS, answer)
    (found,) = bench.findings("permissions")
    assert found.status == "warning"
    assert "roles/container.admin" in found.field
    assert "thirdPartyObjects" in found.reason


def test_pushing_an_image_needs_no_permission_where_none_is_built(bench: Bench) -> None:
    digest = f"us-docker.pkg.dev/p/r/i@sha256:{'1' * 64}"
    context = bench.context(images={"gpu": digest, "tpu": digest})
    bench.run("permissions", context=context)
    asked = {each for seen in bench.server.requests(TESTS) for each in seen.body["permissions"]}
    assert "artifactregistry.repositories.uploadArtifacts" not in asked


# Billing


@pytest.mark.parametrize(
    ("info", "cure"),
    [
        ({"billingEnabled": False}, "gcloud billing projects link my-project --billing-account=ACCOUNT_ID"),
        ({}, "gcloud billing projects link my-project"),
        (
            {"billingAccountName": "billingAccounts/0A", "billingEnabled": False},
            "https://console.cloud.google.com/billing",
        ),
    ],
)
def test_billing_that_is_off(bench: Bench, info: dict[str, Any], cure: str) -> None:
    bench.server.set("cloudbilling.projects.getBillingInfo", info)
    (found,) = bench.findings("billing")
    assert found.status == "failed"
    assert cure in found.fix


# Machines


def test_a_machine_type_that_is_elsewhere_says_where(bench: Bench) -> None:
    def answer(seen: Seen) -> Any:
        if seen.params["machineType"] == "ct6e-standard-1t":
            return api_error(404, f"The resource 'projects/my-project/zones/{ZONE}/machineTypes/x' was not found")
        return MACHINES[seen.params["machineType"]]

    bench.server.set("compute.machineTypes.get", answer)
    here, page = {"machineTypes": [{"name": "ct6e-standard-1t"}]}, "second"
    bench.server.set(
        "compute.machineTypes.aggregatedList",
        [
            {"items": {"zones/us-east5-a": here, "zones/us-east1-b": {}}, "nextPageToken": page},
            {"items": {"zones/asia-northeast1-c": here}},
        ],
    )
    tpu, gpu = bench.findings("machines")
    assert (tpu.status, gpu.status) == ("failed", "ok")
    assert "it is in asia-northeast1-c, us-east5-a" in tpu.value
    assert 'gcloud compute machine-types list --project=my-project --filter="name=ct6e-standard-1t"' in tpu.fix
    assert bench.server.requests("compute.machineTypes.aggregatedList")[1].params["pageToken"] == page


def test_a_machine_type_that_is_nowhere(bench: Bench) -> None:
    bench.server.set("compute.machineTypes.get", api_error(404, "not found"))
    bench.server.set("compute.machineTypes.aggregatedList", {"items": {}})
    assert all("in no zone" in each.value for each in bench.findings("machines"))


def test_a_machine_with_another_accelerator_than_the_programs_table_says(bench: Bench) -> None:
    wrong = [{"guestAcceleratorType": "nvidia-l4", "guestAcceleratorCount": 2}]
    bench.server.set("compute.machineTypes.get", {"name": "g2-standard-4", "accelerators": wrong})
    found = [each for each in bench.findings("machines") if each.status == "failed"]
    assert len(found) == 1
    assert "components/catalog/machines.py" in found[0].reason


def test_a_gpu_that_the_zone_does_not_have(bench: Bench) -> None:
    bench.server.set("compute.acceleratorTypes.get", api_error(404, "The resource was not found"))
    found = [each for each in bench.findings("machines") if each.status == "failed"]
    assert [each.value for each in found] == ["nvidia-l4 does not exist there"]
    assert "accelerator-types list" in found[0].fix


def test_each_zone_of_a_pool_is_asked_once(bench: Bench) -> None:
    bench.run("machines")
    asked = sorted((each.params["zone"], each.params["machineType"]) for each in bench.server.requests("compute.machineTypes.get"))
    assert asked == [(ZONE, "ct6e-standard-1t"), (ZONE, "g2-standard-4")]


# Quotas


def _quota(bench: Bench, name: str) -> Any:
    (found,) = [each for each in bench.findings("quotas") if each.field.startswith(name)]
    return found


def test_demand_is_the_sum_over_pools_zones_and_accelerators(bench: Bench) -> None:
    pools = [
        {
            "name": "a",
            "machineType": "g2-standard-24",
            "maxNodeCount": 3,
            "minNodeCount": 1,
            "zones": [ZONE, f"{REGION}-c"],
        },
        {"name": "b", "machineType": "g2-standard-24", "maxNodeCount": 1, "provisioning": "spot"},
        {"name": "d", "machineType": "g2-standard-24", "maxNodeCount": 9, "enabled": False},
        {
            "name": "c",
            "machineType": "g2-standard-24",
            "maxNodeCount": 2,
            "provisioning": "preemptible",
            "initialNodeCount": 1,
        },
    ]
    wanted = demands(bench.context(acceleratorPools=pools).settings)
    assert wanted == {
        ("nvidia-l4", False): Demand(initial=4, maximum=12, pools=("a",)),
        ("nvidia-l4", True): Demand(initial=2, maximum=6, pools=("b", "c")),
    }


@pytest.mark.parametrize(
    ("limit", "used", "own", "status"),
    [(4, 0, 0, "ok"), (3, 0, 0, "warning"), (0, 0, 0, "failed"), (4, 4, 0, "failed"), (4, 4, 4, "ok"), (-1, 9, 0, "ok")],
)
def test_a_quota_is_judged_without_what_the_stack_itself_uses(limit: int, used: int, own: int, status: str) -> None:
    demand = Demand(initial=1, maximum=4, pools=("a",))
    assert judge("x", Limit(value=limit, used=used), own, demand, "cure").status == status


def test_a_gpu_quota_that_is_too_small_to_start(bench: Bench) -> None:
    set_regional_quotas(bench.server, {**QUOTAS, "NVIDIA_L4_GPUS": (1, 1)})
    found = _quota(bench, "NVIDIA_L4_GPUS")
    assert found.status == "failed"
    assert found.value == "0 free of 1, and pool l4 starts with 1"
    assert "--quota-id=NVIDIA-L4-GPUS-per-project-region --preferred-value=3 --dimensions=region=asia-northeast1" in found.fix
    assert "https://console.cloud.google.com/iam-admin/quotas?project=my-project" in found.fix
    assert _quota(bench, "PREEMPTIBLE_NVIDIA_L4_GPUS").status == "ok"


def test_a_gpu_quota_that_is_enough_to_start_only(bench: Bench) -> None:
    set_regional_quotas(bench.server, {**QUOTAS, "NVIDIA_L4_GPUS": (1, 0)})
    found = _quota(bench, "NVIDIA_L4_GPUS")
    assert found.status == "warning"
    assert "maxNodeCount" in found.fix


def test_a_stack_that_is_up_is_not_held_against_its_own_quota(bench: Bench) -> None:
    set_regional_quotas(bench.server, {**QUOTAS, "NVIDIA_L4_GPUS": (2, 2)})
    assert _quota(bench, "NVIDIA_L4_GPUS").status == "failed"
    set_instances(bench.server, *[instance("g2-standard-4", cluster="tpu-gpu-fungibility")] * 2)
    assert _quota(bench, "NVIDIA_L4_GPUS").status == "ok"
    set_instances(bench.server, *[instance("g2-standard-4", cluster="another")] * 2)
    assert _quota(bench, "NVIDIA_L4_GPUS").status == "failed"


def test_without_preemptible_quota_spot_nodes_count_as_standard_ones(bench: Bench) -> None:
    set_regional_quotas(bench.server, {**QUOTAS, "PREEMPTIBLE_NVIDIA_L4_GPUS": (0, 0)})
    found = [each for each in bench.findings("quotas") if "L4" in each.field]
    assert [each.value for each in found] == ["4 free of 4; pools l4, l4-spot may reach 4"]
    set_regional_quotas(bench.server, {"PREEMPTIBLE_NVIDIA_L4_GPUS": (0, 0), "NVIDIA_L4_GPUS": (3, 0)})
    found = [each for each in bench.findings("quotas") if "L4" in each.field]
    assert [each.status for each in found] == ["warning"]
    assert "PREEMPTIBLE_NVIDIA_L4_GPUS is 0" in found[0].reason


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
    assert found.status == "warning"
    assert found.value.startswith("1 free of 2, enough to start with (1)")
    assert "--dimensions=region=asia-northeast1,tpu_family=CT6E" in found.fix


def test_a_tpu_quota_that_the_region_has_not_been_given(bench: Bench) -> None:
    set_tpu_quota(bench.server, [({"region": "us-east5", "tpu_family": "CT6E"}, 32), ({}, 0)])
    assert _quota(bench, FAMILY).status == "failed"


def test_spot_tpus_count_against_their_own_quota(bench: Bench) -> None:
    pools = [{"name": "a", "machineType": "ct6e-standard-4t", "maxNodeCount": 2, "provisioning": "spot"}]
    set_tpu_quota(bench.server, [({}, 1536), ({"region": REGION}, 4)], SPOT_TPU)
    (found,) = bench.findings("quotas", acceleratorPools=pools)
    assert found.field.startswith(SPOT_TPU)
    assert "--quota-id=PREEMPTIBLE-TPU-V6E-per-project-region" in found.fix
    assert found.value.startswith("4 free of 4, enough to start with (0)")


def test_all_gpus_of_the_project_have_a_bound_of_their_own(bench: Bench) -> None:
    bench.server.set("compute.projects.get", {"quotas": [{"metric": "GPUS_ALL_REGIONS", "limit": 0, "usage": 0}]})
    found = _quota(bench, "GPUS_ALL_REGIONS")
    assert found.status == "failed"
    assert found.value == "0 free of 0, and pools l4-spot, l4 start with 2"
    assert "--quota-id=GPUS-ALL-REGIONS-per-project --preferred-value=4 " in found.fix
    bench.server.set("compute.projects.get", {"quotas": []})
    assert _quota(bench, "GPUS_ALL_REGIONS").value == "the project has no such limit"


def test_a_metric_that_the_region_does_not_list_is_a_warning_with_its_source(bench: Bench) -> None:
    set_regional_quotas(bench.server, {"NVIDIA_L4_GPUS": (4, 0)})
    found = _quota(bench, "PREEMPTIBLE_NVIDIA_L4_GPUS")
    assert found.status == "warning"
    assert "discovery document" in found.reason


def test_every_accelerator_of_the_program_has_both_quotas() -> None:
    for machine in MACHINE_TYPES.values():
        for spot in (False, True):
            assert METRICS[machine.accelerator, spot].source


def test_instances_of_machines_without_accelerator_hold_none() -> None:
    assert in_use([instance("e2-standard-2"), {"machineType": ""}]) == {}


@pytest.mark.parametrize(
    ("infos", "value"),
    [
        ([({}, 5)], 5),
        ([({}, 5), ({"region": "r"}, 3)], 3),
        (
            [
                ({"region": "r"}, 3),
                ({"region": "r", "tpu_family": "CT6E"}, 1),
                ({"region": "r", "tpu_family": "CT5P"}, 9),
            ],
            1,
        ),
        ([({"region": "other"}, 3)], None),
        ([], None),
    ],
)
def test_the_most_specific_bucket_holds(infos: list[Any], value: int | None) -> None:
    assert effective_value(infos, {"region": "r", "tpu_family": "CT6E"}) == value


# Versions


def test_versions_compare_by_number() -> None:
    assert versions.version_key("1.33.5-gke.1201000") > versions.version_key("1.9.10-gke.1201000")
    assert versions.version_key("1.31.4-gke.1256000") > versions.version_key("1.31.4-gke.999999")
    with pytest.raises(ValueError, match="not a version of GKE"):
        versions.version_key("1.31")


def test_a_channel_that_is_too_old_names_one_that_is_not(bench: Bench) -> None:
    bench.server.set(
        "container.projects.locations.getServerConfig",
        channels(REGULAR="1.31.4-gke.1255999", RAPID="1.35.0-gke.1000"),
    )
    (found,) = bench.findings("versions")
    assert found.status == "failed"
    assert "tpu-v6e-slice needs 1.31.4-gke.1256000" in found.value
    assert found.fix == "pulumi config set releaseChannel RAPID"


def test_without_v6e_an_older_version_will_do(bench: Bench) -> None:
    bench.server.set("container.projects.locations.getServerConfig", channels(REGULAR="1.30.3-gke.1451000"))
    pools = [{"name": "l4", "machineType": "g2-standard-4", "maxNodeCount": 2}]
    assert bench.outcome("versions", acceleratorPools=pools).status == "ok"
    assert bench.outcome("versions").status == "failed"


def test_a_channel_that_the_region_lacks(bench: Bench) -> None:
    bench.server.set("container.projects.locations.getServerConfig", channels(STABLE="1.33.5-gke.1201000"))
    (found,) = bench.findings("versions")
    assert found.status == "warning"
    assert "get-server-config" in found.fix


def test_a_cluster_that_is_there_counts_by_its_own_version(bench: Bench) -> None:
    set_stack_up(bench.server, version="1.30.0-gke.1")
    (found,) = bench.findings("versions")
    assert found.status == "failed"
    assert found.fix.startswith("gcloud container clusters upgrade tpu-gpu-fungibility --master")


# Names


def _export(*ids: str) -> str:
    state = {
        "version": 3,
        "deployment": {"resources": [{"urn": f"urn:{each}", "id": each} for each in ids] + [{"urn": "x"}]},
    }
    return f"cat <<'END'\n{json.dumps(state)}\nEND"


def test_a_stack_that_is_up_does_not_collide_with_itself(bench: Bench) -> None:
    set_stack_up(bench.server)
    bench.pulumi(_export(CLUSTER, REPOSITORY, ACCOUNT))
    assert {(each.status, each.value) for each in bench.findings("names")} == {("ok", "exists, and is this stack's")}
    assert "stack export --stack dev --non-interactive" in bench.pulumi_arguments()


def test_names_that_somebody_else_has_taken(bench: Bench) -> None:
    set_stack_up(bench.server)
    bench.pulumi(_export(REPOSITORY))
    found = bench.findings("names")
    assert [each.status for each in found] == ["failed", "ok", "failed"]
    assert found[0].fix.startswith("pulumi config set clusterName ANOTHER_NAME --stack dev")
    assert CLUSTER in found[0].reason


def test_a_stack_without_state_owns_nothing(bench: Bench) -> None:
    set_stack_up(bench.server)
    assert {each.status for each in bench.findings("names")} == {"failed"}


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("echo 'error: PULUMI_ACCESS_TOKEN must be set' >&2; exit 255", "PULUMI_ACCESS_TOKEN must be set"),
        ("echo nothing", "printed no deployment"),
        ("exit 3", "exit status 3"),
    ],
)
def test_where_the_state_cannot_be_read_a_taken_name_is_a_warning(bench: Bench, script: str, why: str) -> None:
    bench.pulumi(script)
    assert {each.status for each in bench.findings("names")} == {"ok"}
    set_stack_up(bench.server)
    found = bench.findings("names")
    assert {each.status for each in found} == {"warning"}
    assert why in found[0].reason


def test_no_pulumi_on_path(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(bench.folder))
    set_stack_up(bench.server)
    assert bench.findings("names")[0].reason == "pulumi is not on PATH"


def test_a_cluster_in_a_bad_state(bench: Bench) -> None:
    set_stack_up(bench.server)
    bench.server.set(
        "container.projects.locations.clusters.get",
        {"currentMasterVersion": "1.33.5-gke.1201000", "status": "ERROR", "statusMessage": "no addresses left"},
    )
    bench.pulumi(_export(CLUSTER, REPOSITORY, ACCOUNT))
    found = bench.findings("names")[0]
    assert (found.status, found.reason) == ("warning", "no addresses left")


# Secrets

ACCESS = "secretmanager.projects.secrets.versions.access"


def _secret(text: str) -> dict[str, Any]:
    return {"name": "x", "payload": {"data": base64.b64encode(text.encode()).decode()}}


def test_secrets_that_settings_name_are_read_and_not_shown(bench: Bench) -> None:
    bench.server.set(ACCESS, _secret(HF_TOKEN))
    context = bench.context(apiKeySecret="key", huggingFaceTokenSecret="projects/other-one/secrets/token/versions/3")
    report = bench.run("secrets", context=context)
    assert report.passed(strict=True), report.text()
    asked = sorted(each.params["name"] for each in bench.server.requests(ACCESS))
    assert asked == ["projects/my-project/secrets/key/versions/latest", "projects/other-one/secrets/token/versions/3"]
    assert HF_TOKEN not in report.text()


@pytest.mark.parametrize(
    ("answer", "words", "cure"),
    [
        (
            api_error(404, "not found"),
            "does not exist in project my-project",
            "gcloud secrets create key --project=my-project",
        ),
        (api_error(403, "denied"), "may not be read", "--role=roles/secretmanager.secretAccessor"),
        (_secret(" "), "is empty", "gcloud secrets versions add key"),
        ({"name": "x"}, "makes no sense", "proxy"),
    ],
)
def test_a_secret_that_cannot_be_had(bench: Bench, answer: Any, words: str, cure: str) -> None:
    bench.server.set(ACCESS, answer)
    (found,) = bench.findings("secrets", apiKeySecret="key")
    assert found.status == "failed"
    assert words in found.value
    assert cure in found.fix


def test_a_token_in_secret_manager_opens_a_gated_model(bench: Bench) -> None:
    _gate(bench.server)
    bench.server.set(ACCESS, _secret(f"{HF_TOKEN}\n"))
    context = bench.context(huggingFaceTokenSecret="token")
    assert bench.run("credentials", "model", context=context).passed(strict=True)
    assert bench.pulumi_arguments() == ""


# Images


@pytest.mark.parametrize(
    ("text", "host", "name", "version"),
    [
        ("docker.io/vllm/vllm-openai:v0.31.0", "registry-1.docker.io", "vllm/vllm-openai", "v0.31.0"),
        ("docker.io/python:3.11", "registry-1.docker.io", "library/python", "3.11"),
        ("localhost:5000/a/b:c", "localhost:5000", "a/b", "c"),
        (f"quay.io/a/b@sha256:{'0' * 64}", "quay.io", "a/b", f"sha256:{'0' * 64}"),
        (f"quay.io/a/b:tag@sha256:{'0' * 64}", "quay.io", "a/b", f"sha256:{'0' * 64}"),
    ],
)
def test_references_are_taken_apart(text: str, host: str, name: str, version: str) -> None:
    assert Reference.of(text) == Reference(host=host, name=name, version=version)


@pytest.mark.parametrize(
    ("fault", "status", "words"),
    [
        (Fault(status=404), "failed", "does not exist"),
        (Fault(status=403), "failed", "not for everybody"),
        (Fault(status=401, headers={"WWW-Authenticate": "Basic realm=x"}), "failed", "not for everybody"),
        (Fault(status=401), "failed", "not for everybody"),
        (Fault(status=429, headers={"Retry-After": "9999"}), "warning", "no more requests"),
        (Fault(status=500), "failed", "the server has trouble"),
        (Fault(drop=True), "failed", "no connection"),
        (Fault(status=302, headers={"Location": "/login"}), "failed", "refused"),
    ],
)
def test_a_registry_that_does_not_give_the_base_image(bench: Bench, fault: Fault, status: str, words: str) -> None:
    bench.server.set(GPU_BASE, fault)
    (found,) = [each for each in bench.findings("images") if each.field.startswith("gpuBaseImage")]
    assert found.status == status
    assert words in found.value


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Fault(status=404), "not for everybody"),
        (Fault(body=b"{"), "makes no sense"),
        ({"nothing": True}, "makes no sense"),
        (Fault(body=b"[]"), "makes no sense"),
    ],
)
def test_a_token_server_that_gives_no_token(bench: Bench, answer: Any, words: str) -> None:
    bench.server.set("GET auth.docker.io/token", answer)
    assert all(words in each.value for each in bench.findings("images"))


def test_only_the_bases_of_images_that_are_built_are_asked(bench: Bench) -> None:
    digest = f"us-docker.pkg.dev/p/r/i@sha256:{'1' * 64}"
    (found,) = bench.findings("images", images={"tpu": digest})
    assert found.field.startswith("gpuBaseImage")
    (found,) = bench.findings("images", imagesFrom="organization/tpu-gpu-fungibility/staging")
    assert found.status == "skipped"


def test_googles_registries_are_asked_with_the_access_token_and_others_are_not(bench: Bench) -> None:
    mirror = "HEAD asia-docker.pkg.dev/v2/p/mirror/vllm/manifests/v1"
    bench.server.set(mirror, Fault())
    context = bench.context(gpuBaseImage="asia-docker.pkg.dev/p/mirror/vllm:v1")
    assert bench.run("credentials", "images", context=context).passed()
    (seen,) = bench.server.requests(mirror)
    assert seen.headers["authorization"] == f"Bearer {ACCESS_TOKEN}"
    for each in bench.server.requests(GPU_BASE):
        assert ACCESS_TOKEN not in str(each.headers)


# The model


def _project_with_token(folder: Path) -> Path:
    """A copy of the settings whose file holds an encrypted token."""
    (folder / "project").mkdir()
    for name in ("Pulumi.yaml", "Pulumi.dev.yaml"):
        (folder / "project" / name).write_text((stack_files.PROJECT_DIR / name).read_text())
    with (folder / "project" / "Pulumi.dev.yaml").open("a") as file:
        file.write("  tpu-gpu-fungibility:huggingFaceToken:\n    secure: AAABAciphertext\n")
    return folder / "project"


def _model(bench: Bench, *, token: bool) -> Any:
    context = bench.context(project_dir=_project_with_token(bench.folder)) if token else bench.context()
    if token:
        bench.pulumi(f'[ "$1" = config ] && echo {HF_TOKEN}')
    report = bench.run("model", context=context)
    assert HF_TOKEN not in report.text() + json.dumps(report.document()) + bench.pulumi_arguments()
    ((found,),) = [outcome.findings for outcome in report.outcomes]
    return found


def _gate(server: Any, status: int = 200, *, gated: object = "manual") -> None:
    """Gated: files for the right token alone."""

    def answer(seen: Seen) -> Fault:
        if seen.headers.get("authorization") != f"Bearer {HF_TOKEN}":
            return Fault(status=401, headers={"X-Error-Code": "GatedRepo"})
        return Fault(status=status)

    server.set(MODEL, {"id": "Qwen/Qwen2-1.5B", "gated": gated})
    server.set(MODEL_FILE, answer)


def test_a_gated_model_with_a_token_that_may(bench: Bench) -> None:
    _gate(bench.server)
    found = _model(bench, token=True)
    assert found.status == "ok"
    assert "config get huggingFaceToken --stack dev" in bench.pulumi_arguments()


def test_a_gated_model_without_token(bench: Bench) -> None:
    _gate(bench.server, gated="auto")
    found = _model(bench, token=False)
    assert found.status == "failed"
    assert found.fix == "pulumi config set --secret huggingFaceToken --stack dev"
    assert bench.pulumi_arguments() == ""


def test_a_gated_model_whose_terms_were_not_accepted(bench: Bench) -> None:
    _gate(bench.server, 403)
    found = _model(bench, token=True)
    assert found.status == "failed"
    assert "has not been let in" in found.value
    assert found.fix.startswith("https://huggingface.co/Qwen/Qwen2-1.5B")


def test_a_token_that_hugging_face_refuses(bench: Bench) -> None:
    def answer(seen: Seen) -> Any:
        return Fault(status=401) if "authorization" in seen.headers else {"id": "Qwen/Qwen2-1.5B", "gated": False}

    bench.server.set(MODEL, answer)
    found = _model(bench, token=True)
    assert found.status == "failed"
    assert "huggingFaceToken is refused" in found.value


def test_a_token_that_cannot_be_read_leaves_only_a_gated_model_unchecked(bench: Bench) -> None:
    context = bench.context(project_dir=_project_with_token(bench.folder))
    bench.pulumi("echo 'error: passphrase must be set with PULUMI_CONFIG_PASSPHRASE' >&2; exit 255")
    assert bench.run("model", context=context).counts["ok"] == 1
    _gate(bench.server)
    report = bench.run("model", context=context)
    assert report.counts["skipped"] == 1
    assert "PULUMI_CONFIG_PASSPHRASE" in report.outcomes[0].findings[0].reason


@pytest.mark.parametrize(
    ("description", "file", "status", "words"),
    [
        (Fault(status=404), Fault(), "failed", "does not exist, or is private"),
        (Fault(status=401), Fault(), "failed", "does not exist, or is private"),
        ({"id": "x", "gated": False}, Fault(status=404), "failed", "cannot be served"),
        ({"id": "x", "gated": False}, Fault(status=307, headers={"Location": "/api/x"}), "ok", "open to everybody"),
        ({"error": "x"}, Fault(), "failed", "makes no sense"),
        (Fault(body=b"<html>"), Fault(), "failed", "makes no sense"),
        (Fault(status=502), Fault(), "failed", "the server has trouble"),
        (Fault(status=429, headers={"Retry-After": "999"}), Fault(), "failed", "too many requests"),
        ({"id": "x", "gated": False}, Fault(drop=True), "failed", "no connection"),
    ],
)
def test_a_model_that_cannot_be_had(bench: Bench, description: Any, file: Fault, status: str, words: str) -> None:
    bench.server.set(MODEL, description)
    bench.server.set(MODEL_FILE, file)
    found = _model(bench, token=False)
    assert found.status == status
    assert words in found.value


def test_a_token_in_the_clear_is_used_and_not_shown(bench: Bench) -> None:
    project = _project_with_token(bench.folder)
    text = (project / "Pulumi.dev.yaml").read_text().partition("  tpu-gpu-fungibility:huggingFaceToken")[0]
    (project / "Pulumi.dev.yaml").write_text(f"{text}  tpu-gpu-fungibility:huggingFaceToken: {HF_TOKEN}\n")
    _gate(bench.server)
    report = bench.run("model", context=bench.context(project_dir=project))
    assert report.passed()
    assert HF_TOKEN not in report.text()


def test_google_sees_no_token_of_hugging_face_and_the_other_way_round(bench: Bench) -> None:
    context = bench.context(project_dir=_project_with_token(bench.folder))
    bench.pulumi(f'[ "$1" = config ] && echo {HF_TOKEN} || exit 1')
    _gate(bench.server)
    report = bench.run(context=context)
    for seen in bench.server.seen:
        secret = ACCESS_TOKEN if seen.method.split()[-1].startswith("huggingface.co") else HF_TOKEN
        assert secret not in str(seen)
    assert ACCESS_TOKEN not in report.text() + json.dumps(report.document())


def test_project_id_goes_where_google_wants_it(bench: Bench) -> None:
    bench.run()
    for seen in bench.server.seen:
        if "project" in seen.params:
            assert seen.params["project"] == PROJECT
