"""How long Google's side takes, in seconds, and the clock that runs it faster.

Each figure was seen in public notes and none was measured by this project; where the notes give a range it is
about the middle. The sandbox waits `seconds / speed`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from types import MappingProxyType

#: Operation -> seconds on Google's side.
LATENCIES = MappingProxyType(
    {
        # "5-10 min" for a regional cluster.
        "cluster_create": 450.0,
        # Unverified: no note gives one; deletion is taken to be as long as a pool's.
        "cluster_delete": 160.0,
        # "1-4 min", its nodes' joining included: this is what is left beside the nodes.
        "node_pool_create": 60.0,
        "node_pool_delete": 160.0,
        # L4: node object 38 s after the request.
        "node_join": 38.0,
        # TPU: about 10 min from request to serving, of which the server's start is 5 min 37 s.
        "tpu_node_join": 260.0,
        # Unverified: a machine that is given back.
        "node_delete": 60.0,
        # Per-rule cool-down after a stock-out, "about 5 minutes".
        "stock_out_cool_down": 300.0,
        # A refused instance: 46 s (terraform-provider-google#3304), 66 s (#10121), 71 s (k8s-config-connector#228).
        "instance_refusal": 60.0,
        # A pool's creation without stock: "retried about every 4 min and given up after 36 min".
        "node_pool_retry": 240.0,
        "node_pool_give_up": 2160.0,
        # Unverified: a TPU request that is neither filled nor refused can hold the fallback up "for as long as ten hours".
        "held_request": 36000.0,
    }
)


@dataclass(frozen=True)
class Clock:
    """The sandbox's clock: `speed` seconds of Google's pass in one of ours."""

    speed: float

    def sleep(self, operation: str) -> None:
        """Waits for what the operation of the table takes."""
        time.sleep(LATENCIES[operation] / self.speed)

    def scaled(self, seconds: float) -> float:
        return seconds / self.speed
