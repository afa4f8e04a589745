"""The prod stack on a sandbox of its own: everything of it is deployed by the real engine. The tests run in order."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from sandbox.cli.client import Sandbox
from sandbox.google.secret_manager import SecretStore
from tests.sandbox.conftest import ROOT, SPEED, take_down
from tests.sandbox.stacks import doors_of
from trials.drills.events import replicas, wait_until

DEPLOYMENT = "kubernetes:apps/v1:Deployment::vllm"
KEY_SECRET = "kubernetes:core/v1:Secret::vllm-vllm-api-key"
PROJECT = "sandbox-project"
NEW_KEY = "another-key-that-nobody-may-see"


@pytest.fixture(scope="module")
def prod() -> Iterator[Sandbox]:
    """The prod stack, up; taken down at the end whatever happens."""
    sandbox = Sandbox(ROOT / ".sandbox" / "test-state-prod", SPEED)
    sandbox.command("down", check=False)
    try:
        sandbox.command("up", "--environment", "prod")
        with doors_of(sandbox):
            yield sandbox
    finally:
        take_down(sandbox)


@pytest.fixture(scope="module")
def key(prod: Sandbox) -> str:
    stored = SecretStore(prod.state / "secret-manager").read(PROJECT, "vllm-api-key", "latest")
    assert stored is not None
    return stored.value


def test_up_ends_with_every_replica_on_a_tpu_of_a_private_node(prod: Sandbox) -> None:
    status = prod.status()
    # The system pool has the metrics adapter of prod's autoscaler.
    assert sorted(pod["pool"] for pod in status["pods"]) == ["system", "v6e-1", "v6e-1"]
    assert all(pod["ready"] for pod in status["pods"])
    labels = [node["labels"] for node in status["nodes"]]
    assert {each["cloud.google.com/private-node"] for each in labels} == {"true"}


def test_second_preview_is_empty(prod: Sandbox) -> None:
    prod.pulumi("preview", "--expect-no-changes", "--non-interactive")


def test_server_answers_only_clients_with_the_key(prod: Sandbox, key: str) -> None:
    url = prod.outputs()["service_url"]
    assert requests.get(f"{url}/models", timeout=10).status_code == 401
    assert requests.get(f"{url}/models", headers={"Authorization": "Bearer wrong"}, timeout=10).status_code == 401
    assert requests.get(f"{url}/models", headers={"Authorization": f"Bearer {key}"}, timeout=10).ok
    # The gateway passes no route that takes no key, but the one for probes.
    assert requests.get(f"{url.removesuffix('/v1')}/health", timeout=10).ok
    assert requests.get(f"{url.removesuffix('/v1')}/metrics", timeout=10).status_code == 404
    assert "Qwen/Qwen2-1.5B" in prod.command("chat", "Why is the sky blue?").stdout


def test_control_plane_is_reached_by_its_name_with_the_machine_s_own_trust(prod: Sandbox) -> None:
    kubeconfig = prod.pulumi("stack", "output", "kubeconfig", "--show-secrets").stdout
    (cluster,) = json.loads(kubeconfig)["clusters"]
    assert list(cluster["cluster"]) == ["server"]
    assert cluster["cluster"]["server"].startswith("https://localhost:")
    path = prod.state / "kubeconfig-of-the-stack.json"
    path.write_text(kubeconfig)
    assert "gke-tpu-" in prod.kubectl("--kubeconfig", str(path), "get", "nodes")


def test_pods_admit_google_s_proxies_and_the_monitoring(prod: Sandbox) -> None:
    (policy,) = json.loads(prod.kubectl("get", "networkpolicies", "-o", "json"))["items"]
    (rule,) = policy["spec"]["ingress"]
    assert policy["spec"]["podSelector"] == {"matchLabels": {"app": "vllm"}}
    blocks = [each["ipBlock"]["cidr"] for each in rule["from"] if "ipBlock" in each]
    assert blocks == ["35.191.0.0/16", "130.211.0.0/22", "10.129.0.0/23"]
    service = json.loads(prod.kubectl("get", "service", "vllm-service", "-o", "json"))
    assert service["spec"]["type"] == "ClusterIP"


def test_key_is_in_secret_manager_and_in_the_cluster_and_nowhere_else(prod: Sandbox, key: str) -> None:
    assert key not in prod.pulumi("stack", "export").stdout
    found = [
        str(path.relative_to(prod.state))
        for path in prod.state.rglob("*")
        # etcd is where a cluster keeps its Secrets.
        if path.is_file() and not {"etcd", "secret-manager"} & set(path.parts) and key.encode() in path.read_bytes()
    ]
    assert found == []
    for pid in prod.processes():
        command_line = Path(f"/proc/{pid}/cmdline")
        assert not command_line.exists() or key.encode() not in command_line.read_bytes()


def test_new_version_of_the_key_replaces_its_secret_and_rolls_the_pods(prod: Sandbox) -> None:
    store = SecretStore(prod.state / "secret-manager")
    store.add(PROJECT, "vllm-api-key", NEW_KEY)
    changes = prod.preview()
    assert set(changes) == {KEY_SECRET, DEPLOYMENT}
    assert changes[DEPLOYMENT] == "update"
    assert changes[KEY_SECRET] in ("replace", "create-replacement", "delete-replaced")


def test_change_that_would_replace_the_protected_cluster_is_refused(prod: Sandbox) -> None:
    result = prod.pulumi("preview", "--non-interactive", check=False, overrides={"networkPolicy": False})
    assert result.returncode != 0
    assert "marked for protection" in result.stdout + result.stderr


def test_destroy_of_what_is_protected_is_refused_before_anything_is_touched(prod: Sandbox) -> None:
    refused = prod.pulumi("destroy", "--yes", "--non-interactive", check=False)
    assert refused.returncode != 0
    assert "protected" in refused.stdout + refused.stderr
    assert len(prod.status()["pods"]) == 3


def test_update_takes_the_new_key_and_the_protection_off(prod: Sandbox, key: str) -> None:
    prod.pulumi("config", "set", "deletionProtection", "false")
    prod.pulumi("up", "--yes", "--non-interactive", "--skip-preview")
    # Pods that end go on answering, by the old key, until the gateway sends them no more.
    wait_until(lambda: len(replicas(prod)) == 2, 60)
    url = prod.outputs()["service_url"]
    assert requests.get(f"{url}/models", headers={"Authorization": f"Bearer {key}"}, timeout=10).status_code == 401
    assert requests.get(f"{url}/models", headers={"Authorization": f"Bearer {NEW_KEY}"}, timeout=10).ok


def test_destroy_then_leaves_nothing(prod: Sandbox) -> None:
    prod.pulumi("destroy", "--yes", "--non-interactive")
    assert list((prod.state / "clusters").iterdir()) == []
    # Nothing but the APIs that are switched on: another program of the project may rest on them.
    assert set(json.loads((prod.state / "cloud.json").read_text())) == {"gcp:projects/service:Service"}
