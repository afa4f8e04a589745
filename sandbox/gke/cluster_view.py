"""What the autoscaler sees of a cluster in one look: ComputeClasses, nodes and pods, as plain API objects. Left out: what it decides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from components.catalog.node_labels import COMPUTE_CLASS_LABEL

#: GKE's default of `autoscalingPolicy.consolidationDelayMinutes`.
CONSOLIDATION_DELAY_MINUTES = 10


@dataclass(frozen=True, kw_only=True)
class ComputeClassRules:
    """What the loop needs of a ComputeClass: node pools by rule, best first."""

    name: str
    rules: tuple[tuple[str, ...], ...]
    active_migration: bool
    consolidation_delay_seconds: float
    #: The object's own, since another class may come by the same name.
    uid: str = ""

    @classmethod
    def from_object(cls, body: dict[str, Any]) -> ComputeClassRules:
        spec = body["spec"]
        minutes = (spec.get("autoscalingPolicy") or {}).get("consolidationDelayMinutes", CONSOLIDATION_DELAY_MINUTES)
        return cls(
            name=body["metadata"]["name"],
            rules=tuple(tuple(rule.get("nodepools") or ()) for rule in spec.get("priorities") or ()),
            active_migration=bool((spec.get("activeMigration") or {}).get("optimizeRulePriority")),
            consolidation_delay_seconds=minutes * 60.0,
            uid=body["metadata"].get("uid", ""),
        )

    def rank(self, pool: str) -> int | None:
        """The index of the pool's rule, 0 the best; None for a pool that no rule names."""
        return self._ranks.get(pool)

    @cached_property
    def _ranks(self) -> dict[str, int]:
        """Looked up for every pool in every round."""
        # Backwards, so that the best of several rules stays.
        return {pool: index for index, pools in reversed(list(enumerate(self.rules))) for pool in pools}


def fits(pod: dict[str, Any], labels: dict[str, str], taints: Iterable[dict[str, str]], resources: Mapping[str, str]) -> bool:
    """Whether a new, empty node with these labels, taints and resources would take the pod; of its size only the devices count."""
    spec = pod["spec"]
    if any(count > int(resources.get(name, 0)) for name, count in device_requests(pod).items()):
        return False
    if any(labels.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
        return False
    required = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get("requiredDuringSchedulingIgnoredDuringExecution")
    if required and not any(_term_matches(term, labels) for term in required["nodeSelectorTerms"]):
        return False
    tolerations = spec.get("tolerations") or []
    return all(
        any(_tolerates(toleration, taint) for toleration in tolerations) for taint in taints if taint["effect"] != "PreferNoSchedule"
    )


def device_requests(pod: Mapping[str, Any]) -> Counter[str]:
    """How many of each extended resource (a name with a domain) the pod requests."""
    asked: Counter[str] = Counter()
    for container in pod["spec"].get("containers") or []:
        requests = (container.get("resources") or {}).get("requests") or {}
        asked.update({name: int(count) for name, count in requests.items() if "/" in name})
    return asked


def _tolerates(toleration: dict[str, str], taint: dict[str, str]) -> bool:
    if toleration.get("effect") not in (None, "", taint["effect"]):
        return False
    if not toleration.get("key"):
        return toleration.get("operator") == "Exists"
    if toleration["key"] != taint["key"]:
        return False
    return toleration.get("operator") == "Exists" or toleration.get("value", "") == taint.get("value", "")


def _term_matches(term: dict[str, Any], labels: dict[str, str]) -> bool:
    """Evaluates the operators that this project's program uses."""
    return all(
        (labels.get(each["key"]) in each["values"]) is {"In": True, "NotIn": False}[each["operator"]]
        for each in term.get("matchExpressions") or []
    )


@dataclass(frozen=True)
class Snapshot:
    """One look at the cluster: plain API objects."""

    classes: tuple[ComputeClassRules, ...]
    nodes: dict[str, dict[str, Any]]
    pods: tuple[dict[str, Any], ...]

    def pods_on(self, node: str) -> list[dict[str, Any]]:
        return [pod for pod in self.pods if pod["spec"].get("nodeName") == node]

    def pending(self, class_name: str) -> list[dict[str, Any]]:
        return [
            pod
            for pod in self.pods
            if not pod["spec"].get("nodeName") and not pod["metadata"].get("deletionTimestamp") and class_of(pod) == class_name
        ]

    def is_usable(self, node: str) -> bool:
        """Ready and schedulable."""
        body = self.nodes.get(node)
        if body is None or body["spec"].get("unschedulable"):
            return False
        conditions = (body.get("status") or {}).get("conditions") or []
        return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)

    def is_free(self, node: str) -> bool:
        """Usable, and no pod on it, not even one that is ending."""
        return self.is_usable(node) and not self.pods_on(node)


def class_of(pod: dict[str, Any]) -> str | None:
    return (pod["spec"].get("nodeSelector") or {}).get(COMPUTE_CLASS_LABEL)


def priority_of(pod: dict[str, Any]) -> int:
    return int(pod["spec"].get("priority") or 0)


def is_unschedulable(pod: dict[str, Any]) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(
        each["type"] == "PodScheduled" and each["status"] == "False" and each.get("reason") == "Unschedulable" for each in conditions
    )


def is_settled(pod: dict[str, Any]) -> bool:
    """Placed, ready, and not on its way out."""
    if pod["metadata"].get("deletionTimestamp") or not pod["spec"].get("nodeName"):
        return False
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
