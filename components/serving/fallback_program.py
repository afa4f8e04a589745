"""The fallback timer's program: what runs in its pod, by Python's standard library alone.

Replicas that have found no node for too long are let go from the best pool of the ladder that is left. Two things keep them there: the
ComputeClass, whose priorities name the pool, and a node that the autoscaler still expects of it, on which they would fit. So the program
takes the pool out of the class, and puts a placeholder pod of a higher priority in every place of the pool. The pool comes back when a
placeholder has found its node, or after half an hour. The placeholders are all that it remembers.
"""

from __future__ import annotations

import json
import os
import signal
import ssl
import sys
import threading
import time
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

#: Label of a placeholder: the pool whose place it takes.
HOLDS = "fungibility-holds"

#: How long a pool stays out without a sign of its machines; as long as the autoscaler's own longest back-off.
OUT_SECONDS = 1800.0

_LOOK_SECONDS = 10.0
_FIELD_MANAGER = "fallback-timer"

Object = Mapping[str, Any]


@dataclass(frozen=True)
class Decision:
    """What to do now. `priorities` are names of pools, the best first; never empty."""

    priorities: Sequence[str]
    comes_back: Sequence[str] = ()
    #: To be held by placeholders from now on.
    held: str | None = None


def decide(
    now: float, *, pools: Sequence[str], replicas: Iterable[Object], holds: Iterable[Object], after: float, out: float, since: float
) -> Decision:
    """`pools`: the whole ladder, the best first; its last one is never taken out. Times are seconds since the epoch.

    `after`: seconds that a replica may wait. `out`: seconds that a pool stays out. `since`: when the class was last changed.
    """
    placed, oldest = set(), dict[str, float]()
    for hold in holds:
        pool = hold["metadata"]["labels"][HOLDS]
        oldest[pool] = min(_seconds(hold["metadata"]["creationTimestamp"]), oldest.get(pool, now))
        if hold["spec"].get("nodeName"):
            placed.add(pool)
    back = [pool for pool, created in oldest.items() if pool in placed or now - created >= out or pool not in pools[:-1]]
    left = [pool for pool in pools if pool not in oldest or pool in back]
    waits = any(now - max(waiting_since, since) >= after for each in replicas if (waiting_since := _waiting_since(each)) is not None)
    if waits and not back and len(left) > 1:
        return Decision(left[1:], held=left[0])
    return Decision(left, comes_back=back)


def _waiting_since(pod: Object) -> float | None:
    """Since when the scheduler has found no node for the pod; None for one that has a node or is ending."""
    if pod["metadata"].get("deletionTimestamp") or pod["spec"].get("nodeName"):
        return None
    for each in pod.get("status", {}).get("conditions") or []:
        if (each["type"], each["status"], each.get("reason")) == ("PodScheduled", "False", "Unschedulable"):
            return _seconds(each["lastTransitionTime"])
    return None


def _seconds(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp.replace("Z", "+00:00")).timestamp()


class Cluster:
    """The API server, as the pod's service account."""

    def __init__(self, config: Object) -> None:
        self._config = config
        self._folder = os.environ.get("FUNGIBILITY_SERVICE_ACCOUNT_DIR", "/var/run/secrets/kubernetes.io/serviceaccount")
        self._server = f"https://{os.environ['KUBERNETES_SERVICE_HOST']}:{os.environ['KUBERNETES_SERVICE_PORT']}"
        self._tls = ssl.create_default_context(cafile=f"{self._folder}/ca.crt")
        self._class = f"/apis/cloud.google.com/v1/computeclasses/{config['class']}"
        self._holds = f"/api/v1/namespaces/{config['ownNamespace']}/pods"

    def replicas(self) -> list[Object]:
        return self._list(f"/api/v1/namespaces/{self._config['namespace']}/pods?labelSelector={self._config['selector']}")

    def holds(self) -> list[Object]:
        return self._list(f"{self._holds}?labelSelector={HOLDS}")

    def set_priorities(self, pools: Sequence[str]) -> bool:
        """Whether the class said something else before."""
        wanted = [{"nodepools": [pool]} for pool in pools]
        if self._call("GET", self._class)["spec"]["priorities"] == wanted:
            return False
        self._call(
            "PATCH", f"{self._class}?fieldManager={_FIELD_MANAGER}", {"spec": {"priorities": wanted}}, "application/merge-patch+json"
        )
        return True

    def hold(self, pool: str) -> None:
        """As many placeholders as the pool may have nodes: one for every node that the autoscaler may expect."""
        for _ in range(self._config["pools"][pool]):
            self._call("POST", self._holds, self._config["placeholders"][pool])

    def let_go(self, pool: str) -> None:
        self._call("DELETE", f"{self._holds}?labelSelector={HOLDS}%3D{pool}")

    def _list(self, path: str) -> list[Object]:
        return list(self._call("GET", path)["items"])

    def _call(self, method: str, path: str, body: Object | None = None, content_type: str = "application/json") -> dict[str, Any]:
        with open(f"{self._folder}/token") as token:  # read each time, since the kubelet renews it
            headers = {"Authorization": f"Bearer {token.read().strip()}", "Content-Type": content_type}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._server + path, data=data, headers=headers, method=method)  # noqa: S310 - https above
        with urllib.request.urlopen(request, timeout=30, context=self._tls) as answer:  # noqa: S310
            return dict(json.load(answer))


def main(config: Object) -> None:
    """Looks until it is told to end. The class then gets its whole ladder back, since nothing might watch over it from now on."""
    cluster, ended = Cluster(config), threading.Event()
    speed = float(os.environ.get("FUNGIBILITY_CLOCK_SPEED", "1"))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    # An earlier run may have changed it just now.
    changed = time.time()
    while not ended.is_set():
        try:
            if look(cluster, pools=list(config["pools"]), after=config["afterSeconds"] / speed, out=OUT_SECONDS / speed, since=changed):
                changed = time.time()
        except (OSError, ValueError, KeyError) as error:
            # The API server is away for a moment, or lacks an object that is about to come.
            print(f"looks again: {error!r}", file=sys.stderr, flush=True)
        ended.wait(max(0.5, _LOOK_SECONDS / speed))
    cluster.set_priorities(list(config["pools"]))


def look(cluster: Cluster, *, pools: Sequence[str], after: float, out: float, since: float) -> bool:
    """One round; whether it changed the class."""
    decision = decide(time.time(), pools=pools, replicas=cluster.replicas(), holds=cluster.holds(), after=after, out=out, since=since)
    for pool in decision.comes_back:
        cluster.let_go(pool)
        print(f"{pool} comes back into the ComputeClass", flush=True)
    changed = cluster.set_priorities(decision.priorities)
    if decision.held is not None:
        # After the class: with the pool in it, placeholders would ask for nodes of it.
        cluster.hold(decision.held)
        print(f"{decision.held} kept replicas waiting and is out of the ComputeClass", flush=True)
    return changed


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
