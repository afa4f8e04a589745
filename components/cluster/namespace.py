"""The Kubernetes namespace that the servers run in, where it is not one that every cluster has.

A namespace is shared: one that is there already is taken over as it is, and none is ever deleted by this program, since whatever else
is in it would go with it. The cluster's end takes it away.
"""

from __future__ import annotations

import pulumi
from pulumi_kubernetes import core

from components.cluster.cluster import Cluster
from components.providers import adopting_provider

#: Of every cluster.
DEFAULT = "default"


def after_namespace(namespace: str, cluster: Cluster) -> pulumi.ResourceOptions:
    """For what is put into the namespace, which is made here."""
    if namespace == DEFAULT:
        return pulumi.ResourceOptions()
    adopting = pulumi.ResourceOptions(providers=[adopting_provider(cluster)])
    return pulumi.ResourceOptions(depends_on=[Namespace("namespace", namespace, adopting)])


class Namespace(pulumi.ComponentResource):
    """The namespace; `opts` brings a provider that takes over what exists."""

    def __init__(self, name: str, namespace: str, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("fungibility:index:Namespace", name, None, opts)
        core.v1.Namespace(name, metadata={"name": namespace}, opts=pulumi.ResourceOptions(parent=self, retain_on_delete=True))
        self.register_outputs({})
