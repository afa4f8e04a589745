"""The service account that nodes run as. Left out: the account's roles, which no resource of a node shows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from policies.control_plane import CLUSTER
from policies.node_pools import pools_of
from policies.rule import UNKNOWN, Finding, Options, Resource, ResourceRule, Undecided, Violation

_FIX = "give it an account of its own with roles/container.defaultNodeServiceAccount, as components/cluster/cluster.py does for its nodes"


def default_account(resource: Resource, options: Options) -> Iterable[Finding]:
    """Checks clusters and node pools; a project's default account is `NUMBER-compute@developer.gserviceaccount.com`."""
    for path, account in _accounts(resource):
        if account is UNKNOWN:
            yield Undecided(resource=resource, field=path)
        elif account in (None, "", "default"):
            yield Violation(
                resource=resource,
                field=path,
                value=account,
                reason=("is missing, so nodes" if account is None else "means that nodes")
                + " run as Compute Engine's default service account, which may be Editor of the whole project",
                fix=_FIX,
            )
        elif str(account).endswith("-compute@developer.gserviceaccount.com"):
            yield Violation(
                resource=resource,
                field=path,
                value=account,
                reason="is Compute Engine's default service account, which may be Editor of the whole project",
                fix=_FIX,
            )


def _accounts(resource: Resource) -> Iterator[tuple[str, Any]]:
    for pool in pools_of(resource):
        yield f"{pool.path}nodeConfig.serviceAccount", pool.get("nodeConfig", "serviceAccount")
    if resource.type != CLUSTER:
        return
    provisioned = ("clusterAutoscaling", "autoProvisioningDefaults", "serviceAccount")
    if resource.get("enableAutopilot") is True:
        yield ".".join(provisioned), resource.get(*provisioned)
        return
    if resource.get("clusterAutoscaling", "enabled") is True:
        yield ".".join(provisioned), resource.get(*provisioned)
    # The default pool, which every cluster has when it is created, even if only for a minute.
    if not resource.get("nodePools"):
        yield "nodeConfig.serviceAccount", resource.get("nodeConfig", "serviceAccount")


RULES = (
    ResourceRule(
        name="no-default-node-account",
        description="Nodes run as a service account of their own.",
        level="mandatory",
        because="a pod that breaks out of its container has the node's rights, and the default account may be Editor of the project",
        check=default_account,
    ),
)
