"""What Kubernetes's objects say of a replica, a node and a rung: functions of one object, as the API has it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from components.catalog.node_labels import COMPUTE_CLASS_LABEL, NODE_POOL_LABEL, SYSTEM_POOL_NAME

Object = Mapping[str, Any]

#: The way of a replica; `failing` served before and does not now, `ended` is a record of a pod whose processes are gone.
State = Literal["pending", "starting", "serving", "failing", "draining", "ended"]

#: https://docs.cloud.google.com/kubernetes-engine/docs/concepts/spot-vms: before a Spot machine goes.
_GOING_TAINT = "cloud.google.com/impending-node-termination"


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A cluster at one moment. `pods` are the Deployment's; `events` are those of its namespace, the oldest first."""

    nodes: tuple[Object, ...] = ()
    pods: tuple[Object, ...] = ()
    events: tuple[Object, ...] = ()
    classes: tuple[Object, ...] = ()
    deployment: Object = field(default_factory=dict)

    @property
    def compute_class(self) -> Object:
        """The ComputeClass that the Deployment asks for; empty if it is not there."""
        spec = ((self.deployment.get("spec") or {}).get("template") or {}).get("spec") or {}
        wanted = (spec.get("nodeSelector") or {}).get(COMPUTE_CLASS_LABEL)
        return next((each for each in self.classes if name(each) == wanted), {})

    @property
    def pools_by_node(self) -> dict[str, str]:
        """Node -> its accelerator pool."""
        return {name(node): pool for node in self.nodes if (pool := label(node, NODE_POOL_LABEL)) not in ("", SYSTEM_POOL_NAME)}


def name(item: Object) -> str:
    return str(item["metadata"]["name"])


def short(item_name: str) -> str:
    """The last part of a generated name, which is enough for a person to tell replicas or nodes apart."""
    return item_name.rpartition("-")[2]


def label(item: Object, key: str) -> str:
    return str((item["metadata"].get("labels") or {}).get(key, ""))


def seconds(timestamp: str | None) -> float | None:
    """Seconds since 1970 of a timestamp of the API."""
    return datetime.fromisoformat(timestamp.replace("Z", "+00:00")).timestamp() if timestamp else None


def condition(item: Object, kind: str) -> Object:
    conditions: Iterable[Object] = (item.get("status") or {}).get("conditions") or []
    return next((each for each in conditions if each.get("type") == kind), {})


def is_ready(item: Object) -> bool:
    return condition(item, "Ready").get("status") == "True"


def is_going(node: Object) -> bool:
    """Whether its machine is being taken back."""
    return any(taint.get("key") == _GOING_TAINT for taint in (node.get("spec") or {}).get("taints") or [])


def state(pod: Object, *, served: bool, going: bool) -> State:
    """`served`: whether it was seen to serve before; `going`: whether its node is being taken back."""
    if (pod.get("status") or {}).get("phase") in ("Failed", "Succeeded"):
        return "ended"
    if pod["metadata"].get("deletionTimestamp") or (served and going):
        return "draining"
    if is_ready(pod):
        return "serving"
    if not pod["spec"].get("nodeName"):
        return "pending"
    return "failing" if served else "starting"


def way(pod: Object) -> list[tuple[State, float]]:
    """The states that the object itself tells of, with the time of each, for a pod that was not watched from its start."""
    made = seconds(pod["metadata"].get("creationTimestamp")) or 0.0
    steps: list[tuple[State, float | None]] = [("pending", made)]
    if pod["spec"].get("nodeName"):
        steps.append(("starting", seconds(condition(pod, "PodScheduled").get("lastTransitionTime"))))
    if is_ready(pod):
        steps.append(("serving", seconds(condition(pod, "Ready").get("lastTransitionTime"))))
    if ending := seconds(pod["metadata"].get("deletionTimestamp")):
        # The API gives the time when its grace is over.
        steps.append(("draining", ending - (pod["metadata"].get("deletionGracePeriodSeconds") or 0)))
    if state(pod, served=False, going=False) == "ended":
        steps.append(("ended", seconds(condition(pod, "Ready").get("lastTransitionTime"))))
    return [(step, when) for step, when in steps if when is not None]
