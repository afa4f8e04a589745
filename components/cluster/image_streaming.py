"""Image streaming: containers start while their image still comes, which nodes then read from Google's own file system.

Source: https://docs.cloud.google.com/kubernetes-engine/docs/how-to/image-streaming. Left out: Private Google Access, which
nodes without public addresses need for it (their subnetwork's to have), and the right to use the quota of another project that
holds prebuilt images (that project's to give).
"""

from __future__ import annotations

from typing import Any

import pulumi
from pulumi_gcp import projects

from components.cluster.project_services import enable_apis
from components.cluster.replacement import successor_first

#: Nodes whose account is not the project's default one need it in the project that holds the images, or nothing streams.
NODE_ROLE = "roles/serviceusage.serviceUsageConsumer"

_API = "containerfilesystem"


def streaming_config(enabled: bool) -> dict[str, Any]:
    """The part of a node's configuration that is image streaming's; said in both cases, since GKE has defaults of its own."""
    return {"gcfs_config": {"enabled": enabled}}


def prepare_image_streaming(
    prefix: str, *, project: str, node_service_account: pulumi.Output[str], parent: pulumi.Resource
) -> list[pulumi.Resource]:
    """The API and the nodes' right to use it: what has to be there before a node starts, or it pulls its images whole."""
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
