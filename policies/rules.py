"""All rules of the pack; the order is that of docs/policies.md."""

from __future__ import annotations

from policies import control_plane, costs, gateway, load_balancer, node_identity, node_pools, pods, protection
from policies.rule import ResourceRule, StackRule

RULES: tuple[ResourceRule | StackRule, ...] = (
    *control_plane.RULES,
    *node_identity.RULES,
    *protection.RULES,
    *pods.RULES,
    *node_pools.RULES,
    *load_balancer.RULES,
    *gateway.RULES,
    *costs.RULES,
)
