"""The probes of a vLLM container: whether it has started, takes traffic, or has to be restarted.

All of them run the image's health command. For it an idle container is healthy, so a pod is ready when the serving container is.
An HTTP probe of /health would be cheaper but would miss a server whose engine hangs: vLLM answers 200 while the engine's process
lives (images/fungibility-health says how the command detects it). Left out: draining at the end of a pod (`drain`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

#: Installed by the Dockerfiles; `ready` also wants the role to be known (docs/images.md has its exit codes).
HEALTH_COMMAND = "/usr/local/bin/fungibility-health"

#: The health command itself allows a server 5 seconds and its engine 3 for a token; the rest is for the command, which has to end
#: by itself, since processes of a probe that is cut off stay until the container ends.
_TIMEOUT_SECONDS = 10

_STARTUP_PERIOD_SECONDS = 5

#: The most requests for one token that the health command sends an idle server (HEALTH_IDLE_SECONDS of images/fungibility-health). vLLM's
#: metrics count them as anybody's: 3 tokens a minute, and a running request for some milliseconds of it.
IDLE_REQUESTS_PER_SECOND = 1 / 20

#: The preStop hook's wait, and some margin.
_DEAD_GRACE_SECONDS = 10


def container_probes(*, startup_seconds: int) -> dict[str, Any]:
    """`startup_probe`, `readiness_probe` and `liveness_probe`.

    The other two do not run until the start is over, so its limit can be long (a TPU server compiles for minutes) while a
    server that dies later is detected within a minute (`seconds_to_notice`).
    """
    return {
        "startup_probe": {
            "exec_": {"command": [HEALTH_COMMAND, "ready"]},
            "period_seconds": _STARTUP_PERIOD_SECONDS,
            "timeout_seconds": _TIMEOUT_SECONDS,
            "failure_threshold": math.ceil(startup_seconds / _STARTUP_PERIOD_SECONDS),
        },
        "readiness_probe": {
            "exec_": {"command": [HEALTH_COMMAND, "ready"]},
            "period_seconds": 5,
            "timeout_seconds": _TIMEOUT_SECONDS,
            "failure_threshold": 2,
        },
        "liveness_probe": {
            "exec_": {"command": [HEALTH_COMMAND, "live"]},
            "period_seconds": 10,
            "timeout_seconds": _TIMEOUT_SECONDS,
            # A server that does not answer finishes no request, so there is nothing to wait for.
            "termination_grace_period_seconds": _DEAD_GRACE_SECONDS,
            # A busy server may be slow for a while, and a restart costs minutes.
            "failure_threshold": 5,
        },
    }


def seconds_to_notice(probe: Mapping[str, Any], *, answer_seconds: float) -> float:
    """The most seconds until a probe acts on a container that fails it; `answer_seconds` is what a failing attempt takes.

    The kubelet begins an attempt one period after the start of the last one, or after its end if that is later.
    https://github.com/kubernetes/kubernetes, pkg/kubelet/prober/worker.go
    """
    between = max(probe["period_seconds"], answer_seconds)
    return float(probe["period_seconds"] + between * (probe["failure_threshold"] - 1) + answer_seconds)
