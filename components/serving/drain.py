"""The end of a pod: it leaves the load balancer first, requests under way finish, and only what takes too long is cut off.

When a pod is to end, Kubernetes takes it out of the endpoints and runs its containers' preStop hooks at the same time, and
sends SIGTERM when a hook is over. vLLM aborts what is under way at SIGTERM, unless it was started with
`--shutdown-timeout=SECONDS` (0.18 and later, https://github.com/vllm-project/vllm/pull/36666): then it takes no new requests
and answers those under way, closing each connection, which also moves clients that keep theirs open. So the hook waits until
no more requests come in, and then

- for a server that drains itself, ends: the server has the rest of the grace period;
- for an older one, waits until nothing is under way.

GKE gives a pod 15 of the 30 seconds of notice on a Spot node (https://docs.cloud.google.com/kubernetes-engine/docs/concepts/spot-vms),
whatever its grace period is; both ways end by SIGTERM within it or are cut by SIGKILL at its end, the longest requests last.
Left out: requests that outlive the grace period, which a client has to repeat.
"""

from __future__ import annotations

from typing import Any

from components.catalog.shutdown import END_SECONDS

#: Installed by the Dockerfiles; docs/images.md has its exit codes.
DRAIN_COMMAND = "/usr/local/bin/fungibility-drain"


def server_arguments(*, grace_seconds: int, settle_seconds: int, server_drains: bool) -> list[str]:
    """What vLLM's command line says of the end."""
    return [f"--shutdown-timeout={grace_seconds - settle_seconds - END_SECONDS}"] if server_drains else []


def lifecycle(*, grace_seconds: int, settle_seconds: int, server_drains: bool) -> dict[str, Any]:
    """A container's `lifecycle`; in a container that idles the hook is over at once."""
    until_idle = [] if server_drains else [str(grace_seconds - END_SECONDS)]
    return {"pre_stop": {"exec_": {"command": [DRAIN_COMMAND, str(settle_seconds), *until_idle]}}}
