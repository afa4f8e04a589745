"""With `maxReplicas` the number of replicas is an autoscaler's; without, nothing of it is there."""

from __future__ import annotations

import asyncio
from unittest import mock

import pulumi
import pytest

from components.serving.metrics_adapter import _project_number


def test_a_project_that_cannot_be_read_is_refused_with_the_right_that_is_missing() -> None:
    refused = Exception("invoke of gcp:organizations/getProject:getProject failed: returned an error: googleapi: Error 403: no, forbidden")
    with mock.patch("pulumi.runtime.invoke_async", mock.AsyncMock(side_effect=refused)), pytest.raises(pulumi.RunError) as raised:
        asyncio.run(_project_number("my-project", mock.Mock()))
    for part in ("maxReplicas", "my-project", "Error 403: no, forbidden", "resourcemanager.projects.get"):
        assert part in str(raised.value)
