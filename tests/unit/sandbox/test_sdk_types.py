"""The type checker against the installed SDKs' own classes."""

from typing import Any

import pulumi
import pytest
from pulumi.runtime.rpc import UNKNOWN

from sandbox.providers.sdk_types import args_class, find_problems, property_names

POOL = "gcp:container/nodePool:NodePool"
DEPLOYMENT = "kubernetes:apps/v1:Deployment"
SERVICE = "kubernetes:core/v1:Service"
COMPUTE_CLASS = "kubernetes:cloud.google.com/v1:ComputeClass"
IMAGE = "docker:index/image:Image"

_SIGNATURE = "4dabf18193072939515e22adb298388d"
_SECRET = "1b47061264138c4ac30d75fd1eb44270"


def problems(token: str, inputs: dict[str, Any]) -> list[str]:
    return [str(problem) for problem in find_problems(token, inputs)]


def pool(**more: Any) -> dict[str, Any]:
    return {"cluster": "c", **more}


def deployment(container: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "d", "labels": {"any-key/at.all": "v"}},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {"spec": {"containers": [{"name": "c", **container}]}}},
    }


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        (pool(nodeConfig={"machineTyp": "x"}), "nodeConfig.machineTyp: unknown key; did you mean machineType?"),
        (
            pool(nodeConfig={"taints": [{"key": "k", "value": "v", "effect": "e", "efect": "e"}]}),
            "nodeConfig.taints[0].efect: unknown key; did you mean effect?",
        ),
        (pool(nodeConfig={"taints": [{"key": "k", "value": "v"}]}), "nodeConfig.taints[0].effect: missing"),
        (pool(nodeLocations="asia-northeast1-b"), "nodeLocations: a string is not a list"),
        (pool(initialNodeCount="1"), "initialNodeCount: a string is not an integer"),
        (pool(nodeConfig={"preemptible": "true"}), "nodeConfig.preemptible: a string is not a boolean"),
        ({}, "cluster: missing, and it is required"),
    ],
)
def test_each_mistake_in_a_pool_is_the_one_problem(inputs: dict[str, Any], expected: str) -> None:
    (problem,) = problems(POOL, inputs)
    assert problem.startswith(expected)


def test_kubernetes_specs_are_checked_to_their_leaves() -> None:
    environment = [{"name": "N", "valueFrom": {"fieldRef": {"fieldPth": "status.hostIP", "fieldPath": "x"}}}]
    assert problems(DEPLOYMENT, deployment({"env": environment})) == [
        "spec.template.spec.containers[0].env[0].valueFrom.fieldRef.fieldPth: unknown key; did you mean fieldPath?"
    ]
    assert problems(DEPLOYMENT, deployment({"image": "i", "resources": {"limits": {"nvidia.com/gpu": "1"}}})) == []


def test_a_port_may_be_a_number_or_a_name_and_nothing_else() -> None:
    def service(target: Any) -> dict[str, Any]:
        return {"spec": {"ports": [{"port": 80, "targetPort": target}]}}

    assert problems(SERVICE, service("http")) == problems(SERVICE, service(8000)) == []
    assert problems(SERVICE, service([8000])) == ["spec.ports[0].targetPort: a list is not an integer or a string"]


def test_a_custom_resource_has_a_free_spec_and_checked_metadata() -> None:
    inputs = {"apiVersion": "cloud.google.com/v1", "kind": "ComputeClass", "metadata": {"name": "c"}, "spec": {"x": 1}}
    assert args_class(COMPUTE_CLASS) is None
    assert problems(COMPUTE_CLASS, inputs) == []
    assert problems(COMPUTE_CLASS, {**inputs, "metadata": {"nam": "c"}}) == ["metadata.nam: unknown key; did you mean name?"]


@pytest.mark.parametrize("unknown", [UNKNOWN, object(), pulumi.Output.from_input("x")])
def test_unknown_values_fit_everywhere(unknown: Any) -> None:
    assert problems(POOL, {"cluster": unknown, "initialNodeCount": unknown, "nodeConfig": unknown}) == []


def test_what_a_secret_holds_is_checked_and_not_shown() -> None:
    def secret(value: Any) -> dict[str, Any]:
        return {_SIGNATURE: _SECRET, "value": value}

    assert problems(POOL, {"cluster": secret("c")}) == []
    (problem,) = problems(POOL, pool(initialNodeCount=secret("hunter2")))
    assert problem == "initialNodeCount: a string is not an integer"
    assert problems(POOL, pool(nodeConfig=secret({"machineTyp": "x"}))) == ["nodeConfig.machineTyp: unknown key; did you mean machineType?"]


@pytest.mark.parametrize(
    ("token", "nearest"),
    [
        ("gcp:container/nodPool:NodPool", "NodePool"),
        ("gcp:containr/nodePool:NodePool", "container"),
        ("kubernetes:apps/v1:Deploymnt", "Deployment"),
        ("aws:s3/bucket:Bucket", None),
        ("nonsense", None),
    ],
)
def test_a_type_that_no_sdk_has_is_a_problem(token: str, nearest: str | None) -> None:
    (problem,) = find_problems(token, {})
    assert (problem.path, problem.nearest) == ((), nearest)
    assert token in str(problem)


@pytest.mark.parametrize("package", ["gcp", "kubernetes", "docker"])
def test_a_providers_own_arguments_have_known_keys(package: str) -> None:
    token = f"pulumi:providers:{package}"
    assert problems(token, {"version": "1.0.0", "__internal": {}}) == []
    assert problems(token, {"nonsense": "1"}) == ["nonsense: unknown key"]


def test_a_resources_properties_are_its_inputs_and_what_is_computed() -> None:
    names = property_names("gcp:serviceaccount/account:Account")
    assert {"accountId", "displayName", "email", "uniqueId"} <= names
    assert property_names(COMPUTE_CLASS) == frozenset()
