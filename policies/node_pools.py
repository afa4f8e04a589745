"""Accelerator pools are reserved for pods that need them, and are limited in size. Left out: quota, which preflight checks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from components.catalog.machines import MACHINE_TYPES, PLAIN_MACHINE_TYPES
from policies.control_plane import CLUSTER
from policies.rule import UNKNOWN, Finding, Options, Resource, ResourceRule, Undecided, Violation, get

NODE_POOL = "gcp:container/nodePool:NodePool"

#: Families whose machines all carry accelerators, besides the table's own machines.
#: https://docs.cloud.google.com/compute/docs/accelerator-optimized-machines
_ACCELERATED_FAMILY = re.compile(r"(ct\d\w*|a[2-9]\w*|g[2-9]\w*)-")


@dataclass(frozen=True)
class Pool:
    """A NodePool, or one of the pools that are written inside a Cluster."""

    resource: Resource
    #: Prefix of its properties' paths.
    path: str
    properties: Any

    def get(self, *path: str | int) -> Any:
        return get(self.properties, *path)

    @property
    def accelerated(self) -> bool | None:
        """Whether its machines have accelerators; None if that is not known yet."""
        guests = self.get("nodeConfig", "guestAccelerators")
        machine = self.get("nodeConfig", "machineType")
        if isinstance(machine, str) and (machine in MACHINE_TYPES.keys() - PLAIN_MACHINE_TYPES or _ACCELERATED_FAMILY.match(machine)):
            return True
        if guests is not UNKNOWN and guests:
            return True
        return None if UNKNOWN in (guests, machine) else False


def pools_of(resource: Resource) -> Iterator[Pool]:
    """The node pools that a resource describes."""
    if resource.type == NODE_POOL:
        yield Pool(resource, "", resource.properties)
    elif resource.type == CLUSTER:
        inside = resource.get("nodePools")
        for index, properties in enumerate(inside if isinstance(inside, (list, tuple)) else ()):
            yield Pool(resource, f"nodePools[{index}].", properties)


def untainted(resource: Resource, options: Options) -> Iterable[Finding]:
    """GKE taints GPU nodes only if the pool asks for it when it is created, and never with the class's own taint."""
    for pool in _accelerated(resource):
        path = f"{pool.path}nodeConfig.taints"
        taints = pool.get("nodeConfig", "taints")
        if taints is UNKNOWN:
            yield Undecided(resource=resource, field=path)
            continue
        effects = [get(taints, index, "effect") for index in range(len(taints or ()))]
        if any(effect in ("NO_SCHEDULE", "NO_EXECUTE") for effect in effects):
            continue
        if UNKNOWN in effects:
            yield Undecided(resource=resource, field=f"{path}[{effects.index(UNKNOWN)}].effect")
            continue
        yield _machine_unknown(pool) or Violation(
            resource=resource,
            field=path,
            value=effects or None,
            reason=("has no NO_SCHEDULE" if effects else "is missing")
            + ", so any pod may run on these nodes, which cost many times as much as ordinary ones, and keep them",
            fix="taint it NO_SCHEDULE with cloud.google.com/compute-class=CLASS, which the class's pods tolerate",
        )


def unlimited(resource: Resource, options: Options) -> Iterable[Finding]:
    for pool in _accelerated(resource):
        path = f"{pool.path}autoscaling"
        limits = [pool.get("autoscaling", key) for key in ("maxNodeCount", "totalMaxNodeCount")]
        if any(isinstance(limit, (int, float)) and limit > 0 for limit in limits):
            continue
        if UNKNOWN in limits:
            yield Undecided(resource=resource, field=f"{path}.maxNodeCount")
            continue
        yield _machine_unknown(pool) or Violation(
            resource=resource,
            field=path,
            reason="has no maxNodeCount above zero, so the pool is not autoscaled: its nodes are billed day and night",
            fix="give minNodeCount and maxNodeCount (settings of acceleratorPools)",
        )


def _accelerated(resource: Resource) -> Iterator[Pool]:
    """The pools that have accelerators, or may have."""
    return (pool for pool in pools_of(resource) if pool.accelerated is not False)


def _machine_unknown(pool: Pool) -> Undecided | None:
    """An open question in place of the violation, if the pool may turn out to have no accelerators."""
    known = pool.accelerated is not None
    return None if known else Undecided(resource=pool.resource, field=f"{pool.path}nodeConfig.machineType")


RULES = (
    ResourceRule(
        name="accelerator-pool-is-tainted",
        description="An accelerator pool is tainted, so that only pods that tolerate the taint run there.",
        level="mandatory",
        because="a single stray pod keeps an idle accelerator node from being removed",
        check=untainted,
    ),
    ResourceRule(
        name="accelerator-pool-is-limited",
        description="An accelerator pool is autoscaled between limits.",
        level="mandatory",
        because="without a limit the stack's cost has none either",
        check=unlimited,
    ),
)
