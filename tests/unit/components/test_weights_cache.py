"""The weights cache: a private bucket near the nodes, and pods that may use it without a key."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.program import Run, run_program

BUCKET = "gcp:storage/bucket:Bucket"
MEMBER = "gcp:storage/bucketIAMMember:BucketIAMMember"
ACCOUNT = "kubernetes:core/v1:ServiceAccount"
DEPLOYMENT = "kubernetes:apps/v1:Deployment"


@pytest.fixture(scope="module")
def on() -> Run:
    return run_program({"weightsCache": True, "gpuEphemeralStorageLimit": "38Gi", "namespace": "inference"})


@pytest.fixture(scope="module")
def bucket(on: Run) -> dict[str, Any]:
    return on.only(BUCKET).inputs


def _waits_for(run: Run, urn: str) -> set[str]:
    return {each.rpartition("::")[2] for each in run.waits_for(urn)}


def test_without_the_setting_there_is_no_bucket_and_no_account() -> None:
    run = run_program()
    assert not any(run.of_type(token) for token in (BUCKET, MEMBER, ACCOUNT))
    # Set in any case: Kubernetes keeps a field that is no longer set.
    assert run.only(DEPLOYMENT).inputs["spec"]["template"]["spec"]["serviceAccountName"] == "default"


def test_bucket_of_copies_is_private_near_the_nodes_and_goes_with_the_stack(bucket: dict[str, Any]) -> None:
    # Its name is Pulumi's to choose, so that no two stacks want the same; files go by age only if their download was cut off.
    assert bucket == {
        "project": "my-project",
        "location": "ASIA-NORTHEAST1",
        "uniformBucketLevelAccess": True,
        "publicAccessPrevention": "enforced",
        "forceDestroy": True,
        "softDeletePolicy": {"retentionDurationSeconds": 0},
        "lifecycleRules": [{"action": {"type": "Delete"}, "condition": {"age": 1, "matchesSuffixes": [".incomplete"]}}],
    }


def test_only_pods_of_one_service_account_use_the_bucket_and_may_not_change_it(on: Run) -> None:
    member = on.only(MEMBER).inputs
    assert member == {
        "bucket": "weights-cache-1a2b3c4",
        "role": "roles/storage.objectUser",
        "member": (
            "principal://iam.googleapis.com/projects/123456789012/locations/global/workloadIdentityPools/"
            "my-project.svc.id.goog/subject/ns/inference/sa/vllm"
        ),
    }
    assert on.only(ACCOUNT).inputs["metadata"] == {"name": "vllm", "namespace": "inference"}


def test_bucket_waits_for_no_cluster(on: Run) -> None:
    assert _waits_for(on, on.only(BUCKET).urn) == {"weights-cache-storage-api", "gcp"}


def test_deployment_waits_until_its_account_may_use_the_bucket(on: Run) -> None:
    assert {"weights-cache", "weights-cache-vllm", "weights-cache-user"} <= _waits_for(on, on.only(DEPLOYMENT).urn)


def test_pods_run_as_the_account_and_mount_the_bucket(on: Run) -> None:
    template = on.only(DEPLOYMENT).inputs["spec"]["template"]
    assert template["metadata"]["annotations"]["gke-gcsfuse/volumes"] == "true"
    pod = template["spec"]
    assert pod["serviceAccountName"] == "vllm"
    (volume,) = [each for each in pod["volumes"] if "csi" in each]
    assert volume["csi"]["driver"] == "gcsfuse.csi.storage.gke.io"
    assert volume["csi"]["volumeAttributes"]["bucketName"] == "weights-cache-1a2b3c4"
    for container in pod["containers"]:
        assert {"name": volume["name"], "mountPath": "/var/cache/model-bucket"} in container["volumeMounts"]
        variables = {each["name"]: each.get("value") for each in container["env"]}
        assert variables["HF_HUB_CACHE"] == "/var/cache/model-bucket/huggingface"


def test_node_holds_as_much_of_the_bucket_as_weights_may_take_on_it() -> None:
    run = run_program({"weightsCache": True, "gpuEphemeralStorageLimit": "20Gi"})
    (volume,) = [each for each in run.only(DEPLOYMENT).inputs["spec"]["template"]["spec"]["volumes"] if "csi" in each]
    assert "file-cache:max-size-mb:20480" in volume["csi"]["volumeAttributes"]["mountOptions"].split(",")
