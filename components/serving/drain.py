"""The end of a pod: it leaves the load balancer first, requests under way finish, and only what takes too long is cut off.

When a pod is to end, Kubernetes takes it out of the endpoints and runs its containers' preStop hooks at the same time, and
sends SIGTERM when a hook is over. vLLM aborts what is under way at SIGTERM, unless it was started with
`--shutdown-timeout=SECONDS` (0.18 and later, https://github.com/vllm-project/vllm/pull/36666). Then it finishes that, but it goes on to
listen and answers every new request with HTTP 500, and closes no connection, so that a client which keeps its own open loses what it
sends. Therefore everything is done before SIGTERM: the hook has the server close each connection with its next answer
(images/fungibility_drain.py, which the server is given as `--middleware`), waits until no more requests come in, and then until nothing is
under way. `--shutdown-timeout` is for what is under way when the hook's limit has passed, and for a server that has no metrics to tell.

GKE gives a pod 15 of the 30 seconds of notice on a Spot node (https://docs.cloud.google.com/kubernetes-engine/docs/concepts/spot-vms),
whatever its grace period is, and ends it by SIGKILL.
Left out: requests that outlive the grace period, which a client has to repeat.
"""

from __future__ import annotations

import re
from typing import Any

#: Installed by the Dockerfiles; docs/images.md has its exit codes.
DRAIN_COMMAND = "/usr/local/bin/fungibility-drain"

#: In the images; the entrypoint says where.
_MIDDLEWARE = "fungibility_drain.CloseWhileDraining"

#: How long endpoints that have changed take to reach every node (EndpointSlice, then kube-proxy or Dataplane V2) with room
#: to spare, and a third of what Spot gives.
SETTLE_SECONDS = 5

#: With `externalTrafficPolicy: Local` Google's load balancer goes by its own health checks of the node, three of 8 s each, before it
#: sends new connections elsewhere; until then they come to this pod, the node's only one, which therefore has to go on serving.
#: https://github.com/kubernetes/ingress-gce, pkg/healthchecksl4 ("3 * 8 = 24 seconds before the LB will steer traffic away").
#: It is more than a Spot node gives: a pod there serves through its 15 s and is cut at their end.
LOCAL_SETTLE_SECONDS = 30

#: What is kept for the end itself: the server's process group, and the kubelet's own least grace of 2 s after a hook.
_END_SECONDS = 5

#: The least that is left for requests under way.
_LEAST_SECONDS = 5

#: The shortest grace period that leaves requests any time.
MIN_GRACE_SECONDS = SETTLE_SECONDS + _END_SECONDS + _LEAST_SECONDS

#: GKE's cluster autoscaler gives a pod no more (`--max-graceful-termination-sec`), however long its own grace period is.
#: https://docs.cloud.google.com/kubernetes-engine/docs/concepts/cluster-autoscaler
MAX_GRACE_SECONDS = 600

#: The first release with `--shutdown-timeout`.
SHUTDOWN_TIMEOUT_SINCE = (0, 18)


def settle_seconds(*, local_traffic: bool) -> int:
    """How long requests still come in after a pod's end has begun; `local_traffic` for `externalTrafficPolicy: Local`."""
    return LOCAL_SETTLE_SECONDS if local_traffic else SETTLE_SECONDS


def least_grace_seconds(*, local_traffic: bool) -> int:
    return settle_seconds(local_traffic=local_traffic) + _END_SECONDS + _LEAST_SECONDS


def server_arguments(*, grace_seconds: int, settle_seconds: int, server_drains: bool) -> list[str]:
    """What vLLM's command line says of the end."""
    timeout = [f"--shutdown-timeout={grace_seconds - settle_seconds - _END_SECONDS}"] if server_drains else []
    return [f"--middleware={_MIDDLEWARE}", *timeout]


def lifecycle(*, grace_seconds: int, settle_seconds: int) -> dict[str, Any]:
    """A container's `lifecycle`; in a container that idles the hook is over at once."""
    return {"pre_stop": {"exec_": {"command": [DRAIN_COMMAND, str(settle_seconds), str(grace_seconds - _END_SECONDS)]}}}


def knows_shutdown_timeout(image: str) -> bool | None:
    """Whether vLLM in an image has `--shutdown-timeout`, by the image's tag; None for a tag that is no release."""
    match = re.search(r":v(\d+)\.(\d+)[^/]*$", image.partition("@")[0])
    return None if match is None else (int(match[1]), int(match[2])) >= SHUTDOWN_TIMEOUT_SINCE
