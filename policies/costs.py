"""What the nodes may cost at most, from the dated price table. Left out: the cluster's fee, disks, network, discounts (`ops.cost`)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from components.catalog.machines import Provisioning
from components.catalog.prices import Price, node_price
from policies.node_pools import Pool, pools_of
from policies.rule import UNKNOWN, Finding, Option, Options, Resource, StackRule, Undecided, Violation

#: Zones of a regional cluster that names none. https://docs.cloud.google.com/kubernetes-engine/docs/concepts/regional-clusters
_ZONES_OF_A_REGION = 3


def over_ceiling(resources: Sequence[Resource], options: Options) -> Iterable[Finding]:
    """The pools whose cost is known must stay under the ceiling together, whatever the others turn out to cost."""
    ceiling = float(options["usdPerHour"])
    total, parts = 0.0, []
    undecided: list[Finding] = []
    for pool in _pools(resources):
        unknown = _unknown_property(pool)
        price = None if unknown else _price(pool)
        if unknown:
            undecided.append(Undecided(resource=pool.resource, field=pool.path + unknown))
        elif price is not None:
            total += most_nodes(pool) * price.usd
            parts.append(f"{pool.get('name') or pool.resource.name} {most_nodes(pool)} x {price.usd:g} of {price.source.date}")
    if total > ceiling:
        yield Violation(
            resource=None,
            field="maximum cost of all node pools",
            value=f"{total:.2f} USD an hour",
            reason=f"is above the ceiling of {ceiling:g} ({'; '.join(parts)})",
            fix="lower maxNodeCount of a pool, or raise cost-ceiling.usdPerHour in policies/STACK.json once the bill has been approved",
        )
    yield from undecided


def unpriced(resources: Sequence[Resource], options: Options) -> Iterable[Finding]:
    for pool in _pools(resources):
        if unknown := _unknown_property(pool):
            yield Undecided(resource=pool.resource, field=pool.path + unknown)
            continue
        if _price(pool) is not None:
            continue
        machine = pool.get("nodeConfig", "machineType")
        yield Violation(
            resource=pool.resource,
            field=f"{pool.path}nodeConfig.machineType",
            value=machine,
            reason=f"has no price in {region(pool)} (provisioning {provisioning(pool)}), so cost-ceiling counts its "
            f"{most_nodes(pool)} nodes as free",
            fix="add it to components/catalog/prices.py with its source",
        )


def _pools(resources: Sequence[Resource]) -> list[Pool]:
    return [pool for resource in resources for pool in pools_of(resource)]


def _unknown_property(pool: Pool) -> str | None:
    """The first property that decides the cost and is not known yet; None if all are known."""
    paths = [("nodeConfig", "machineType"), ("nodeConfig", "spot"), ("nodeConfig", "preemptible"), ("nodeLocations",)]
    if _autoscaled(pool):
        paths += [("autoscaling", "maxNodeCount"), ("autoscaling", "totalMaxNodeCount")]
        # If the total is given, the number of zones does not matter, and the other way round.
        if _positive(pool.get("autoscaling", "totalMaxNodeCount")):
            paths = [path for path in paths if path[-1] not in ("maxNodeCount", "nodeLocations")]
        elif _positive(pool.get("autoscaling", "maxNodeCount")):
            paths.pop()
    else:
        paths.append(("nodeCount",))
    # A pool inside a cluster is where the cluster is.
    if pool.get("location") is UNKNOWN or pool.resource.get("location") is UNKNOWN:
        return "location"
    return next((".".join(path) for path in paths if pool.get(*path) is UNKNOWN), None)


def most_nodes(pool: Pool) -> int:
    """How many nodes the pool may have in all its zones together."""
    if _positive(total := pool.get("autoscaling", "totalMaxNodeCount")):
        return int(total)
    if _autoscaled(pool):
        a_zone = pool.get("autoscaling", "maxNodeCount") or 0
    else:
        a_zone = pool.get("nodeCount") or pool.get("initialNodeCount") or 0
    return int(a_zone) * _zones(pool)


def _autoscaled(pool: Pool) -> bool:
    return bool(pool.get("autoscaling"))


def _positive(value: object) -> bool:
    return isinstance(value, (int, float)) and value > 0


def _location(pool: Pool) -> str:
    return str(pool.get("location") or pool.resource.get("location") or "")


def _zones(pool: Pool) -> int:
    named = pool.get("nodeLocations")
    if named:
        return len(named)
    return 1 if re.fullmatch(r".+-[a-z]", _location(pool)) else _ZONES_OF_A_REGION


def region(pool: Pool) -> str:
    return re.sub(r"-[a-z]$", "", _location(pool))


def provisioning(pool: Pool) -> Provisioning:
    if pool.get("nodeConfig", "spot") is True:
        return "spot"
    if pool.get("nodeConfig", "flexStart") is True:
        return "flex-start"
    return "preemptible" if pool.get("nodeConfig", "preemptible") is True else "on-demand"


def _price(pool: Pool) -> Price | None:
    # GKE's own default for a pool that names no machine type.
    machine = pool.get("nodeConfig", "machineType") or "e2-medium"
    count = pool.get("nodeConfig", "guestAccelerators", 0, "count")
    return node_price(str(machine), provisioning(pool), region(pool), None if count is UNKNOWN else int(count or 0))


RULES = (
    StackRule(
        name="cost-ceiling",
        description="All node pools at their largest cost no more than the stack's ceiling.",
        level="mandatory",
        because="one digit too many in maxNodeCount costs thousands a day",
        options={"usdPerHour": Option(type="number", default=12, description="The most that nodes may cost, in USD an hour.")},
        check=over_ceiling,
    ),
    StackRule(
        name="cost-is-known",
        description="Every machine of a node pool is in the price table.",
        level="advisory",
        because="a machine may be newer than the table, which is not a reason to refuse it",
        check=unpriced,
    ),
)
