"""The example consumer's program against a recording monitor: what it takes of the other stack, and what it refuses."""

import importlib.util
import re
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import pulumi
import pytest
from pulumi.runtime import mocks

from tests.unit.program import ROOT, Mocks, Run, run_recorded

CONSUMER = ROOT / "examples" / "consumer"
STACK = "organization/tpu-gpu-fungibility/dev"
CA = "a-certificate-that-only-the-provider-needs"
KEY = "sk-nobody-may-see-this"

OUTPUTS: dict[str, Any] = {
    "service_url": "http://198.51.100.7/v1",
    "model": "Qwen/Qwen2-1.5B",
    "namespace": "serving",
    "image_repository": "us-central1-docker.pkg.dev/dev-project/docker-repo",
    "kubeconfig": f'{{"clusters": ["{CA}"]}}',
}


class _WithStack(Mocks):
    def __init__(self, outputs: Mapping[str, Any]) -> None:
        self._outputs = outputs

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        if args.typ == "pulumi:pulumi:StackReference":
            state = {"name": STACK, "outputs": dict(self._outputs), "secretOutputNames": ["kubeconfig"]}
            return args.name, state
        identity, state = super().new_resource(args)
        if args.typ == "kubernetes:core/v1:Secret":
            state["metadata"] = {**args.inputs["metadata"], "name": f"{args.name}-1a2b3c"}
        return identity, state


def run(outputs: Mapping[str, Any] | None = None, run_into: Run | None = None, **settings: Any) -> Run:
    """Runs the consumer's program once, into a record that is there even when the program fails."""
    found = Run() if run_into is None else run_into
    values = {f"chat-gateway:{key}": str(each) for key, each in {"inferenceStack": STACK, **settings}.items()}
    known = _WithStack(OUTPUTS if outputs is None else outputs)
    return run_recorded(CONSUMER, found, known, values, secret_keys=["chat-gateway:upstreamApiKey"], project="chat-gateway", stack="test")


