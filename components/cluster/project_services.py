"""The Google APIs that a component needs, switched on in the project."""

from __future__ import annotations

from collections.abc import Sequence

import pulumi
from pulumi_gcp import projects


def enable_apis(prefix: str, apis: Sequence[str], *, project: str, parent: pulumi.Resource) -> list[pulumi.Resource]:
    """One resource an API; `container` stands for container.googleapis.com."""
    return [
        projects.Service(
            f"{prefix}-{api}-api",
            project=project,
            service=f"{api}.googleapis.com",
            # Another program of the project may rest on the API: taking this stack away must not take that down.
            disable_on_destroy=False,
            opts=pulumi.ResourceOptions(parent=parent),
        )
        for api in apis
    ]
