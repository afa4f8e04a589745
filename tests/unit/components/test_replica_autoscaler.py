"""With `maxReplicas` the number of replicas is an autoscaler's; without, nothing of it is there."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest import mock

import pulumi
import pytest

from components.serving.metrics_adapter import NAME, NAMESPACE, _project_number
from tests.unit.program import Run, run_program

AUTOSCALER = "kubernetes:autoscaling/v2:HorizontalPodAutoscaler"
API_SERVICE = "kubernetes:apiregistration.k8s.io/v1:APIService"
DEPLOYMENT = "kubernetes:apps/v1:Deployment"


@pytest.fixture(scope="module")
def scaled() -> Run:
    return run_program({"replicas": 2, "maxReplicas": 4})


@pytest.fixture(scope="module")
def spec(scaled: Run) -> dict[str, Any]:
    found: dict[str, Any] = scaled.only(AUTOSCALER).inputs["spec"]
    return found


def test_a_fixed_number_of_replicas_needs_no_autoscaler_and_no_adapter() -> None:
    dev = run_program()
    assert dev.of_type(AUTOSCALER) == dev.of_type(API_SERVICE) == []
    assert dev.named(DEPLOYMENT, "vllm").ignore_changes == []


def test_autoscaler_goes_by_the_requests_that_wait_and_by_those_that_run(spec: dict[str, Any]) -> None:
    assert spec["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "vllm"}
    assert (spec["minReplicas"], spec["maxReplicas"]) == (2, 4)
    assert [(each["type"], each["pods"]["metric"]["name"], each["pods"]["target"]) for each in spec["metrics"]] == [
        ("Pods", f"prometheus.googleapis.com|vllm:num_requests_{name}|gauge", {"type": "AverageValue", "averageValue": target})
        for name, target in (("waiting", "5"), ("running", "64"))
    ]


def test_an_update_leaves_the_number_of_replicas_to_the_autoscaler(scaled: Run) -> None:
    deployment = scaled.named(DEPLOYMENT, "vllm")
    assert deployment.ignore_changes == ["spec.replicas"]
    # For the first update, before the autoscaler is there.
    assert deployment.inputs["spec"]["replicas"] == 2


def test_adapter_may_read_metrics_as_its_kubernetes_account_and_nothing_else(scaled: Run) -> None:
    (member,) = [each for each in scaled.of_type("gcp:projects/iAMMember:IAMMember") if "monitoring" in each.inputs["role"]]
    assert member.inputs["role"] == "roles/monitoring.viewer"
    assert member.inputs["member"] == (
        "principal://iam.googleapis.com/projects/123456789012/locations/global/workloadIdentityPools/"
        f"my-project.svc.id.goog/subject/ns/{NAMESPACE}/sa/{NAME}-tpu-gpu-fungibility"
    )
    role = scaled.only("kubernetes:rbac.authorization.k8s.io/v1:ClusterRole")
    assert role.inputs["rules"] == [{"apiGroups": [""], "resources": ["pods", "nodes", "nodes/stats"], "verbs": ["get", "list", "watch"]}]


def test_a_project_that_cannot_be_read_is_refused_with_the_right_that_is_missing() -> None:
    refused = Exception("invoke of gcp:organizations/getProject:getProject failed: returned an error: googleapi: Error 403: no, forbidden")
    with mock.patch("pulumi.runtime.invoke_async", mock.AsyncMock(side_effect=refused)), pytest.raises(pulumi.RunError) as raised:
        asyncio.run(_project_number("my-project", mock.Mock()))
    for part in ("maxReplicas", "my-project", "Error 403: no, forbidden", "resourcemanager.projects.get"):
        assert part in str(raised.value)


def test_adapter_s_place_in_the_api_comes_after_it_and_the_autoscaler_after_both(scaled: Run) -> None:
    for api_service in scaled.of_type(API_SERVICE):
        names = {urn.rpartition("::")[2] for urn in api_service.dependencies}
        assert {"replica-autoscaler-metrics", "replica-autoscaler-metrics-service"} <= names
    waited_for = {urn.rpartition("::")[2] for urn in scaled.only(AUTOSCALER).dependencies}
    assert {each.name for each in scaled.of_type(API_SERVICE)} <= waited_for
