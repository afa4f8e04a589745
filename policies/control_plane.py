"""Who may reach the control plane. Left out: what IAM and RBAC allow them to do there."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any

from policies.rule import UNKNOWN, Finding, Options, Resource, ResourceRule, Undecided, Violation

CLUSTER = "gcp:container/cluster:Cluster"

_RANGES = "masterAuthorizedNetworksConfig"

_FIX = (
    "name the ranges that may reach it (masterAuthorizedNetworksConfig.cidrBlocks; setting controlPlaneSourceRanges), "
    "or leave only its DNS endpoint on (controlPlaneEndpointsConfig.ipEndpointsConfig.enabled: false; setting "
    "controlPlaneEndpoint: dns)"
)


def public_control_plane(cluster: Resource, options: Options) -> Iterable[Finding]:
    """https://docs.cloud.google.com/kubernetes-engine/docs/concepts/network-isolation#about-control-plane-isolation"""
    if cluster.type != CLUSTER:
        return
    ways_out: tuple[tuple[tuple[str, ...], Any], ...] = (
        (("controlPlaneEndpointsConfig", "ipEndpointsConfig", "enabled"), False),
        (("privateClusterConfig", "enablePrivateEndpoint"), True),
    )
    for path, closed in ways_out:
        if cluster.get(*path) is closed:
            return
    undecided = [Undecided(resource=cluster, field=".".join(path)) for path, _ in ways_out if cluster.get(*path) is UNKNOWN]
    found = list(_ranges(cluster))
    if undecided and any(isinstance(each, Violation) for each in found):
        yield from undecided
    else:
        yield from found


def _ranges(cluster: Resource) -> Iterable[Finding]:
    """What is wrong with the ranges that may reach the control plane's address."""
    config = cluster.get(_RANGES)
    if config is UNKNOWN:
        yield Undecided(resource=cluster, field=_RANGES)
        return
    if config is None:
        reason = "is missing, so the whole internet may try the control plane's address"
        yield Violation(resource=cluster, field=_RANGES, reason=reason, fix=_FIX)
        return
    if cluster.get(_RANGES, "gcpPublicCidrsAccessEnabled") is True:
        yield Violation(
            resource=cluster,
            field=f"{_RANGES}.gcpPublicCidrsAccessEnabled",
            value=True,
            reason="lets in every machine of Google Cloud that has a public address, also other customers' machines",
            fix="set it to false, and name your own ranges",
        )
    blocks = cluster.get(_RANGES, "cidrBlocks")
    if blocks is UNKNOWN:
        yield Undecided(resource=cluster, field=f"{_RANGES}.cidrBlocks")
        return
    for index in range(len(blocks or ())):
        where = f"{_RANGES}.cidrBlocks[{index}].cidrBlock"
        block = cluster.get(_RANGES, "cidrBlocks", index, "cidrBlock")
        if block is UNKNOWN:
            yield Undecided(resource=cluster, field=where)
        elif is_everywhere(block):
            yield Violation(
                resource=cluster, field=where, value=block, reason="lets the whole internet try the control plane's address", fix=_FIX
            )


def is_everywhere(cidr: Any) -> bool:
    """Whether an IPv4 or IPv6 range (CIDR) covers so much of the public internet that it excludes no one in effect."""
    try:
        network = ipaddress.ip_network(str(cidr), strict=False)
    except ValueError:
        # The cloud refuses it; this rule does not report it.
        return False
    return network.prefixlen < (8 if network.version == 4 else 16) and not network.is_private


RULES = (
    ResourceRule(
        name="no-public-control-plane",
        description="A control plane has no public address, or only named ranges may reach it.",
        level="mandatory",
        because="a stolen credential must not be enough to reach the cluster; dev.json lowers it, since the walkthrough's cluster is "
        "reached from anywhere and holds nothing",
        check=public_control_plane,
    ),
)
