"""The end of a Spot or preemptible machine: Google's notice, and what a kubelet does of it.

https://docs.cloud.google.com/kubernetes-engine/docs/concepts/spot-vms: the node gets 30 seconds, of which the kubelet's graceful
shutdown gives ordinary pods 15; it reports itself not ready at once, which takes its pods out of the endpoints. Asked for by an
annotation on the Node, since there is no Google here to take the machine. A machine that goes without notice takes its pods with it at
once, and Kubernetes goes by what it last heard until it misses the heartbeats. Left out: that Google may start another in its place;
the autoscaler does when a pod waits for one.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable

import urllib3

from sandbox.google.latencies import POD_SECONDS, SILENT_SECONDS
from sandbox.kube.kube_api import STRATEGIC_MERGE, ApiError, KubeApi, Object
from sandbox.node_agent.quantities import timestamp
from sandbox.node_agent.worker import PodWorker

logger = logging.getLogger(__name__)

#: Between the Node's silence being known and its deletion; Google's side is asked whether the machine is still there (unverified how soon).
_ASKED_SECONDS = 5.0

_TAINT = {"key": "cloud.google.com/impending-node-termination", "effect": "NoSchedule"}

_SHUTTING_DOWN = {"status": "False", "reason": "KubeletNotReady", "message": "node is shutting down"}
_SILENT = {"status": "Unknown", "reason": "NodeStatusUnknown", "message": "Kubelet stopped posting node status."}


class Preemption:
    """Takes one machine away; `machine_ends` is called when its time is over and the cluster knows."""

    def __init__(
        self,
        api: KubeApi,
        node: str,
        *,
        notice: float,
        workers: Callable[[], Iterable[PodWorker]],
        machine_ends: Callable[[str], None],
        silent_seconds: float = SILENT_SECONDS,
        asked_seconds: float = _ASKED_SECONDS,
    ) -> None:
        self._api = api
        self._node = node
        self._notice = notice
        self._workers = workers
        self._machine_ends = machine_ends
        self._silent_seconds = silent_seconds
        self._asked_seconds = asked_seconds

    def start(self) -> None:
        threading.Thread(target=self._run, name=f"preempt {self._node}", daemon=True).start()

    def _run(self) -> None:
        logger.info("node %s is preempted, with %g s of notice", self._node, self._notice)
        end = time.monotonic() + self._notice
        if self._notice > 0:
            self._tell(_SHUTTING_DOWN, taint=_TAINT)
            for worker in self._workers():
                worker.shut_down_with_node(min(POD_SECONDS, self._notice))
            time.sleep(max(0.0, end - time.monotonic()))
        else:
            for worker in self._workers():
                worker.lost()
            time.sleep(self._silent_seconds)
            self._tell(_SILENT)
            self._mark_pods_not_ready()
            time.sleep(self._asked_seconds)
        self._machine_ends(self._node)

    def _tell(self, condition: Object, taint: Object | None = None) -> None:
        """Has the API server know that the node is not ready, and why."""
        path = f"/api/v1/nodes/{self._node}"
        now = timestamp()
        condition = {"type": "Ready", **condition, "lastHeartbeatTime": now, "lastTransitionTime": now}
        try:
            if taint is not None:
                taints = self._api.get(path)["spec"].get("taints") or []
                self._api.patch(path, {"spec": {"taints": [*taints, taint]}})
            self._api.patch(f"{path}/status", {"status": {"conditions": [condition]}}, STRATEGIC_MERGE)
        except (ApiError, urllib3.exceptions.HTTPError) as error:
            logger.warning("node %s cannot be said to be not ready: %s", self._node, error)

    def _mark_pods_not_ready(self) -> None:
        """As the node lifecycle controller does (https://github.com/kubernetes/kubernetes, pkg/controller/util/node, MarkPodsNotReady)."""
        condition = {"type": "Ready", "status": "False", "lastTransitionTime": timestamp()}
        for worker in self._workers():
            path = f"/api/v1/namespaces/{worker.namespace}/pods/{worker.name}/status"
            try:
                self._api.patch(path, {"status": {"conditions": [condition]}}, STRATEGIC_MERGE)
            except (ApiError, urllib3.exceptions.HTTPError) as error:
                logger.warning("pod %s/%s cannot be said to be not ready: %s", worker.namespace, worker.name, error)
