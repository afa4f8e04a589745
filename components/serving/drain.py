"""The end of a pod: it leaves the load balancer first, requests under way finish, and only what takes too long is cut off.

When a pod has to end, Kubernetes removes it from the endpoints and at the same time runs its containers' preStop hooks, and sends
SIGTERM when a hook is over. vLLM aborts requests under way at SIGTERM, unless it was started with `--shutdown-timeout=SECONDS` (0.18 and
later, https://github.com/vllm-project/vllm/pull/36666). Then it finishes them, but it keeps listening, answers every new request with
HTTP 500 and closes no connection, so a client that keeps its connection open loses what it sends. Therefore everything happens before
SIGTERM: the hook makes the server close each connection with its next answer (images/fungibility_drain.py, the server's `--middleware`),
waits until no more requests arrive, and then until none has been under way for as long as the server keeps an idle connection.
`--shutdown-timeout` covers requests that are still under way at the hook's limit, and servers without metrics.

GKE gives a pod 15 of the 30 seconds of notice on a Spot node (https://docs.cloud.google.com/kubernetes-engine/docs/concepts/spot-vms),
whatever its grace period is, and ends it by SIGKILL.
Left out: requests that outlive the grace period, which a client has to repeat.
"""

from __future__ import annotations

from typing import Any

from components.catalog.shutdown import END_SECONDS

#: Installed by the Dockerfiles; docs/images.md has its exit codes.
DRAIN_COMMAND = "/usr/local/bin/fungibility-drain"

#: Its place in the images is set by the entrypoint.
_MIDDLEWARE = "fungibility_drain.CloseWhileDraining"


def server_arguments(*, grace_seconds: int, settle_seconds: int, server_drains: bool) -> list[str]:
    """Arguments of vLLM's server about its shutdown."""
    timeout = [f"--shutdown-timeout={grace_seconds - settle_seconds - END_SECONDS}"] if server_drains else []
    return [f"--middleware={_MIDDLEWARE}", *timeout]


def lifecycle(*, grace_seconds: int, settle_seconds: int) -> dict[str, Any]:
    """A container's `lifecycle`; in an idle container the hook ends at once."""
    return {"pre_stop": {"exec_": {"command": [DRAIN_COMMAND, str(settle_seconds), str(grace_seconds - END_SECONDS)]}}}
