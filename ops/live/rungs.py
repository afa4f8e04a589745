"""The rungs of the ladder, the best first: the node pools of the ComputeClass with what GKE says of each, and their prices.

Left out: replicas and requests (`ops.live.view`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from components.catalog.node_labels import NODE_POOL_LABEL
from components.catalog.prices import node_price
from components.settings.sections import Settings
from ops.live.objects import Object, Snapshot, label

#: Reason of a ComputeClass's condition -> why a node is added, in words; as sandbox/gke/scaling_messages.py cites them.
_TRIGGERS = {
    "PodPending": "a replica waits",
    "ActiveMigration": "replicas move to a better rung",
    "NodePoolMinSize": "the pool has a minimum size",
}

_UNTIL = re.compile(r"backoff until [-\d]+ (\d\d:\d\d:\d\d) UTC")


@dataclass(frozen=True, kw_only=True)
class Pool:
    """A node pool as the settings declare it, or as its nodes show it; text that is not known is empty."""

    name: str
    machine_type: str = ""
    provisioning: str = ""
    region: str = ""
    gpus: int = 0

    @property
    def usd(self) -> float | None:
        """A node's list price an hour; None where it is not known."""
        price = node_price(self.machine_type, self.provisioning, self.region, self.gpus) if self.machine_type else None  # type: ignore[arg-type]
        return price.usd if price else None


@dataclass(frozen=True, kw_only=True)
class Rung:
    """`enabled`: whether the ComputeClass has it. `short`: that and until when GKE gets no machine; `growing`: why it adds one."""

    pool: Pool
    enabled: bool = True
    short: str = ""
    growing: str = ""

    @property
    def name(self) -> str:
        return self.pool.name


def pools_of(settings: Settings) -> tuple[Pool, ...]:
    """The accelerator pools of a stack's settings."""
    return tuple(
        Pool(
            name=each.name,
            machine_type=each.machine_type,
            provisioning=each.provisioning,
            region=settings.place.region,
            gpus=each.machine.count if each.kind == "gpu" else 0,
        )
        for each in settings.accelerators.pools
    )


def rungs(snapshot: Snapshot, declared: Sequence[Pool] = ()) -> list[Rung]:
    """In the ComputeClass's order; then pools of the settings that it leaves out, which are out of service."""
    known = {pool.name: pool for pool in declared}
    for node in snapshot.nodes:
        if (pool := _pool_of(node)).name:
            known.setdefault(pool.name, pool)
    found: list[Rung] = []
    compute_class = snapshot.compute_class
    statuses = {each.get("identifier"): each for each in (compute_class.get("status") or {}).get("priorityStatuses") or []}
    for index, priority in enumerate((compute_class.get("spec") or {}).get("priorities") or []):
        short, growing = _said(statuses.get(str(index)) or {})
        found += [Rung(pool=known.get(pool, Pool(name=pool)), short=short, growing=growing) for pool in priority.get("nodepools") or []]
    in_class = {rung.name for rung in found}
    return found + [Rung(pool=pool, enabled=False) for pool in declared if pool.name not in in_class]


def _pool_of(node: Object) -> Pool:
    provisioning = label(node, "cloud.google.com/gke-provisioning")
    return Pool(
        name=label(node, NODE_POOL_LABEL),
        machine_type=label(node, "node.kubernetes.io/instance-type"),
        provisioning="on-demand" if provisioning == "standard" else provisioning,
        region=label(node, "topology.kubernetes.io/region"),
        gpus=int((node.get("status") or {}).get("capacity", {}).get("nvidia.com/gpu", 0)),
    )


def _said(status: Object) -> tuple[str, str]:
    short = growing = ""
    for each in status.get("conditions") or []:
        if each.get("status") != "True":
            continue
        if each.get("type") == "NodeProvisioningInProgress":
            growing = _TRIGGERS.get(str(each.get("reason")), str(each.get("reason")))
        else:
            until = _UNTIL.search(str(each.get("message")))
            why = "out of stock" if each.get("reason") == "OutOfResources" else f"no node ({each.get('reason')})"
            short = f"{why}, tried again at {until[1]} UTC" if until else why
    return short, growing
