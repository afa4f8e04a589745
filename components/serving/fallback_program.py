"""The fallback timer's program: what runs in its pod, by Python's standard library alone.

A replica that has been without a node for too long is let go from the best pool that is left: placeholder pods of a higher priority take
every place of that pool, those that the autoscaler still expects among them, so that the replica fits there no longer and the next pool is
asked. They go when one of them has its node: then the pool has machines again. A replica that still waits then is not cured by machines, so
each time it waits twice as long as before, and a pod that fits no node asks for a few in a day and not for ever.
"""

from __future__ import annotations

import json
import os
import ssl
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

#: Label of a placeholder: the pool whose places it takes.
HOLDS = "fungibility-holds"

_LOOK_SECONDS = 10.0

Object = Mapping[str, Any]


@dataclass(frozen=True)
class Decision:
    """Pools that are to be passed over from now on, at most one, and those that are so no longer."""

    passed_over: Sequence[str] = ()
    comes_back: Sequence[str] = ()


def decide(
    now: float,
    *,
    pools: Sequence[str],
    replicas: Iterable[Object],
    holds: Iterable[Object],
    after: float,
    since: float,
    in_vain: Mapping[str, int],
) -> Decision:
    """`pools`: the whole ladder, the best first; its last one is never passed over. Times are seconds since the epoch.

    `after`: seconds that a replica may wait. `since`: when the last decision was carried out. `in_vain`: how often a pool came back while
    the replica of that name waited.
    """
    placed: dict[str, bool] = {}
    for hold in holds:
        pool = hold["metadata"]["labels"][HOLDS]
        placed[pool] = placed.get(pool, False) or bool(hold["spec"].get("nodeName"))
    back = [pool for pool, has_machine in placed.items() if has_machine or pool not in pools[:-1]]
    if back:
        return Decision(comes_back=back)
    waiting = {each["metadata"]["name"]: began for each in replicas if (began := _waiting_since(each)) is not None}
    if any(now - max(began, since) >= after * 2 ** in_vain.get(name, 0) for name, began in waiting.items()):
        return Decision(passed_over=[pool for pool in pools[:-1] if pool not in placed][:1])
    return Decision()


def _waiting_since(pod: Object) -> float | None:
    """Since when the scheduler has found no node for the pod; None for one that has a node or is ending."""
    if pod["metadata"].get("deletionTimestamp") or pod["spec"].get("nodeName"):
        return None
    for each in pod.get("status", {}).get("conditions") or []:
        if (each["type"], each["status"], each.get("reason")) == ("PodScheduled", "False", "Unschedulable"):
            return datetime.fromisoformat(each["lastTransitionTime"].replace("Z", "+00:00")).timestamp()
    return None


class Cluster:
    """The API server, as the pod's service account."""

    def __init__(self, config: Object) -> None:
        self._config = config
        self._folder = os.environ.get("FUNGIBILITY_SERVICE_ACCOUNT_DIR", "/var/run/secrets/kubernetes.io/serviceaccount")
        self._server = f"https://{os.environ['KUBERNETES_SERVICE_HOST']}:{os.environ['KUBERNETES_SERVICE_PORT']}"
        self._tls = ssl.create_default_context(cafile=f"{self._folder}/ca.crt")
        self._holds = f"/api/v1/namespaces/{config['ownNamespace']}/pods"

    def replicas(self) -> list[Object]:
        return list(
            self._call("GET", f"/api/v1/namespaces/{self._config['namespace']}/pods?labelSelector={self._config['selector']}")["items"]
        )

    def holds(self) -> list[Object]:
        return list(self._call("GET", f"{self._holds}?labelSelector={HOLDS}")["items"])

    def hold(self, pool: str, count: int) -> None:
        for _ in range(count):
            self._call("POST", self._holds, self._config["placeholders"][pool])

    def let_go(self, pool: str) -> None:
        self._call("DELETE", f"{self._holds}?labelSelector={HOLDS}%3D{pool}")

    def _call(self, method: str, path: str, body: Object | None = None) -> dict[str, Any]:
        with open(f"{self._folder}/token") as token:  # read each time, since the kubelet renews it
            headers = {"Authorization": f"Bearer {token.read().strip()}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._server + path, data=data, headers=headers, method=method)  # noqa: S310 - https above
        with urllib.request.urlopen(request, timeout=30, context=self._tls) as answer:  # noqa: S310
            return dict(json.load(answer))


def look(cluster: Cluster, *, pools: Mapping[str, int], after: float, since: float, in_vain: Counter[str]) -> bool:
    """One round; whether it did something. `pools`: the ladder, with the nodes that each may have. Counts on in `in_vain`."""
    replicas, holds = cluster.replicas(), cluster.holds()
    decision = decide(time.time(), pools=list(pools), replicas=replicas, holds=holds, after=after, since=since, in_vain=in_vain)
    for pool in decision.comes_back:
        cluster.let_go(pool)
        print(f"{pool} is tried again: it has a machine, or is the last pool now", flush=True)
    if decision.comes_back:
        in_vain.update(each["metadata"]["name"] for each in replicas if _waiting_since(each) is not None)
    standing = Counter(each["metadata"]["labels"][HOLDS] for each in holds)
    for pool in decision.passed_over:
        print(f"{pool} kept replicas waiting and is passed over", flush=True)
    # Those too that an earlier round did not come to, or that are gone.
    for pool in {*standing, *decision.passed_over}.difference(decision.comes_back):
        cluster.hold(pool, pools[pool] - standing[pool])
    return bool(decision.comes_back or decision.passed_over)


def main(config: Object) -> None:
    """Looks for ever."""
    cluster = Cluster(config)
    speed = float(os.environ.get("FUNGIBILITY_CLOCK_SPEED", "1"))
    # An earlier run may have done something just now.
    since = time.time()
    in_vain: Counter[str] = Counter()
    while True:
        try:
            if look(cluster, pools=config["pools"], after=config["afterSeconds"] / speed, since=since, in_vain=in_vain):
                since = time.time()
        except (OSError, ValueError, KeyError) as error:
            # The API server is away for a moment, or lacks an object that is about to come.
            print(f"looks again: {error!r}", file=sys.stderr, flush=True)
        time.sleep(max(0.5, _LOOK_SECONDS / speed))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
