"""The Google APIs that a component needs, switched on in the project."""

from __future__ import annotations

from collections.abc import Sequence

import pulumi
from pulumi_gcp import projects


def enable_apis(prefix: str, apis: Sequence[str], *, project: str, parent: pulumi.Resource) -> list[pulumi.Resource]:
    """One resource for each API; `container` stands for container.googleapis.com."""
    return [
        projects.Service(
            f"{prefix}-{api}-api",
            project=project,
            service=f"{api}.googleapis.com",
            # Other programs of the project may use the API, so destroying this stack must not switch it off.
            disable_on_destroy=False,
            opts=pulumi.ResourceOptions(parent=parent),
        )
        for api in apis
    ]
