"""The whole program: its inventory, its order, its outputs, and that every setting reaches a resource."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from components.settings.problems import SettingsError
from components.settings.schema import schema_settings
from tests.unit.inventory import difference, inventory, left_on
from tests.unit.program import API_KEY, OTHER_IMAGES, ROOT, TOKEN, Run, config, default_of, run_program

GOLDEN = Path(__file__).parents[1] / "golden"

CLUSTER = "gcp:container/cluster:Cluster"
NODE_POOL = "gcp:container/nodePool:NodePool"
IMAGE = "docker:index/image:Image"
DEPLOYMENT = "kubernetes:apps/v1:Deployment"
SERVICE = "kubernetes:core/v1:Service"
SECRET = "kubernetes:core/v1:Secret"
AUTOSCALER = "kubernetes:autoscaling/v2:HorizontalPodAutoscaler"
DISRUPTION_BUDGET = "kubernetes:policy/v1:PodDisruptionBudget"
ALERT_POLICY = "gcp:monitoring/alertPolicy:AlertPolicy"
DASHBOARD = "gcp:monitoring/dashboard:Dashboard"
REPOSITORY = "gcp:artifactregistry/repository:Repository"
NETWORK_POLICY = "kubernetes:networking.k8s.io/v1:NetworkPolicy"
INFERENCE_POOL = "kubernetes:inference.networking.k8s.io/v1:InferencePool"
REFUSAL = "refusal"
COMPUTE_CLASS = "kubernetes:cloud.google.com/v1:ComputeClass"


@pytest.fixture(scope="module")
def dev() -> Run:
    return run_program({"huggingFaceToken": TOKEN})


def test_stacks_make_exactly_the_resources_of_their_golden_files() -> None:
    """The golden file of dev has everything, that of prod the differences from it."""
    dev, prod = (inventory(run_program(stack=stack)) for stack in ("dev", "prod"))
    made = {"dev": dev, "prod": difference(prod, dev)}
    for stack, lines in made.items():
        golden = GOLDEN / f"{stack}.txt"
        if os.environ.get("UPDATE_GOLDEN"):
            golden.write_text("\n".join(lines) + "\n")
        assert lines == golden.read_text().splitlines(), (
            f"the program makes other resources than tests/unit/golden/{stack}.txt says; if that is meant:\n"
            "  UPDATE_GOLDEN=1 .venv/bin/pytest tests/unit/components/test_program.py && git diff tests/unit/golden"
        )


def test_outputs_are_those_that_other_stacks_read(dev: Run) -> None:
    repository = "asia-northeast1-docker.pkg.dev/my-project/docker-repo"
    outputs = dict(dev.outputs)
    images = outputs.pop("images")
    kubeconfig = json.loads(outputs.pop("kubeconfig"))
    assert outputs == {
        "service_ip": "198.51.100.7",
        "service_url": "http://198.51.100.7/v1",
        "dns_records": [],
        "model": "Qwen/Qwen2-1.5B",
        "namespace": "default",
        "cluster_name": "tpu-gpu-fungibility",
        "cluster_location": "asia-northeast1",
        "compute_class": "vllm-fallback",
        "accelerator_pools": ["v6e-1", "l4-spot", "l4"],
        "image_repository": repository,
        "base_images": {kind: default_of(f"{kind}BaseImage") for kind in ("gpu", "tpu")},
    }
    assert set(images) == {"gpu", "tpu"}
    assert all(reference.startswith(f"{repository}/vllm-fungibility@sha256:") for reference in images.values())
    assert dev.secret_outputs == ["kubeconfig"]
    assert kubeconfig["users"][0]["user"]["exec"]["command"] == "gke-gcloud-auth-plugin"
    assert kubeconfig["clusters"][0]["cluster"]["server"] == "https://203.0.113.10"


def test_every_resource_has_a_parent_and_an_explicit_provider(dev: Run) -> None:
    for resource in dev.resources.values():
        if resource.custom and not resource.type.startswith("pulumi:"):
            assert "fungibility:index:" in resource.parent, resource.urn
            assert resource.provider.split("::")[-2] in ("gcp", "docker", "kubernetes"), resource.urn


def test_nothing_of_the_images_waits_for_the_cluster(dev: Run) -> None:
    for image in dev.of_type(IMAGE):
        waits_for = dev.waits_for(image.urn)
        assert not any(CLUSTER in urn or NODE_POOL in urn for urn in waits_for)


def test_nodes_come_before_objects_and_the_system_pool_before_accelerators(dev: Run) -> None:
    system = dev.named(NODE_POOL, "cluster-system").urn
    # The engine deletes in the opposite order.
    assert system in dev.only("pulumi:providers:kubernetes").dependencies
    (pools,) = [each for each in dev.resources.values() if each.type == "fungibility:index:AcceleratorPools"]
    assert system in pools.dependencies


def test_a_namespace_is_made_by_a_provider_that_takes_over_what_exists(baseline: Run) -> None:
    run = run_program({"namespace": "inference"})
    namespace = run.only("kubernetes:core/v1:Namespace")
    provider = run.resources[namespace.provider.rpartition("::")[0]]
    assert (namespace.inputs["metadata"]["name"], provider.inputs["upsertExistingObjects"]) == ("inference", "true")
    (server,) = [each for each in run.resources.values() if each.type == "fungibility:index:InferenceServer"]
    assert namespace.parent in server.dependencies or namespace.urn in server.dependencies
    assert not baseline.of_type("kubernetes:core/v1:Namespace")


def test_service_comes_up_without_any_accelerator_pool(dev: Run) -> None:
    pools = {urn for urn in dev.resources if urn.split("::")[-1] in ("v6e-1", "l4-spot", "l4")}
    for type_token in (COMPUTE_CLASS, DEPLOYMENT, SERVICE, SECRET):
        assert not pools & dev.waits_for(dev.only(type_token).urn), type_token


def test_deployment_waits_for_class_secret_and_images(dev: Run) -> None:
    waits_for = dev.waits_for(dev.only(DEPLOYMENT).urn)
    for type_token in (COMPUTE_CLASS, SECRET, IMAGE, "gcp:artifactregistry/repositoryIamMember:RepositoryIamMember"):
        assert any(urn.split("::")[2].endswith(type_token) for urn in waits_for), type_token
    # Each waits for what the other gives: a dependency between them never ends.
    assert dev.only(SERVICE).urn not in waits_for
    assert dev.only(DEPLOYMENT).urn not in dev.waits_for(dev.only(SERVICE).urn)


def test_hugging_face_token_is_secret_wherever_it_goes(dev: Run) -> None:
    assert dev.only(SECRET).inputs["stringData"] == {"hf_api_token": TOKEN}
    assert any(path.startswith("stringData") for path in dev.only(SECRET).secrets)
    for resource in dev.resources.values():
        if resource.type != SECRET:
            assert TOKEN not in json.dumps(resource.inputs), resource.urn


# One change of each declared setting, and what must not stay the same.
CHANGES: dict[str, tuple[Any, str]] = {
    "region": ("us-central1", CLUSTER),
    "zone": ("asia-northeast1-a", NODE_POOL),
    "location": ("zonal", NODE_POOL),
    "clusterName": ("other", CLUSTER),
    "releaseChannel": ("STABLE", CLUSTER),
    "deletionProtection": (True, CLUSTER),
    "systemMachineType": ("e2-standard-4", NODE_POOL),
    "systemNodesPerZone": (2, NODE_POOL),
    "computeClassName": ("other", COMPUTE_CLASS),
    "activeMigration": (False, COMPUTE_CLASS),
    "consolidationDelayMinutes": (5, COMPUTE_CLASS),
    "fallbackAfterMinutes": (15, DEPLOYMENT),
    "acceleratorPools": ([{"name": "a", "machineType": "g2-standard-8", "maxNodeCount": 2}], NODE_POOL),
    "repositoryName": ("other", REPOSITORY),
    "imageStreaming": (False, NODE_POOL),
    "weightsCache": (True, DEPLOYMENT),
    "xlaCache": (False, DEPLOYMENT),
    "imageName": ("other", IMAGE),
    "gpuBaseImage": ("docker.io/vllm/vllm-openai:v0.30.0", IMAGE),
    "tpuBaseImage": ("docker.io/vllm/vllm-tpu:v0.30.0", IMAGE),
    "images": ({"gpu": OTHER_IMAGES["gpu"]}, DEPLOYMENT),
    "imagesFrom": ("organization/tpu-gpu-fungibility/staging", DEPLOYMENT),
    "model": ("Qwen/Qwen2-7B", DEPLOYMENT),
    "maxModelLen": (4096, DEPLOYMENT),
    "modelRevision": ("main", DEPLOYMENT),
    "maxQueuedRequests": (512, DEPLOYMENT),
    "requestIds": (True, DEPLOYMENT),
    "tracesEndpoint": ("http://collector.observability:4317", DEPLOYMENT),
    "huggingFaceToken": ("hf_another", SECRET),
    "gpuServerArguments": (["--enable-prefix-caching"], DEPLOYMENT),
    "tpuServerArguments": (["--max-num-seqs=16"], DEPLOYMENT),
    "namespace": ("inference", DEPLOYMENT),
    "replicas": (2, DEPLOYMENT),
    "maxReplicas": (4, AUTOSCALER),
    "targetWaitingRequests": (9, AUTOSCALER),
    "targetRunningRequests": (9, AUTOSCALER),
    "scaleDownStabilizationSeconds": (600, AUTOSCALER),
    "keepLastReplica": (True, DISRUPTION_BUDGET),
    "surgeOnUpdate": (False, DEPLOYMENT),
    "cpuRequest": ("500m", DEPLOYMENT),
    "memoryRequest": ("2Gi", DEPLOYMENT),
    "gpuEphemeralStorageLimit": ("30Gi", DEPLOYMENT),
    "servicePort": (8080, SERVICE),
    "loadBalancerSourceRanges": (["203.0.113.0/24"], SERVICE),
    "serverStartupSeconds": (900, DEPLOYMENT),
    "terminationGracePeriodSeconds": (60, DEPLOYMENT),
    "gpuServerDrains": (False, DEPLOYMENT),
    "tpuServerDrains": (False, DEPLOYMENT),
    "rolloutTimeoutSeconds": (2400, DEPLOYMENT),
    "monitoring": (False, DASHBOARD),
    "runbookUrl": ("https://example.com/operate.md", ALERT_POLICY),
    "notificationChannels": (["projects/my-project/notificationChannels/123"], ALERT_POLICY),
    "pendingAlertMinutes": (30, ALERT_POLICY),
    "waitingAlertRequests": (5, ALERT_POLICY),
    "firstTokenAlertSeconds": (3, ALERT_POLICY),
    "preemptionAlertCount": (1, ALERT_POLICY),
    "huggingFaceTokenSecret": ("hugging-face-token", SECRET),
    "apiKey": (API_KEY, DEPLOYMENT),
    "apiKeySecret": ("vllm-api-key", DEPLOYMENT),
    # Decides what is refused, and nothing else.
    "requireApiKey": (True, REFUSAL),
    "internalLoadBalancer": (True, SERVICE),
    "gateway": ({"class": "gke-l7-rilb"}, CLUSTER),
    "inferenceGateway": (True, INFERENCE_POOL),
    "network": ({"nodeRange": "10.64.0.0/22", "podRange": "10.65.0.0/17", "serviceRange": "10.64.16.0/20"}, NODE_POOL),
    "controlPlaneEndpoint": ("dns", CLUSTER),
    "controlPlaneSourceRanges": (["203.0.113.0/24"], CLUSTER),
    "networkPolicy": (True, NETWORK_POLICY),
    "clientNamespaces": (["chat"], NETWORK_POLICY),
    "deviceAccess": ("privileged", DEPLOYMENT),
    "maintenanceWindow": ({"startTime": "2026-01-03T15:00:00Z", "endTime": "2026-01-03T19:00:00Z", "recurrence": "FREQ=DAILY"}, CLUSTER),
    "secretsEncryptionKey": ("projects/p/locations/asia-northeast1/keyRings/r/cryptoKeys/k", CLUSTER),
    "binaryAuthorization": (True, CLUSTER),
    "vulnerabilityScanning": (True, REPOSITORY),
    "imageRetentionDays": (30, REPOSITORY),
    "autoMonitoringScope": ("ALL", CLUSTER),
    "costAllocation": (True, CLUSTER),
    "labels": ({"team": "inference"}, NODE_POOL),
}

# Settings that mean something only with others, which the test sets.
TOGETHER: dict[str, dict[str, Any]] = {
    "region": {"zone": "us-central1-b"},
    "targetWaitingRequests": {"maxReplicas": 4},
    "targetRunningRequests": {"maxReplicas": 4},
    "scaleDownStabilizationSeconds": {"maxReplicas": 4},
    "clientNamespaces": {"networkPolicy": True},
    "inferenceGateway": {"gateway": {"class": "gke-l7-rilb"}},
    "weightsCache": {"gpuEphemeralStorageLimit": "38Gi"},
    "deviceAccess": {"acceleratorPools": CHANGES["acceleratorPools"][0]},
}


def test_every_declared_setting_has_a_change() -> None:
    assert set(CHANGES) == {each.key for each in schema_settings()}


@pytest.fixture(scope="module")
def baseline() -> Run:
    return run_program()


@pytest.mark.parametrize("key", CHANGES)
def test_setting_changes_a_resource_and_leaves_no_field_out_that_the_provider_would_keep(key: str, baseline: Run) -> None:
    value, type_token = CHANGES[key]
    overrides = {**TOGETHER.get(key, {}), key: value}
    if type_token == REFUSAL:
        with pytest.raises(SettingsError, match=key):
            run_program(overrides)
        return
    before = run_program(TOGETHER[key]) if key in TOGETHER and key != "region" else baseline
    changed = run_program(overrides)
    assert [each.inputs for each in changed.of_type(type_token)] != [each.inputs for each in before.of_type(type_token)]
    assert left_on(changed, baseline) == left_on(baseline, changed) == []


def test_a_reordered_list_changes_the_class_and_the_affinity_and_no_pool(baseline: Run) -> None:
    pools = json.loads(config()["tpu-gpu-fungibility:acceleratorPools"])
    changed = run_program({"acceleratorPools": [pools[1], pools[0], pools[2]]})
    different = {each.type for urn, each in changed.resources.items() if each.inputs != baseline.resources[urn].inputs}
    # The last two tell people of the order.
    assert different == {COMPUTE_CLASS, DEPLOYMENT, DASHBOARD, ALERT_POLICY}
    assert set(changed.resources) == set(baseline.resources)


def test_a_fourth_pool_adds_one_resource(baseline: Run) -> None:
    pools = json.loads(config()["tpu-gpu-fungibility:acceleratorPools"])
    changed = run_program({"acceleratorPools": [*pools, {**pools[2], "name": "l4-b"}]})
    (added,) = set(changed.resources) - set(baseline.resources)
    assert changed.resources[added].type == NODE_POOL


def test_a_stack_with_only_gpus_neither_builds_nor_runs_a_tpu_image() -> None:
    run = run_program({"acceleratorPools": CHANGES["acceleratorPools"][0], "tpuBaseImage": ""})
    assert [image.name for image in run.of_type(IMAGE)] == ["images-gpu"]
    containers = run.only(DEPLOYMENT).inputs["spec"]["template"]["spec"]["containers"]
    assert [each["name"] for each in containers] == ["vllm-gpu"]
    assert list(run.outputs["images"]) == ["gpu"]


def test_entry_point_stays_a_table_of_contents() -> None:
    assert len((ROOT / "__main__.py").read_text().splitlines()) < 80
