"""Which addresses may reach an external gateway: a Cloud Armor policy that refuses all others. Left out: existing policies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pulumi
from pulumi_gcp import compute

from components.cluster.replacement import successor_first
from components.settings.gateway import Gateway
from components.settings.sections import Place

#: Ranges of one rule: https://docs.cloud.google.com/armor/quotas
_MOST_RANGES = 10

#: The priority of the rule that every policy ends with.
_LAST = 2**31 - 1


def rules(source_ranges: Sequence[str]) -> list[dict[str, Any]]:
    """One rule for each ten ranges, and the one that refuses everybody else."""
    allowed = [list(source_ranges[start : start + _MOST_RANGES]) for start in range(0, len(source_ranges), _MOST_RANGES)]
    return [*(_rule("allow", 1000 + place, ranges) for place, ranges in enumerate(allowed)), _rule("deny(403)", _LAST, ["*"])]


def _rule(action: str, priority: int, ranges: Sequence[str]) -> dict[str, Any]:
    match = {"versioned_expr": "SRC_IPS_V1", "config": {"src_ip_ranges": list(ranges)}}
    return {"action": action, "priority": priority, "match": match}


def client_policy(name: str, place: Place, full_name: str, gateway: Gateway, *, parent: pulumi.Resource) -> pulumi.Output[str] | str:
    """The name of the policy for the backends; empty for none."""
    if not gateway.source_ranges:
        return gateway.security_policy
    common: dict[str, Any] = {"project": place.project, "name": full_name, "type": "CLOUD_ARMOR", "rules": rules(gateway.source_ranges)}
    # A policy in use cannot be deleted.
    options = successor_first(parent)
    if gateway.regional:
        made: Any = compute.RegionSecurityPolicy(name, region=place.region, **common, opts=options)
    else:
        made = compute.SecurityPolicy(name, **common, opts=options)
    policy_name: pulumi.Output[str] = made.name
    return policy_name
