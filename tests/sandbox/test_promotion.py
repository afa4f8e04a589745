"""Promotion: a second stack, with a cluster of its own in the same sandbox, runs by the digests that dev built."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import yaml

from sandbox.cli.client import Sandbox, run_command
from tests.sandbox.conftest import ROOT
from tests.sandbox.stacks import Stack, stack_of

DEV = "organization/tpu-gpu-fungibility/sandbox"
NAMESPACE = "tpu-gpu-fungibility"
IMAGE = "docker:index/image:Image"
CLUSTER = "promoted"


def _settings(sandbox: Sandbox, **changes: Any) -> dict[str, Any]:
    """Dev's, but for what two stacks of one project cannot share, and for its secrets."""
    values = yaml.safe_load(sandbox.stack_config.read_text())["config"]
    own = {"clusterName": CLUSTER, "repositoryName": "promoted-repo", **changes}
    return {key: value for key, value in values.items() if not isinstance(value, dict) or "secure" not in value} | {
        f"{NAMESPACE}:{key}": value for key, value in own.items()
    }


@pytest.fixture(scope="module")
def promoted(sandbox: Sandbox) -> Iterator[Stack]:
    """The second stack, up by `imagesFrom`."""
    with stack_of(sandbox, ROOT, "promoted", _settings(sandbox, imagesFrom=DEV)) as stack:
        stack.up()
        yield stack


def _kubectl(sandbox: Sandbox, stack: Stack, *arguments: str) -> Any:
    """With the stack's own kubeconfig output."""
    kubeconfig = sandbox.state / "promoted-kubeconfig"
    kubeconfig.touch(mode=0o600)
    kubeconfig.write_text(stack.pulumi("stack", "output", "kubeconfig", "--show-secrets").stdout)
    environment = {**stack.environment, "KUBECONFIG": str(kubeconfig)}
    try:
        result = run_command(["kubectl", *arguments, "--output=json"], environment, check=True, timeout=60)
    finally:
        kubeconfig.unlink()
    return json.loads(result.stdout)


def _running(sandbox: Sandbox, stack: Stack) -> dict[str, str]:
    """Image ID of each container of the stack's one pod, as its node reports it."""
    deadline = time.monotonic() + 60
    while True:
        pods = _kubectl(sandbox, stack, "get", "pods", "--selector=app=vllm")["items"]
        # After `up` the replica may be on its way to a better pool: its predecessor ends while it starts.
        staying = [each for each in pods if "deletionTimestamp" not in each["metadata"]]
        statuses = [each for pod in staying for each in pod.get("status", {}).get("containerStatuses", [])]
        if len(staying) == 1 and statuses and all(each["ready"] for each in statuses):
            return {each["name"].removeprefix("vllm-"): each["imageID"] for each in statuses}
        assert time.monotonic() < deadline, f"{len(pods)} pods, none of them at rest"
        time.sleep(0.5)


def test_second_stack_runs_by_devs_digests_in_a_cluster_of_its_own(sandbox: Sandbox, promoted: Stack) -> None:
    outputs, dev = promoted.outputs(), sandbox.outputs()
    assert outputs["images"] == dev["images"]
    assert set(dev["images"]) == {"gpu", "tpu"}
    assert _running(sandbox, promoted) == dev["images"]
    nodes = _kubectl(sandbox, promoted, "get", "nodes")["items"]
    pools = {node["metadata"]["labels"]["cloud.google.com/gke-nodepool"] for node in nodes}
    assert {"system", "v6e-1"} <= pools
    assert not {node["metadata"]["name"] for node in nodes} & {node["name"] for node in _dev_nodes(sandbox)}
    assert outputs["service_url"] != dev["service_url"]


def _dev_nodes(sandbox: Sandbox) -> list[dict[str, Any]]:
    (kubeconfig,) = sandbox.state.glob("clusters/*_tpu-gpu-fungibility/kubeconfigs/admin")
    environment = {**sandbox.shell_environment(), "KUBECONFIG": str(kubeconfig)}
    found = run_command(["kubectl", "get", "nodes", "--output=json"], environment, check=True, timeout=60)
    return [node["metadata"] for node in json.loads(found.stdout)["items"]]


def test_nothing_is_built_for_it_and_the_next_preview_is_empty(promoted: Stack) -> None:
    types = [each["type"] for each in promoted.resources()]
    assert IMAGE not in types
    assert "pulumi:pulumi:StackReference" in types
    promoted.pulumi("preview", "--expect-no-changes")


def test_both_stacks_answer_and_the_smoke_test_passes_on_the_promoted_one(sandbox: Sandbox, promoted: Stack) -> None:
    command = [".venv/bin/python", "-m", "ops", "smoke", "--stack", promoted.name, "--json", "--timeout", "60"]
    result = run_command([*command, "--no-cluster"], promoted.environment, check=True, timeout=120)
    document = json.loads(result.stdout)
    assert document["ok"] is True
    assert document["service_url"] == promoted.outputs()["service_url"]
    assert document["served_by"]["pool"] in promoted.outputs()["accelerator_pools"]
    assert requests.get(f"{sandbox.outputs()['service_url']}/models", timeout=10).ok


def test_the_same_digests_by_setting_change_nothing_and_need_no_other_stack(sandbox: Sandbox, promoted: Stack) -> None:
    images = sandbox.outputs()["images"]
    promoted.configure({f"{NAMESPACE}:imagesFrom": None, f"{NAMESPACE}:images": images})
    promoted.up()
    types = [each["type"] for each in promoted.resources()]
    assert "pulumi:pulumi:StackReference" not in types
    assert _running(sandbox, promoted) == images
    promoted.pulumi("preview", "--expect-no-changes")


def test_unknown_stack_to_promote_from_is_named_and_nothing_is_touched(promoted: Stack) -> None:
    before = promoted.resources()
    own = f"organization/{NAMESPACE}/none-such"
    promoted.configure({f"{NAMESPACE}:imagesFrom": own, f"{NAMESPACE}:images": None})
    refused = promoted.pulumi("preview", check=False)
    assert refused.returncode != 0
    assert "none-such" in refused.stdout + refused.stderr
    assert promoted.resources() == before


def test_the_promoted_stack_goes_and_dev_stays(sandbox: Sandbox, promoted: Stack) -> None:
    promoted.pulumi("destroy", "--yes", "--skip-preview")
    assert promoted.resources() == []
    assert [folder.name.rpartition("_")[2] for folder in (sandbox.state / "clusters").iterdir()] == [NAMESPACE]
    assert requests.get(f"{sandbox.outputs()['service_url']}/models", timeout=10).ok
    sandbox.pulumi("preview", "--expect-no-changes", "--non-interactive")
