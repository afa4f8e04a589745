"""With `maxReplicas` the number of replicas is an autoscaler's; without, nothing of it is there."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest import mock

import pulumi
import pytest

from components.serving.metrics_adapter import _project_number
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


def test_an_update_leaves_the_number_of_replicas_to_the_autoscaler(scaled: Run) -> None:
    deployment = scaled.named(DEPLOYMENT, "vllm")
    assert deployment.ignore_changes == ["spec.replicas"]
    # For the first update, before the autoscaler is there.
    assert deployment.inputs["spec"]["replicas"] == 2


def test_a_project_that_cannot_be_read_is_refused_with_the_right_that_is_missing() -> None:
    refused = Exception("invoke of gcp:organizations/getProject:getProject failed: returned an error: googleapi: Error 403: no, forbidden")
    with mock.patch("pulumi.runtime.invoke_async", mock.AsyncMock(side_effect=refused)), pytest.raises(pulumi.RunError) as raised:
        asyncio.run(_project_number("my-project", mock.Mock()))
    for part in ("maxReplicas", "my-project", "Error 403: no, forbidden", "resourcemanager.projects.get"):
        assert part in str(raised.value)
