"""The probes of a vLLM container: when it is started, when it takes traffic, and when it is beyond help.

Both containers of a pod share its network, so both are ready when the one server is; started and alive is each for itself,
by the health command of the image, to which an idle container is healthy. Left out: draining at the end of a pod (`drain`).
"""

from __future__ import annotations

import math
from typing import Any

#: Installed by the Dockerfiles; `ready` also wants the role to be known (docs/images.md has its exit codes).
HEALTH_COMMAND = "/usr/local/bin/fungibility-health"

#: The health command itself gives a server 5 seconds; the rest is for the command.
_TIMEOUT_SECONDS = 7

_STARTUP_PERIOD_SECONDS = 5

#: The preStop hook's wait, and a little.
_DEAD_GRACE_SECONDS = 10


def container_probes(*, server_port: int, startup_seconds: int) -> dict[str, Any]:
    """`startup_probe`, `readiness_probe` and `liveness_probe`.

    Until the start is over the other two do not run, so its limit can be long (a TPU server compiles for minutes) while a
    server that was up and died is found within a minute.
    """
    return {
        "startup_probe": {
            "exec_": {"command": [HEALTH_COMMAND, "ready"]},
            "period_seconds": _STARTUP_PERIOD_SECONDS,
            "timeout_seconds": _TIMEOUT_SECONDS,
            "failure_threshold": math.ceil(startup_seconds / _STARTUP_PERIOD_SECONDS),
        },
        "readiness_probe": {
            "http_get": {"path": "/health", "port": server_port},
            "period_seconds": 5,
            "timeout_seconds": 5,
            "failure_threshold": 2,
        },
        "liveness_probe": {
            "exec_": {"command": [HEALTH_COMMAND, "live"]},
            "period_seconds": 10,
            "timeout_seconds": _TIMEOUT_SECONDS,
            # A server that does not answer finishes nothing, so there is nothing to wait for.
            "termination_grace_period_seconds": _DEAD_GRACE_SECONDS,
            # A busy server may be slow for a while, and a restart costs minutes.
            "failure_threshold": 5,
        },
    }
