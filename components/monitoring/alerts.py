"""The alerts: each with its query, how long it waits, and what to do first.

Left out: who is notified (the setting `notificationChannels`), and alerts that other tools have (quota, billing).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from components.monitoring import promql
from components.monitoring.promql import Scope
from components.settings.accelerator_pool import AcceleratorPool
from components.settings.sections import MonitoringSettings

Severity = Literal["CRITICAL", "ERROR", "WARNING"]

#: How long no replica may be ready. A server's start takes longer, so a longer wait would not avoid any alert.
_NO_REPLICA_MINUTES = 5

#: How long replicas may be missing: a TPU node takes about 10 minutes to serve, and a rolling update replaces one replica after the other.
_UNAVAILABLE_MINUTES = 30

#: More than a node's passing trouble. A container that waits in vain for its device restarts every 10 minutes at last: it waits for 5, and
#: Kubernetes's pause between restarts grows to 5.
_RESTARTS = 3
_RESTART_WINDOW = "30m"

#: A managed instance group recreates a machine that somebody else has deleted:
#: https://cloud.google.com/compute/docs/instance-groups/about-repair
_REPLACE_NODE = "`gcloud compute instances delete NODE --zone ZONE`"

#: How long queues and latency may be bad: longer than a burst, and longer than a ready node needs to take its share.
_SLOW_MINUTES = 10


@dataclass(frozen=True, kw_only=True)
class Alert:
    """One alert policy with its one condition."""

    #: Name of the resource, after the component's.
    name: str
    title: str
    severity: Severity
    query: str
    #: Minutes for which the query must have results before the alert fires.
    minutes: int
    #: Markdown: what it means, and the first action.
    documentation: str
    #: The heading in docs/operate.md under which there is more.
    runbook: str


def alerts(*, scope: Scope, pools: Sequence[AcceleratorPool], settings: MonitoringSettings, fallback_after_minutes: int = 0) -> list[Alert]:
    """The alerts of a stack; the one about preemptions only if a pool can be preempted, that about the fallback timer only with one."""
    # A pool that is already out of service cannot be taken out.
    pools = [pool for pool in pools if pool.enabled]
    found = [
        Alert(
            name="no-ready-replica",
            runbook="First look",
            title="no ready replica",
            severity="CRITICAL",
            query=promql.no_ready_replica(scope),
            minutes=_NO_REPLICA_MINUTES,
            documentation=_text(
                f"No replica of Deployment `{promql.DEPLOYMENT_NAME}` on cluster {scope.cluster} has been ready for "
                f"{_NO_REPLICA_MINUTES} min, or its metrics no longer arrive: no request is answered.",
                "`kubectl get pods -l app=vllm -o wide`. **Pending** pods: see the next step. **Running** but not ready: "
                "`kubectl logs` of the container whose accelerator the node has. No pods or no metrics: does the cluster exist?",
                f"Pending because a pool is out of stock: {_take_out(pools)}.",
                "During the first `pulumi up` this is normal until the first server has started.",
            ),
        ),
        Alert(
            name="replica-pending",
            runbook="The TPU is out of stock",
            title=f"replica pending for {settings.pending_alert_minutes} min",
            severity="ERROR",
            query=promql.pending_by_pod(scope),
            minutes=settings.pending_alert_minutes,
            documentation=_text(
                f"A replica has had no node, or no image, for {settings.pending_alert_minutes} min. A TPU that is out of stock can hold "
                "the fallback up for as long as ten hours.",
                "`kubectl describe pod` names the pool in its events (`FailedScaleUp`, `GCE out of resources`, `GCE quota "
                "exceeded`), `kubectl describe computeclass` the rule.",
                f"Out of stock: {_take_out(pools)}. Quota: ask for more, or lower the pool's `maxNodeCount`.",
                "`ErrImagePull`: may the nodes' service account read the repository in `pulumi stack output images`?",
            ),
        ),
        Alert(
            name="replica-unavailable",
            runbook="A rollout that is stuck",
            title=f"replica unavailable for {_UNAVAILABLE_MINUTES} min",
            severity="ERROR",
            query=promql.unavailable_replicas(scope),
            minutes=_UNAVAILABLE_MINUTES,
            documentation=_text(
                f"Fewer replicas than wanted have answered for {_UNAVAILABLE_MINUTES} min, longer than a node and its server take to come.",
                "`kubectl get pods -l app=vllm -o wide`. **Pending**: go on with the alert of pending replicas.",
                "**Running** but not ready, or restarting: `kubectl logs POD --previous`. If pods of other nodes are well, delete its "
                f"node's machine ({_REPLACE_NODE}), whose device may be broken: the pool makes another.",
                "The same on every node: the last `pulumi up` changed the image or the arguments; take it back.",
            ),
        ),
        Alert(
            name="server-restarts",
            runbook="A server that crashes",
            title=f"a server restarted {_RESTARTS} times within {_RESTART_WINDOW}",
            severity="ERROR",
            query=f"{promql.restarts_by_pod(scope, _RESTART_WINDOW)} >= {_RESTARTS}",
            minutes=0,
            documentation=_text(
                f"A container has ended {_RESTARTS} times or more within {_RESTART_WINDOW}. Kubernetes starts it again on the same node "
                "for ever, also when the node's GPU or TPU is broken.",
                "`kubectl logs POD --previous`. A lost device (`Xid` errors, *fallen off the bus*, `gives up` of the entrypoint): "
                f"{_REPLACE_NODE}; the pool makes another, and the pod moves.",
                "Out of memory, or a refused argument: correct the setting and `pulumi up`.",
            ),
        ),
        Alert(
            name="requests-waiting",
            runbook="Autoscaling",
            title=f"more than {settings.waiting_alert_requests} requests wait",
            severity="WARNING",
            query=f"{promql.waiting_requests(scope)} > {settings.waiting_alert_requests}",
            minutes=_SLOW_MINUTES,
            documentation=_text(
                f"More than {settings.waiting_alert_requests} requests have waited in the servers' queues for {_SLOW_MINUTES} min.",
                "The dashboard: are as many replicas ready as wanted, and on which pool? Replicas on a lower pool answer fewer requests.",
                "All ready and on the best pool: more `replicas`, or `maxReplicas` if an autoscaler sets the number (and "
                "`maxNodeCount` of the first pools).",
                "Fewer ready than wanted: continue with the alert about pending replicas.",
            ),
        ),
        Alert(
            name="first-token-slow",
            runbook="Autoscaling",
            title=f"first token takes more than {settings.first_token_alert_seconds} s",
            severity="WARNING",
            query=f"{promql.time_to_first_token(scope, 0.95)} > {settings.first_token_alert_seconds}",
            minutes=_SLOW_MINUTES,
            documentation=_text(
                f"One request in twenty has waited longer than {settings.first_token_alert_seconds} s for its first token, "
                f"for {_SLOW_MINUTES} min.",
                "The dashboard: do requests wait (then more replicas), or are replicas on a lower pool than usual?",
                "Neither: longer prompts than usual, or a server that compiles for new shapes; `kubectl logs` shows it.",
            ),
        ),
    ]
    if fallback_after_minutes:
        found.append(
            Alert(
                name="pool-passed-over",
                runbook="The TPU is out of stock",
                title="a pool without machines is passed over",
                severity="WARNING",
                query=promql.pools_passed_over(scope),
                minutes=0,
                documentation=_text(
                    f"A replica waited for {fallback_after_minutes} min (`fallbackAfterMinutes`), so placeholder pods of namespace "
                    "`fallback-timer` took the places of the pool that is tried first, and replicas come up on the pools after it.",
                    "`kubectl logs -n fallback-timer deploy/fallback-timer` says when. The pool is tried again once it gets a machine.",
                    f"For days: {_take_out(pools)}.",
                ),
            )
        )
    preemptible = [pool.name for pool in pools if pool.taken_back]
    if preemptible:
        query = promql.preemptions_by_pool(scope, preemptible, "1h")
        found.append(
            Alert(
                name="preemptions",
                runbook="Preemption",
                title=f"{settings.preemption_alert_count} nodes preempted within an hour",
                severity="WARNING",
                query=f"{query} >= {settings.preemption_alert_count}",
                minutes=0,
                documentation=_text(
                    f"Google has taken back {settings.preemption_alert_count} or more nodes of one of the pools {', '.join(preemptible)} "
                    "within an hour. Single preemptions are normal; that many mean that replicas spend their time starting.",
                    f"Until it is quieter there: {_take_out(pools, preemptible)}. Its replicas move to the pools after it.",
                    "Often: another zone (`zones`) or another machine type for that pool.",
                ),
            )
        )
    return found


def _take_out(pools: Sequence[AcceleratorPool], names: Sequence[str] | None = None) -> str:
    """How to take a pool out of service, with one pool's name as an example."""
    name = (names or [pool.name for pool in pools])[0]
    return (
        f"take the pool out of service with `enabled: false` in its entry of `acceleratorPools` (such as `{name}`) and "
        "`pulumi up`, which replaces and deletes nothing"
    )


def _text(meaning: str, *steps: str) -> str:
    return "\n".join(
        ["## What it means", meaning, "", "## What to do first", *(f"{number}. {step}" for number, step in enumerate(steps, start=1))]
    )
