"""The Kubernetes namespace of the servers, if it is not one that every cluster has.

A namespace is shared: an existing one is taken over as it is, and this program never deletes one, since everything else in it would go
too. It ends with the cluster.
"""

from __future__ import annotations

import pulumi
from pulumi_kubernetes import core

from components.cluster.cluster import Cluster
from components.cluster.providers import adopting_provider

#: The namespace that every cluster has.
DEFAULT = "default"


def after_namespace(namespace: str, cluster: Cluster) -> pulumi.ResourceOptions:
    """Makes the namespace; the options are for the resources in it."""
    if namespace == DEFAULT:
        return pulumi.ResourceOptions()
    adopting = pulumi.ResourceOptions(providers=[adopting_provider(cluster)])
    return pulumi.ResourceOptions(depends_on=[Namespace("namespace", namespace, adopting)])


class Namespace(pulumi.ComponentResource):
    """The namespace; the provider in `opts` takes over an existing one."""

    def __init__(self, name: str, namespace: str, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("fungibility:index:Namespace", name, None, opts)
        core.v1.Namespace(name, metadata={"name": namespace}, opts=pulumi.ResourceOptions(parent=self, retain_on_delete=True))
        self.register_outputs({})
