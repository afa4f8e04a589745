"""What GKE's cluster autoscaler says of scale-ups: events on pods, and conditions of a ComputeClass and its priorities.

The words and the shape are those of its published source (`pkg/events`, `pkg/computeclass/history`, `pkg/computeclass/status/validator`)
and of ComputeClassStatus in GoogleCloudPlatform/compute-class-api. Left out: `resourceInfo` and the history of scaling.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from sandbox.gke.node_pool import NodePool

#: Why a node is added, as a condition's reason -> the phrase in its message.
_TRIGGERS = {"PodPending": "pending pods", "ActiveMigration": "active migration", "NodePoolMinSize": "node pool minimum size"}

Trigger = Literal["PodPending", "ActiveMigration", "NodePoolMinSize"]

#: An API server takes whole seconds.
_TIMESTAMP = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, kw_only=True)
class Backoff:
    """A pool that is left alone after a failure; `until` is of the monotonic clock, the datetimes are for people."""

    until: float
    since: datetime
    ends: datetime
    out_of_stock: bool

    @property
    def reason(self) -> str:
        return "OutOfResources" if self.out_of_stock else "InternalError"


@dataclass(frozen=True, kw_only=True)
class Growth:
    """Nodes on their way to a pool."""

    trigger: Trigger
    since: datetime


def failed_scale_up(pool: NodePool, *, out_of_stock: bool) -> str:
    """The message of the warning FailedScaleUp."""
    what = "GCE out of resources" if out_of_stock else "Internal error"
    zones = ", ".join(pool.zones)
    return f"Node scale up in zones {zones} associated with this pod failed: {what}. Pod is at risk of not being scheduled."


def not_triggered(reasons: Iterable[str]) -> str:
    """The message of the event NotTriggerScaleUp, from each pool's reason."""
    counted = ", ".join(f"{count} {reason}" for reason, count in sorted(Counter(reasons).items()))
    return f"pod didn't trigger scale-up: {counted}" if counted else "pod didn't trigger scale-up"


def priority_statuses(
    rules: Sequence[Sequence[str]], pools: Mapping[str, NodePool], backoffs: Mapping[str, Backoff], growths: Mapping[str, Growth]
) -> list[dict[str, Any]]:
    """`status.priorityStatuses` of a ComputeClass with these rules: one for each priority of which there is something to say."""
    statuses = []
    for index, names in enumerate(rules):
        conditions = []
        failed = [backoffs[name] for name in names if name in backoffs]
        if failed:
            conditions.append(_backed_off(failed[0]))
        growing = [name for name in names if name in growths and name in pools]
        if growing:
            conditions.append(_in_progress(pools[growing[0]], growths[growing[0]], len(growing)))
        if conditions:
            statuses.append({"identifier": str(index), "conditions": conditions, "resourceInfo": []})
    return statuses


def class_conditions(rules: Sequence[Sequence[str]], pools: Mapping[str, NodePool], unnamed: Sequence[str]) -> list[dict[str, Any]]:
    """`status.conditions` of a ComputeClass: at most one of a kind, and its health, which a pool that no rule names does not touch.

    conditions/nodepool_misconfigured.go (noRuleMatchingCheck), conditions/evaluator.go and validator.go (healthCondition).
    """
    conditions = []
    now = datetime.now(UTC)
    if unnamed:
        message = f"Nodepool {unnamed[0]} has an Crd label but doesn't match any priority rule."
        conditions.append(_condition("NodepoolMisconfigured", "NoRuleMatching", message, now))
    missing = [name for names in rules for name in names if name not in pools or not pools[name].autoscaled]
    if missing:
        message = f"Nodepool {missing[0]} specified by name has autoscaling disabled or doesn't exist in the cluster."
        conditions.append(_condition("CrdMisconfigured", "NodePoolNotExist", message, now))
    health = _condition("Health", "Health", "Crd is not healthy." if missing else "Crd is healthy.", now)
    return [*conditions, {**health, "status": str(not missing)}]


def timeless(condition: Mapping[str, Any]) -> dict[str, Any]:
    """A condition without its time, which stays while nothing else of it changes."""
    return {key: value for key, value in condition.items() if key != "lastTransitionTime"}


def _backed_off(backoff: Backoff) -> dict[str, Any]:
    """Never ProvisioningSuspended, which is for whole priorities: those that name node pools are not backed off as such
    (pkg/backoff/npc_backoff.go)."""
    message = (
        f"NodeProvisioning of the node pools associated with this priority failed due to the {backoff.reason} error. In "
        f"backoff until {backoff.ends:%Y-%m-%d %H:%M:%S} UTC."
    )
    return _condition("ProvisioningConstrained", backoff.reason, message, backoff.since)


def _in_progress(pool: NodePool, growth: Growth, count: int) -> dict[str, Any]:
    message = (
        f"NodeProvisioning associated with this priority triggered due to {_TRIGGERS[growth.trigger]}. {count} new nodes will "
        f"be added with config: {{MachineType: {pool.machine_type}, Zones: {', '.join(pool.zones)}}}"
    )
    return _condition("NodeProvisioningInProgress", growth.trigger, message, growth.since)


def _condition(kind: str, reason: str, message: str, since: datetime) -> dict[str, Any]:
    return {
        "type": kind,
        "status": "True",
        "reason": reason,
        "message": message,
        "lastTransitionTime": since.astimezone(UTC).strftime(_TIMESTAMP),
    }
