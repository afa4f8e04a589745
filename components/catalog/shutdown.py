"""How long a pod takes to end. Left out: what a pod does in that time (`components.serving.drain`)."""

from __future__ import annotations

#: How long endpoints that have changed take to reach every node (EndpointSlice, then kube-proxy or Dataplane V2) with room
#: to spare, and a third of what Spot gives.
SETTLE_SECONDS = 5

#: With `externalTrafficPolicy: Local` Google's load balancer relies on its own health checks of the node, three of 8 s each, before it
#: sends new connections elsewhere. Until then they reach this pod, the node's only one, which therefore has to keep serving.
#: https://github.com/kubernetes/ingress-gce, pkg/healthchecksl4 ("3 * 8 = 24 seconds before the LB will steer traffic away").
#: A Spot node gives less: a pod there serves for its 15 s and is cut at their end.
#: A gateway's balancer learns of a pod's end when GKE has taken it from a network endpoint group, which takes as long (unverified).
SLOW_SETTLE_SECONDS = 30

#: With a gateway a new pod gets requests when GKE has put it into a network endpoint group and Google's health check has passed, which
#: Kubernetes does not wait for (kubernetes/ingress-gce, pkg/neg/types: only Ingress has readiness gates). Until then the old pod stays.
MIN_READY_SECONDS = SLOW_SETTLE_SECONDS

#: Google's proxies keep idle connections to servers for 600 s; a server that closes one first loses the request that is on its way:
#: https://docs.cloud.google.com/load-balancing/docs/https/request-distribution. vLLM closes them after 5 s unless told otherwise.
PROXY_KEEP_ALIVE_SECONDS = 620

#: Reserved for the end itself: the server's process group, and the kubelet's own minimum of 2 s after a hook.
END_SECONDS = 5

#: The least time that is left for requests under way.
_LEAST_SECONDS = 5

#: The shortest grace period that leaves requests any time.
MIN_GRACE_SECONDS = SETTLE_SECONDS + END_SECONDS + _LEAST_SECONDS

#: GKE's cluster autoscaler gives a pod at most this (`--max-graceful-termination-sec`), however long its own grace period is.
#: https://docs.cloud.google.com/kubernetes-engine/docs/concepts/cluster-autoscaler
MAX_GRACE_SECONDS = 600


def settle_seconds(*, slow: bool) -> int:
    """Seconds for which requests still arrive after a pod's end has begun; `slow` where a load balancer of Google's decides."""
    return SLOW_SETTLE_SECONDS if slow else SETTLE_SECONDS


def least_grace_seconds(*, slow: bool) -> int:
    return settle_seconds(slow=slow) + END_SECONDS + _LEAST_SECONDS
