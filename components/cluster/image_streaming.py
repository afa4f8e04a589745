"""Image streaming: containers start before their image has arrived, and nodes read it from Google's own file system.

Source: https://docs.cloud.google.com/kubernetes-engine/docs/how-to/image-streaming. Left out: Private Google Access, which
nodes without public addresses need (a property of their subnetwork), and the right to use the quota of another project that
holds prebuilt images, which that project has to grant.
"""

from __future__ import annotations

from typing import Any

import pulumi
from pulumi_gcp import projects

from components.cluster.project_services import enable_apis
from components.cluster.replacement import successor_first

#: Nodes with an account other than the project's default one need this role in the project that holds the images, or nothing streams.
NODE_ROLE = "roles/serviceusage.serviceUsageConsumer"

_API = "containerfilesystem"


def streaming_config(enabled: bool) -> dict[str, Any]:
    """The part of a node's configuration for image streaming; set in both cases, since GKE has defaults of its own."""
    return {"gcfs_config": {"enabled": enabled}}


def prepare_image_streaming(
    prefix: str, *, project: str, node_service_account: pulumi.Output[str], parent: pulumi.Resource
) -> list[pulumi.Resource]:
    """The API and the nodes' right to use it. Both have to exist before a node starts, or it pulls its images whole."""
    return [
        *enable_apis(prefix, [_API], project=project, parent=parent),
        projects.IAMMember(
            f"{prefix}-image-streaming-role",
            project=project,
            role=NODE_ROLE,
            member=node_service_account.apply(lambda email: f"serviceAccount:{email}"),
            opts=successor_first(parent),
        ),
    ]
