"""The dev stack on the sandbox, by the commands that a person uses. The tests run in order."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from typing import Any

import requests

from sandbox.cli.client import Sandbox, run_command
from sandbox.host.addresses import LISTEN_ADDRESSES
from sandbox.host.ports import free_ports
from tests.sandbox.conftest import TOKEN
from trials.drills.events import pools

CLASS = "kubernetes:cloud.google.com/v1:ComputeClass::compute-class"
DEPLOYMENT = "kubernetes:apps/v1:Deployment::vllm"
CLUSTER = "gcp:container/cluster:Cluster::cluster"
NODE_POOL = "gcp:container/nodePool:NodePool"
#: What `weightsCache` brings.
CACHE = {
    "fungibility:index:WeightsCache::weights-cache",
    "gcp:projects/service:Service::weights-cache-storage-api",
    "gcp:storage/bucket:Bucket::weights-cache",
    "gcp:storage/bucketIAMMember:BucketIAMMember::weights-cache-user",
    "kubernetes:core/v1:ServiceAccount::weights-cache-vllm",
}

#: `kubectl describe node` of the walkthrough's author, without what differs from node to node.
_COMMON_LABELS = {
    "beta.kubernetes.io/arch": "amd64",
    "beta.kubernetes.io/os": "linux",
    "cloud.google.com/compute-class": "vllm-fallback",
    "cloud.google.com/gke-container-runtime": "containerd",
    "cloud.google.com/gke-logging-variant": "DEFAULT",
    "cloud.google.com/gke-max-pods-per-node": "110",
    "cloud.google.com/gke-netd-ready": "true",
    "cloud.google.com/gke-os-distribution": "cos",
    "cloud.google.com/gke-stack-type": "IPV4",
    "cloud.google.com/private-node": "false",
    "failure-domain.beta.kubernetes.io/region": "asia-northeast1",
    "failure-domain.beta.kubernetes.io/zone": "asia-northeast1-b",
    "iam.gke.io/gke-metadata-server-enabled": "true",
    "kubernetes.io/arch": "amd64",
    "kubernetes.io/os": "linux",
    "topology.gke.io/zone": "asia-northeast1-b",
    "topology.kubernetes.io/region": "asia-northeast1",
    "topology.kubernetes.io/zone": "asia-northeast1-b",
}
TPU_LABELS = _COMMON_LABELS | {
    "beta.kubernetes.io/instance-type": "ct6e-standard-1t",
    "cloud.google.com/gke-accelerator-count": "1",
    "cloud.google.com/gke-boot-disk": "hyperdisk-balanced",
    "cloud.google.com/gke-cpu-scaling-level": "44",
    "cloud.google.com/gke-memory-gb-scaling-level": "180",
    "cloud.google.com/gke-nodepool": "v6e-1",
    "cloud.google.com/gke-provisioning": "standard",
    "cloud.google.com/gke-tpu-accelerator": "tpu-v6e-slice",
    "cloud.google.com/gke-tpu-topology": "1x1",
    "cloud.google.com/machine-family": "ct6e",
    "node.kubernetes.io/instance-type": "ct6e-standard-1t",
}
L4_SPOT_LABELS = _COMMON_LABELS | {
    "beta.kubernetes.io/instance-type": "g2-standard-4",
    "cloud.google.com/gke-accelerator": "nvidia-l4",
    "cloud.google.com/gke-boot-disk": "pd-balanced",
    "cloud.google.com/gke-cpu-scaling-level": "4",
    "cloud.google.com/gke-gpu": "true",
    "cloud.google.com/gke-gpu-driver-version": "latest",
    "cloud.google.com/gke-memory-gb-scaling-level": "16",
    "cloud.google.com/gke-nodepool": "l4-spot",
    "cloud.google.com/gke-preemptible": "true",
    "cloud.google.com/gke-provisioning": "preemptible",
    "cloud.google.com/machine-family": "g2",
    "node.kubernetes.io/instance-type": "g2-standard-4",
}


def _taints(node: dict[str, Any]) -> set[str]:
    return {f"{each['key']}={each.get('value', '')}:{each['effect']}" for each in node["taints"]}


def _pods_by_pool(status: dict[str, Any]) -> dict[str, int]:
    pools: dict[str, int] = {}
    for pod in status["pods"]:
        if pod["ready"]:
            pools[pod["pool"]] = pools.get(pod["pool"], 0) + 1
    return pools


def test_up_ends_with_one_replica_on_the_tpu(sandbox: Sandbox) -> None:
    status = sandbox.status()
    (pod,) = status["pods"]
    assert pod["pool"] == "v6e-1"
    assert pod["ready"]
    assert {each["name"]: each["ready"] for each in pod["containers"]} == {"vllm-gpu": True, "vllm-tpu": True}
    assert [node["pool"] for node in status["nodes"]].count("system") == 3
    idle = sandbox.kubectl("logs", pod["name"], "vllm-gpu")
    assert "machine doesn't contain GPU" in idle
    assert "Application startup complete." in sandbox.kubectl("logs", pod["name"], "vllm-tpu")


def test_up_reports_the_service_the_pod_that_answered_and_that_it_is_a_sandbox(sandbox: Sandbox) -> None:
    screen = (sandbox.state.parent / "last-up.txt").read_text()
    assert "v6e-1" in screen
    assert "/v1" in screen
    assert "This is a sandbox" in screen


def test_up_ends_with_a_good_smoke_test(sandbox: Sandbox) -> None:
    screen = (sandbox.state.parent / "last-up.txt").read_text()
    table = screen[screen.index("Smoke test of stack sandbox") :]
    for check in ("health", "model", "completion", "stream", "first token", "v6e-1 (1 of 3)"):
        assert check in table
    assert "failed" not in table


def test_service_url_of_the_stack_answers_a_chat_and_names_the_pod(sandbox: Sandbox) -> None:
    outputs = sandbox.outputs()
    response = requests.post(
        f"{outputs['service_url']}/chat/completions",
        json={"model": outputs["model"], "messages": [{"role": "user", "content": "Why is the sky blue?"}]},
        timeout=30,
    )
    assert response.status_code == 200
    body = response.json()
    assert body["model"] == "Qwen/Qwen2-1.5B"
    assert sandbox.status()["pods"][0]["name"] in body["choices"][0]["message"]["content"]


def test_second_preview_is_empty_and_second_up_does_nothing(sandbox: Sandbox) -> None:
    sandbox.pulumi("preview", "--expect-no-changes", "--non-interactive")
    before = sandbox.status()
    sandbox.command("up")
    assert sandbox.status() == before


def test_scale_out_falls_from_tpu_to_the_preemptible_gpu(sandbox: Sandbox) -> None:
    sandbox.kubectl("scale", "deploy/vllm", "--replicas", "4")
    sandbox.command("scale", "4")
    status = sandbox.status()
    # The warm node takes one, and keeps it (docs/ladder.md).
    assert _pods_by_pool(status) == {"v6e-1": 2, "l4": 1, "l4-spot": 1}
    serving = {pod["node"] for pod in status["pods"]}
    assert len(serving) == 4
    for node in (node for node in status["nodes"] if node["name"] in serving):
        labels = {key: value for key, value in node["labels"].items() if key != "kubernetes.io/hostname"}
        assert node["labels"]["kubernetes.io/hostname"] == node["name"]
        if node["pool"] == "v6e-1":
            assert labels == TPU_LABELS
            assert _taints(node) == {"cloud.google.com/compute-class=vllm-fallback:NoSchedule", "google.com/tpu=present:NoSchedule"}
            assert node["name"].startswith("gke-tpu-")
        elif node["pool"] == "l4-spot":
            assert labels == L4_SPOT_LABELS
            assert _taints(node) == {"cloud.google.com/compute-class=vllm-fallback:NoSchedule", "nvidia.com/gpu=present:NoSchedule"}
            assert node["name"].startswith("gke-tpu-gpu-fungibility-l4-spot-")


def test_every_replica_answers_through_the_load_balancer(sandbox: Sandbox) -> None:
    outputs = sandbox.outputs()
    pods = {pod["name"] for pod in sandbox.status()["pods"]}
    answered = {requests.get(f"{outputs['service_url']}/models", timeout=10).headers["X-Sandbox-Pod"] for _ in range(60)}
    assert answered == pods


def test_the_smoke_test_asks_a_pod_of_each_pool_by_its_own_port(sandbox: Sandbox) -> None:
    command = [".venv/bin/python", "-m", "ops", "smoke", "--stack", "sandbox", "--json"]
    smoke = json.loads(run_command(command, sandbox.shell_environment(), check=True, timeout=120).stdout)
    (rungs,) = [each for each in smoke["checks"] if each["field"] == "rungs"]
    assert (rungs["status"], rungs["value"].partition(":")[0]) == ("ok", "v6e-1, l4-spot, l4")


def test_scaling_back_to_one_keeps_a_replica_on_the_tpu(sandbox: Sandbox) -> None:
    sandbox.command("scale", "1")
    assert _pods_by_pool(sandbox.status()) == {"v6e-1": 1}


def test_another_port_is_previewed_on_the_running_service(sandbox: Sandbox) -> None:
    port = free_ports(1, LISTEN_ADDRESSES[0])[0]
    assert sandbox.preview(servicePort=port) == {"kubernetes:core/v1:Service::vllm-service": "update"}


def test_changed_model_rolls_the_deployment_and_touches_no_pool(sandbox: Sandbox) -> None:
    assert sandbox.preview(model="Qwen/Qwen2-7B") == {DEPLOYMENT: "update"}


def test_what_speeds_up_starts_another_order_and_a_fourth_pool_replace_only_the_pool_whose_disk_changes(sandbox: Sandbox) -> None:
    tpu, spot, on_demand = pools(sandbox)
    with_image = {**spot, "secondaryBootDiskImage": "global/images/vllm"}
    changes = sandbox.preview(
        weightsCache=True, gpuEphemeralStorageLimit="38Gi", acceleratorPools=[with_image, tpu, on_demand, {**on_demand, "name": "l4-b"}]
    )
    assert _but_monitoring(changes) == {
        CLUSTER: "update",
        CLASS: "update",
        DEPLOYMENT: "update",
        f"{NODE_POOL}::l4-spot": "replace",
        f"{NODE_POOL}::l4-b": "create",
        **dict.fromkeys(CACHE, "create"),
    }


def test_a_preview_says_in_words_which_pool_it_replaces_and_not_which_it_makes(sandbox: Sandbox) -> None:
    tpu, spot, on_demand = pools(sandbox)
    changed = [tpu, {**spot, "provisioning": "spot"}, on_demand, {**on_demand, "name": "l4-b"}]
    said = sandbox.pulumi("preview", "--non-interactive", overrides={"acceleratorPools": changed}).stdout
    # Once while it runs, once at its end.
    assert set(re.findall(r"This update replaces pool (\S+):", said)) == {"l4-spot"}


def test_a_pool_goes_out_of_service_and_image_streaming_off_without_replacing_anything(sandbox: Sandbox) -> None:
    changes = sandbox.preview(imageStreaming=False, acceleratorPools=pools(sandbox, enabled=False))
    assert changes[f"{NODE_POOL}::v6e-1"] == "update"
    # Image streaming's API and role go; machines stay.
    assert not [name for name, operation in changes.items() if "replace" in operation]
    assert {operation for name, operation in changes.items() if name.startswith("gcp:container/")} == {"update"}


def test_bad_settings_are_refused_all_at_once_before_anything_is_touched(sandbox: Sandbox) -> None:
    result = sandbox.pulumi(
        "up", "--yes", "--non-interactive", check=False, overrides={"zone": "us-east1-b", "model": "no-organisation", "replica": 2}
    )
    assert result.returncode != 0
    for part in ("zone", "us-east1-b", "model", "no-organisation", "replica", "did you mean replicas?"):
        assert part in result.stdout + result.stderr


def test_class_that_gke_refuses_is_refused_with_its_message(sandbox: Sandbox) -> None:
    refused = sandbox.kubectl(
        "apply",
        "-f",
        "-",
        check=False,
        stdin=json.dumps(
            {
                "apiVersion": "cloud.google.com/v1",
                "kind": "ComputeClass",
                "metadata": {"name": "mixed"},
                "spec": {
                    "priorities": [
                        {"tpu": {"type": "tpu-v6e-slice", "count": 1, "topology": "1x1"}},
                        {"gpu": {"type": "nvidia-l4", "count": 1}},
                    ]
                },
            }
        ),
    )
    assert "When using TPU config all rules need to have TPU or Nodepools config. ComputeClass 'mixed'." in refused


def test_token_is_in_the_cluster_and_nowhere_else(sandbox: Sandbox) -> None:
    secret = json.loads(sandbox.kubectl("get", "secret", "hf-secret", "-o", "json"))
    assert set(secret["data"]) == {"hf_api_token"}
    exported = sandbox.pulumi("stack", "export").stdout
    assert TOKEN not in exported
    found = [
        str(path.relative_to(sandbox.state))
        for path in sandbox.state.rglob("*")
        # etcd is where a cluster keeps its Secrets.
        if path.is_file() and "etcd" not in path.parts and TOKEN.encode() in path.read_bytes()
    ]
    assert found == []


def test_crash_of_the_daemon_is_named_by_the_next_command_and_mended_by_up(sandbox: Sandbox) -> None:
    record = json.loads((sandbox.state / "daemon.json").read_text())
    os.kill(record["pid"], signal.SIGKILL)
    time.sleep(0.5)
    status = sandbox.command("status", check=False)
    assert status.returncode == 1
    assert f"daemon (pid {record['pid']}) is gone" in status.stderr
    sandbox.command("up")
    assert _pods_by_pool(sandbox.status()) == {"v6e-1": 1}


def _but_monitoring(changes: dict[str, str]) -> dict[str, str]:
    """Without the dashboard and the alerts, which name the pools in order and are only ever updated in place."""
    monitoring = {urn: op for urn, op in changes.items() if urn.startswith("gcp:monitoring/")}
    assert set(monitoring.values()) <= {"update"}
    return {urn: op for urn, op in changes.items() if urn not in monitoring}
