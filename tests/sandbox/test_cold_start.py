"""What speeds up starts, on the sandbox: what each setting changes, and everything on at once."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sandbox.cli.client import Sandbox

pytestmark = pytest.mark.sandbox

CLUSTER = "gcp:container/cluster:Cluster::cluster"
DEPLOYMENT = "kubernetes:apps/v1:Deployment::vllm"
CACHE = {
    "fungibility:index:WeightsCache::weights-cache",
    "gcp:projects/service:Service::weights-cache-storage-api",
    "gcp:storage/bucket:Bucket::weights-cache",
    "gcp:storage/bucketIAMMember:BucketIAMMember::weights-cache-user",
    "kubernetes:core/v1:ServiceAccount::weights-cache-vllm",
}


def _with_disk_image(sandbox: Sandbox, pool: str) -> list[dict[str, Any]]:
    inputs = json.loads(sandbox.pulumi("config", "get", "acceleratorPools").stdout)
    return [{**each, "secondaryBootDiskImage": "global/images/vllm"} if each["name"] == pool else each for each in inputs]


def test_weights_cache_replaces_nothing(sandbox: Sandbox) -> None:
    assert sandbox.preview(weightsCache=True, gpuEphemeralStorageLimit="38Gi") == {
        CLUSTER: "update",
        DEPLOYMENT: "update",
        **dict.fromkeys(CACHE, "create"),
    }


def test_disk_image_with_preloaded_images_replaces_its_pool_alone(sandbox: Sandbox) -> None:
    changes = sandbox.preview(acceleratorPools=_with_disk_image(sandbox, "l4-spot"))
    assert changes == {"gcp:container/nodePool:NodePool::l4-spot": "replace"}


def test_image_streaming_goes_off_without_replacing_a_pool(sandbox: Sandbox) -> None:
    assert "replace" not in sandbox.preview(imageStreaming=False).values()


def test_stack_with_everything_on_serves_and_previews_empty(sandbox: Sandbox) -> None:
    settings = {"weightsCache": True, "gpuEphemeralStorageLimit": "38Gi", "acceleratorPools": _with_disk_image(sandbox, "l4-spot")}
    try:
        sandbox.pulumi("up", "--yes", "--skip-preview", "--non-interactive", overrides=settings)
        assert sandbox.preview(**settings) == {}
        # Waits for a replica that is on its way to a better pool.
        sandbox.command("scale", "1")
        pod = _pod(sandbox)
        assert pod["spec"]["serviceAccountName"] == "vllm"
        assert all(each["ready"] for each in pod["status"]["containerStatuses"])
    finally:
        sandbox.command("up")
    assert sandbox.preview() == {}
    # The account is gone: a pod that still wanted it would not come up again.
    assert _pod(sandbox)["spec"]["serviceAccountName"] == "default"
    assert "vllm" not in sandbox.kubectl("get", "serviceaccounts", "-o", "name")


def _pod(sandbox: Sandbox) -> dict[str, Any]:
    (pod,) = json.loads(sandbox.kubectl("get", "pods", "-l", "app=vllm", "-o", "json"))["items"]
    return dict(pod)
