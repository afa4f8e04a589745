"""The disruption budget: moves and drains go on one replica at a time, and the last one stays.

What asks it: `kubectl drain`, node upgrades, the cluster autoscaler, and active migration, all through the eviction API. What
does not: a pool's deletion, preemption of a Spot node, a rolling update (which brings the new pod first).
"""

from __future__ import annotations

from typing import Any


def disruption_budget_spec(*, labels: dict[str, str], least_replicas: int, autoscaled: bool, keep_last: bool) -> Any:
    """`spec` of the PodDisruptionBudget for a server that never has fewer replicas than `least_replicas`.

    From two replicas on, one at a time may go, so that the last stays by itself. For a single replica there is a choice, since an
    eviction takes a pod before its successor is there: `keep_last` refuses the eviction (it moves by `kubectl rollout restart`,
    which brings the new pod first), otherwise the replica moves and nothing serves for as long as a server starts. Where an
    autoscaler may make more of that one, half of them may go at a time; Kubernetes rounds the other half up, so that one stays.
    """
    allowed: dict[str, int | str] = {"max_unavailable": 1}
    if keep_last and least_replicas == 1:
        allowed = {"min_available": "50%" if autoscaled else 1}
    return {
        **allowed,
        "selector": {"match_labels": labels},
        # A pod that is not ready serves nobody; a budget that protected it would block a drain for good.
        # https://kubernetes.io/docs/tasks/run-application/configure-pdb/#unhealthy-pod-eviction-policy
        "unhealthy_pod_eviction_policy": "AlwaysAllow",
    }


def disruption_budget_name(deployment: str, spec: dict[str, Any]) -> str:
    """Another name for the other of the two fields, of which a budget may have one: a change between them makes a new budget.

    A server-side dry run of the change, which a preview is, would see both fields at once and refuse it.
    """
    return deployment if "max_unavailable" in spec else f"{deployment}-keep-last"
