"""The pack as the engine runs it: its own process and virtual environment, asked over the engine's own protocol."""

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import grpc  # type: ignore[import-untyped]
import pytest
from google.protobuf import empty_pb2, json_format, struct_pb2
from pulumi.runtime.proto import analyzer_pb2, analyzer_pb2_grpc
from pulumi.runtime.rpc import UNKNOWN, _special_secret_sig, _special_sig_key

from policies.rules import RULES
from tests.unit.program import ROOT, TOKEN

PYTHON = ROOT / "policies" / ".venv" / "bin" / "python"

CLUSTER = "gcp:container/cluster:Cluster"
DEPLOYMENT = "kubernetes:apps/v1:Deployment"
SERVICE = "kubernetes:core/v1:Service"


class Pack:
    """A running pack."""

    def __init__(self, stub: Any) -> None:
        self.stub = stub

    def analyze(self, type_: str, name: str, properties: dict[str, Any], *, protect: bool = False) -> list[Any]:
        """The diagnostics about one resource."""
        request = analyzer_pb2.AnalyzeRequest(
            type=type_,
            name=name,
            urn=urn(type_, name),
            properties=struct(properties),
            options=analyzer_pb2.AnalyzerResourceOptions(protect=protect),
        )
        return list(self.stub.Analyze(request).diagnostics)

    def analyze_stack(self, *resources: tuple[str, str, dict[str, Any]]) -> list[Any]:
        """The diagnostics about resources, of which the engine gives the outputs here."""
        request = analyzer_pb2.AnalyzeStackRequest(
            resources=[
                analyzer_pb2.AnalyzerResource(type=type_, name=name, urn=urn(type_, name), properties=struct(outputs))
                for type_, name, outputs in resources
            ]
        )
        return list(self.stub.AnalyzeStack(request).diagnostics)


def urn(type_: str, name: str) -> str:
    return f"urn:pulumi:prod::tpu-gpu-fungibility::{type_}::{name}"


def struct(properties: dict[str, Any]) -> Any:
    return json_format.ParseDict(properties, struct_pb2.Struct())


def secret(value: Any) -> dict[str, Any]:
    return {_special_sig_key: _special_secret_sig, "value": value}


@pytest.fixture(scope="module")
def pack() -> Iterator[Pack]:
    if not PYTHON.exists():
        pytest.fail("policies/.venv is not there; `make policies/.venv/.installed` makes it", pytrace=False)
    process = subprocess.Popen([str(PYTHON), "-u", str(ROOT / "policies"), "127.0.0.1:1"], stdout=subprocess.PIPE, cwd=ROOT, text=True)
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield Pack(analyzer_pb2_grpc.AnalyzerStub(channel))
    finally:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()


def test_pack_offers_every_rule_with_its_level_and_its_options(pack: Pack) -> None:
    info = pack.stub.GetAnalyzerInfo(empty_pb2.Empty())
    levels = {each.name: analyzer_pb2.EnforcementLevel.Name(each.enforcementLevel).lower() for each in info.policies}
    assert levels == {rule.name: rule.level for rule in RULES}
    options = {
        each.name: {name: field["default"] for name, field in json_format.MessageToDict(each.configSchema.properties).items()}
        for each in info.policies
        if each.HasField("configSchema")
    }
    assert options == {rule.name: rule.defaults() for rule in RULES if rule.options}


def test_violation_names_resource_property_reason_and_fix(pack: Pack) -> None:
    found = pack.analyze(CLUSTER, "cluster", {"nodeConfig": {"serviceAccount": "a@b"}, "deletionProtection": True}, protect=True)
    (violation,) = found
    assert violation.policyName == "no-public-control-plane"
    assert violation.enforcementLevel == analyzer_pb2.MANDATORY
    assert "cluster: masterAuthorizedNetworksConfig: is missing" in violation.message
    assert ". Fix: name the ranges" in violation.message


def test_value_that_a_preview_does_not_know_is_an_advisory_that_says_when_it_is_decided(pack: Pack) -> None:
    containers = [{"name": "vllm-gpu", "image": UNKNOWN}, {"name": "vllm-tpu", "image": secret(UNKNOWN)}]
    (notice,) = pack.analyze(DEPLOYMENT, "vllm", {"spec": {"template": {"spec": {"containers": containers}}}})
    assert notice.policyName == "images-by-digest"
    assert notice.enforcementLevel == analyzer_pb2.ADVISORY
    assert "containers[vllm-gpu].image is known only in the update, which decides it" in notice.message
    assert "containers[vllm-tpu].image" in notice.message


def test_option_of_the_stack_s_configuration_counts(pack: Pack) -> None:
    privileged = {"name": "web", "image": f"r/i@sha256:{'a' * 64}", "securityContext": {"privileged": True}}
    inputs = {"spec": {"template": {"spec": {"containers": [privileged]}}}}
    assert [each.policyName for each in pack.analyze(DEPLOYMENT, "web", inputs)] == ["no-privileged-container"]
    config = analyzer_pb2.PolicyConfig(enforcementLevel=analyzer_pb2.MANDATORY, properties=struct({"allowed": ["web"]}))
    pack.stub.Configure(analyzer_pb2.ConfigureAnalyzerRequest(policyConfig={"no-privileged-container": config}))
    assert pack.analyze(DEPLOYMENT, "web", inputs) == []
    pack.stub.Configure(analyzer_pb2.ConfigureAnalyzerRequest())
    assert len(pack.analyze(DEPLOYMENT, "web", inputs)) == 1


def test_stack_rule_knows_the_inputs_where_the_provider_has_no_outputs_yet(pack: Pack) -> None:
    pod = {"containers": [{"name": "vllm-gpu", "image": UNKNOWN}]}
    pack.analyze(SERVICE, "vllm-service", {"spec": {"type": "LoadBalancer", "selector": {"app": "vllm"}}})
    pack.analyze(DEPLOYMENT, "vllm", {"spec": {"template": {"metadata": {"labels": {"app": "vllm"}}, "spec": pod}}})
    violations = pack.analyze_stack((SERVICE, "vllm-service", {}), (DEPLOYMENT, "vllm", {}))
    assert [each.policyName for each in violations] == ["no-open-server", "no-clear-text"]
    assert {each.urn for each in violations} == {urn(SERVICE, "vllm-service")}
    # A resource that the stack has no more does not count.
    assert pack.analyze_stack((DEPLOYMENT, "vllm", {})) == []


def test_secret_in_a_resource_is_in_no_message(pack: Pack) -> None:
    containers = [{"name": "x", "image": "i:1", "args": [secret(TOKEN)], "env": [{"name": "T", "value": secret(TOKEN)}]}]
    found = pack.analyze(DEPLOYMENT, "vllm", {"spec": {"template": {"spec": {"containers": containers}}}})
    found += pack.analyze("kubernetes:core/v1:Secret", "s", {"stringData": secret({"hf_api_token": TOKEN})})
    assert found
    assert TOKEN not in json.dumps([json_format.MessageToDict(each) for each in found])
