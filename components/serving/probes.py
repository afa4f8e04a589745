"""The probes of a vLLM container: when it is started, when it takes traffic, and when it is beyond help.

All by the health command of the image, to which an idle container is healthy, so that a pod is ready when the one that serves is.
An HTTP probe of /health would be cheaper, and miss a server whose engine hangs: vLLM answers 200 for as long as the engine's
process lives (images/fungibility-health says how the command sees it). Left out: draining at the end of a pod (`drain`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

#: Installed by the Dockerfiles; `ready` also wants the role to be known (docs/images.md has its exit codes).
HEALTH_COMMAND = "/usr/local/bin/fungibility-health"

#: The health command itself gives a server 5 seconds and its engine 3 for a token; the rest is for the command, which has to end
#: by itself: what a probe that is cut off leaves behind stays until the container ends.
_TIMEOUT_SECONDS = 10

_STARTUP_PERIOD_SECONDS = 5

#: The preStop hook's wait, and a little.
_DEAD_GRACE_SECONDS = 10


def container_probes(*, startup_seconds: int) -> dict[str, Any]:
    """`startup_probe`, `readiness_probe` and `liveness_probe`.

    Until the start is over the other two do not run, so its limit can be long (a TPU server compiles for minutes) while a
    server that was up and died is found within a minute (`seconds_to_notice`).
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
            # A server that does not answer finishes nothing, so there is nothing to wait for.
            "termination_grace_period_seconds": _DEAD_GRACE_SECONDS,
            # A busy server may be slow for a while, and a restart costs minutes.
            "failure_threshold": 5,
        },
    }


def seconds_to_notice(probe: Mapping[str, Any], *, answer_seconds: float) -> float:
    """How long a probe needs at most to act on a container that fails it; `answer_seconds` is what a failing attempt takes.

    The kubelet begins an attempt a period after it began the last one, or when that one is over if that is later.
    https://github.com/kubernetes/kubernetes, pkg/kubelet/prober/worker.go
    """
    between = max(probe["period_seconds"], answer_seconds)
    return float(probe["period_seconds"] + between * (probe["failure_threshold"] - 1) + answer_seconds)
