"""The disruption budget: moves and drains affect one replica at a time, and the last one stays.

`kubectl drain`, node upgrades, the cluster autoscaler and active migration respect it, all through the eviction API. A pool's
deletion, the preemption of a Spot node and an update (whose order `surgeOnUpdate` decides) do not.
"""

from __future__ import annotations

from typing import Any


def disruption_budget_spec(*, labels: dict[str, str], least_replicas: int, autoscaled: bool, keep_last: bool) -> Any:
    """`spec` of the PodDisruptionBudget for a server that never has fewer replicas than `least_replicas`.

    With two or more replicas one at a time may go, so the last one always stays. A single replica is a choice, since an eviction
    removes a pod before its successor exists: `keep_last` refuses the eviction (`kubectl rollout restart` moves the replica and
    starts the new pod first); otherwise the replica moves, and nothing serves while its server starts. If an autoscaler may add to
    that one, half of them may go at a time; Kubernetes rounds the other half up, so that one stays.
    """
    allowed: dict[str, int | str] = {"max_unavailable": 1}
    if keep_last and least_replicas == 1:
        allowed = {"min_available": "50%" if autoscaled else 1}
    return {
        **allowed,
        "selector": {"match_labels": labels},
        # A pod that is not ready serves no requests; a budget that protected it would block a drain for good.
        # https://kubernetes.io/docs/tasks/run-application/configure-pdb/#unhealthy-pod-eviction-policy
        "unhealthy_pod_eviction_policy": "AlwaysAllow",
    }


def disruption_budget_name(deployment: str, spec: dict[str, Any]) -> str:
    """A different name for each of the two fields, of which a budget may have one, so that a change between them makes a new budget.

    The server-side dry run in a preview would see both fields at once and refuse the change.
    """
    return deployment if "max_unavailable" in spec else f"{deployment}-keep-last"