def module(name: str) -> ModuleType:
    """One of the example's modules, which are found beside its `__main__.py` and nowhere else."""
    spec = importlib.util.spec_from_file_location(f"consumer_{name}", CONSUMER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


@pytest.fixture(scope="module")
def made() -> Run:
    return run()


def _container(made: Run) -> dict[str, Any]:
    spec = made.only("kubernetes:apps/v1:Deployment").inputs["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    return dict(container)


def test_gateway_asks_the_other_stacks_service_in_its_namespace_by_an_image_of_its_repository(made: Run) -> None:
    environment = {each["name"]: each.get("value") for each in _container(made)["env"]}
    assert environment["UPSTREAM_URL"] == OUTPUTS["service_url"]
    assert environment["UPSTREAM_MODEL"] == OUTPUTS["model"]
    assert _container(made)["image"].startswith(f"{OUTPUTS['image_repository']}/chat-gateway@sha256:")
    for kind in ("apps/v1:Deployment", "core/v1:Service"):
        assert made.only(f"kubernetes:{kind}").inputs["metadata"]["namespace"] == "serving"
    assert made.only("pulumi:providers:gcp").inputs["project"] == "dev-project"
    assert made.outputs == {"chat_url": "http://198.51.100.7", "api_url": "http://198.51.100.7/v1", "model_alias": "chat"}


def test_kubeconfig_is_secret_and_used_only_by_the_provider_and_nothing_else_becomes_secret(made: Run) -> None:
    for each in made.resources.values():
        if each.type == "pulumi:providers:kubernetes":
            assert each.secrets == ["kubeconfig"]
        else:
            assert CA not in str(each.inputs)
    assert made.only("kubernetes:apps/v1:Deployment").secrets == []
    assert made.only("docker:index/image:Image").secrets == ["registry.password"]


def test_pods_have_no_rights_and_no_token(made: Run) -> None:
    security = _container(made)["securityContext"]
    assert security["readOnlyRootFilesystem"]
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert not security["allowPrivilegeEscalation"]
    pod = made.only("kubernetes:apps/v1:Deployment").inputs["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert "tolerations" not in pod


def test_servers_key_only_goes_by_a_secret() -> None:
    made = run(upstreamApiKey=KEY)
    secret = made.only("kubernetes:core/v1:Secret")
    assert secret.inputs["stringData"] == {"api-key": KEY}
    assert secret.secrets == ["stringData"]
    for each in made.resources.values():
        assert each is secret or KEY not in str(each.inputs)
    (variable,) = [each for each in _container(made)["env"] if each["name"] == "UPSTREAM_API_KEY"]
    assert variable["valueFrom"]["secretKeyRef"] == {"name": "chat-gateway-upstream-1a2b3c", "key": "api-key"}


def test_settings_reach_the_service_and_the_pods() -> None:
    made = run(
        servicePort=8081,
        loadBalancerSourceRanges='["203.0.113.0/24"]',
        replicas=3,
        requestsPerMinute=7,
        upstreamUrl="http://vllm-service.serving.svc/v1",
        modelAlias="assistant",
    )
    service = made.only("kubernetes:core/v1:Service").inputs["spec"]
    assert service["ports"][0]["port"] == 8081
    assert service["loadBalancerSourceRanges"] == ["203.0.113.0/24"]
    assert made.only("kubernetes:apps/v1:Deployment").inputs["spec"]["replicas"] == 3
    environment = {each["name"]: each.get("value") for each in _container(made)["env"]}
    assert environment["UPSTREAM_URL"] == "http://vllm-service.serving.svc/v1"
    assert environment["REQUESTS_PER_MINUTE"] == "7"
    assert made.outputs["api_url"] == "http://198.51.100.7:8081/v1"
    assert made.outputs["model_alias"] == environment["MODEL_ALIAS"] == "assistant"


@pytest.mark.parametrize("missing", sorted(OUTPUTS))
def test_missing_output_names_output_stack_and_fix_before_any_resource(missing: str) -> None:
    made = Run()
    with pytest.raises(pulumi.RunError) as caught:
        run({name: value for name, value in OUTPUTS.items() if name != missing}, made)
    message = str(caught.value)
    assert f"output `{missing}` is missing" in message
    assert f"stack {STACK} cannot be used; nothing was created or changed" in message
    assert f"Fix: `pulumi up --stack {STACK}`" in message
    assert CA not in message
    assert [each.type for each in made.resources.values() if each.custom] == []


def test_all_wrong_outputs_are_reported_at_once_and_a_kubeconfig_is_not_shown() -> None:
    check = module("inference_stack").check
    wrong = {**OUTPUTS, "service_url": "198.51.100.7", "model": 7, "kubeconfig": "half a secret"}
    with pytest.raises(pulumi.RunError) as caught:
        check(STACK, wrong)
    message = str(caught.value)
    assert '`service_url` "198.51.100.7" is not a URL that ends in /v1' in message
    assert "`model` 7 is not" in message
    assert "`kubeconfig` is not a kubeconfig" in message
    assert "half a secret" not in message
    assert check(STACK, OUTPUTS) == sorted(OUTPUTS)


def test_wrong_settings_are_refused_all_at_once() -> None:
    with pytest.raises(pulumi.RunError) as caught:
        run(inferenceStack="dev", replicas=0, servicePort=99999, loadBalancerSourceRanges='["all"]', upstreamUrl="x")
    message = str(caught.value)
    for key in ("inferenceStack", "replicas", "servicePort", "loadBalancerSourceRanges", "upstreamUrl"):
        assert re.search(rf"- {key}: .*Fix: ", message), message


def test_taken_outputs_are_promised_ones() -> None:
    promised = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "outputs.md").read_text(), re.MULTILINE)
    assert set(OUTPUTS) <= set(promised)
    exported = re.findall(r'pulumi\.export\("(\w+)"', (ROOT / "__main__.py").read_text())
    assert set(OUTPUTS) <= set(exported)
