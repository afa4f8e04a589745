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

from typing import Any

from components.catalog.shutdown import END_SECONDS

#: Installed by the Dockerfiles; docs/images.md has its exit codes.
DRAIN_COMMAND = "/usr/local/bin/fungibility-drain"

#: In the images; the entrypoint says where.
_MIDDLEWARE = "fungibility_drain.CloseWhileDraining"


def server_arguments(*, grace_seconds: int, settle_seconds: int, server_drains: bool) -> list[str]:
    """What vLLM's command line says of the end."""
    timeout = [f"--shutdown-timeout={grace_seconds - settle_seconds - END_SECONDS}"] if server_drains else []
    return [f"--middleware={_MIDDLEWARE}", *timeout]


def lifecycle(*, grace_seconds: int, settle_seconds: int) -> dict[str, Any]:
    """A container's `lifecycle`; in a container that idles the hook is over at once."""
    return {"pre_stop": {"exec_": {"command": [DRAIN_COMMAND, str(settle_seconds), str(grace_seconds - END_SECONDS)]}}}
