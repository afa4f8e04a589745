"""The example consumer on top of the dev stack, by the real engine: what it makes answers, and what is secret stays so."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from sandbox.cli.client import Sandbox
from sandbox.host.ports import free_ports
from tests.sandbox.conftest import ROOT, TOKEN
from tests.sandbox.stacks import Stack, stack_of

CONSUMER = ROOT / "examples" / "consumer"
SERVING = "organization/tpu-gpu-fungibility/sandbox"
NAMESPACE = "chat-gateway"
RATE = 8


def _settings(**changes: Any) -> dict[str, Any]:
    values = {"inferenceStack": SERVING, "requestsPerMinute": RATE, "servicePort": free_ports(1)[0], **changes}
    providers = {"pulumi:disable-default-providers": ["gcp", "kubernetes", "docker"]}
    return providers | {f"{NAMESPACE}:{key}": value for key, value in values.items()}


@pytest.fixture(scope="module")
def consumer(sandbox: Sandbox) -> Iterator[Stack]:
    with stack_of(sandbox, CONSUMER, "consumer", _settings()) as stack:
        printed = stack.up()
        (sandbox.state / "consumer-up.txt").write_text(printed.stdout + printed.stderr)
        yield stack


def _ask(url: str, **changes: Any) -> requests.Response:
    body = {"messages": [{"role": "user", "content": "Why is the sky blue?"}], **changes}
    return requests.post(f"{url}/chat/completions", json=body, timeout=30)


def test_question_through_the_gateway_is_answered_by_the_model_under_its_alias(sandbox: Sandbox, consumer: Stack) -> None:
    outputs = consumer.outputs()
    answer = _ask(outputs["api_url"], model=outputs["model_alias"])
    assert answer.status_code == 200, answer.text
    assert answer.json()["model"] == sandbox.outputs()["model"]
    assert answer.headers["X-Sandbox-Pod"] in {pod["name"] for pod in sandbox.status()["pods"]}
    streamed = _ask(outputs["api_url"], stream=True, max_tokens=8)
    assert streamed.headers["Content-Type"].startswith("text/event-stream")
    assert streamed.text.endswith("data: [DONE]\n\n")


def test_page_is_served_and_lists_the_model(consumer: Stack) -> None:
    outputs = consumer.outputs()
    page = requests.get(outputs["chat_url"], timeout=10)
    assert "<title>Chat</title>" in page.text
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    names = [each["id"] for each in requests.get(f"{outputs['api_url']}/models", timeout=10).json()["data"]]
    assert names == [outputs["model_alias"], "Qwen/Qwen2-1.5B"]


def test_gateway_runs_on_a_node_without_an_accelerator_by_the_digest_of_its_image(sandbox: Sandbox, consumer: Stack) -> None:
    (pod,) = json.loads(sandbox.kubectl("get", "pods", "--selector=app=chat-gateway", "--output=json"))["items"]
    (running,) = pod["status"]["containerStatuses"]
    assert running["imageID"].startswith(f"{sandbox.outputs()['image_repository']}/chat-gateway@sha256:")
    (place,) = [each["pool"] for each in sandbox.status()["nodes"] if each["name"] == pod["spec"]["nodeName"]]
    assert place == "system"


def test_second_preview_is_empty_and_the_serving_stack_is_untouched(sandbox: Sandbox, consumer: Stack) -> None:
    consumer.pulumi("preview", "--expect-no-changes")
    sandbox.pulumi("preview", "--expect-no-changes", "--non-interactive")


def test_kubeconfig_is_secret_in_state_outputs_and_everything_printed(sandbox: Sandbox, consumer: Stack) -> None:
    kubeconfig = json.loads(sandbox.pulumi("stack", "output", "kubeconfig", "--show-secrets").stdout)
    certificate = kubeconfig["clusters"][0]["cluster"]["certificate-authority-data"]
    assert len(certificate) > 100
    exported = consumer.pulumi("stack", "export").stdout
    printed = (sandbox.state / "consumer-up.txt").read_text()
    listed = consumer.pulumi("stack", "output", "--json").stdout
    backend = [path for path in (sandbox.state / "pulumi-backend").rglob("*") if path.is_file()]
    stored = "".join(path.read_text(errors="replace") for path in backend if "consumer" in path.name)
    assert "chat-gateway" in stored
    for hidden in (certificate, "gke-gcloud-auth-plugin", TOKEN):
        for text in (exported, printed, listed, stored):
            assert hidden not in text
    (provider,) = [each for each in consumer.resources() if each["type"] == "pulumi:providers:kubernetes"]
    assert "ciphertext" in provider["inputs"]["kubeconfig"]
    # Values that are not secret can be read in the state.
    assert sandbox.outputs()["service_url"] in exported


def test_rate_of_one_client_is_limited(consumer: Stack) -> None:
    url = consumer.outputs()["api_url"]
    statuses = [_ask(url, max_tokens=1).status_code for _ in range(RATE + 2)]
    assert statuses[-1] == 429
    refused = _ask(url, max_tokens=1)
    assert int(refused.headers["Retry-After"]) >= 1
    assert "requests in a minute" in refused.json()["error"]["message"]


def test_stack_without_the_outputs_is_refused_before_any_resource(sandbox: Sandbox) -> None:
    empty = f"organization/{NAMESPACE}/lacking"
    with stack_of(sandbox, CONSUMER, "lacking", _settings(inferenceStack=empty)) as stack:
        refused = stack.up(check=False)
        printed = refused.stdout + refused.stderr
        assert refused.returncode != 0
        for name in ("service_url", "model", "namespace", "image_repository", "kubeconfig"):
            assert f"output `{name}` is missing" in printed
        assert f"stack {empty} cannot be used; nothing was created or changed" in printed
        assert f"Fix: `pulumi up --stack {empty}`" in printed
        # The stack itself, and what was read; `pulumi:providers:pulumi` is the engine's own, for that.
        read = ("pulumi:pulumi:StackReference", "pulumi:providers:pulumi")
        made = [each["type"] for each in stack.resources() if each["custom"] and each["type"] not in read]
        assert made == []


def test_consumer_goes_and_leaves_nothing_in_the_cluster(sandbox: Sandbox, consumer: Stack) -> None:
    consumer.pulumi("destroy", "--yes", "--skip-preview")
    assert consumer.resources() == []
    left = sandbox.kubectl("get", "deployment,service,secret", "--output=name").split()
    assert not [name for name in left if "chat-gateway" in name]
    assert requests.get(f"{sandbox.outputs()['service_url']}/models", timeout=10).ok


def test_nothing_is_left_in_the_examples_folder() -> None:
    assert [path.name for path in Path(CONSUMER).glob("Pulumi.*.yaml")] == []
