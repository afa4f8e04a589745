"""The end of a Spot or preemptible machine: Google's notice, and what a kubelet does about it.

https://docs.cloud.google.com/kubernetes-engine/docs/concepts/spot-vms: the node gets 30 seconds, of which the kubelet's graceful
shutdown gives ordinary pods 15; it reports itself not ready at once, which takes its pods out of the endpoints. An annotation on the Node
asks for it, since there is no Google here to take the machine. A machine that goes without notice takes its pods and its heartbeats with
it at once, and the controller manager goes by what it last heard until it has missed them for long enough. Left out: that Google may
start another in its place; the autoscaler does when a pod waits for one.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable

import urllib3

from sandbox.google.latencies import POD_SECONDS
from sandbox.kube.kube_api import STRATEGIC_MERGE, ApiError, KubeApi
from sandbox.node_agent.heartbeats import ready_condition
from sandbox.node_agent.timestamps import timestamp
from sandbox.node_agent.worker import PodWorker

logger = logging.getLogger(__name__)

#: Between the Node's silence being known and its deletion; Google's side is asked whether the machine is still there (unverified how soon).
_ASKED_SECONDS = 5.0

_LOOK_SECONDS = 0.5

_TAINT = {"key": "cloud.google.com/impending-node-termination", "effect": "NoSchedule"}


class Preemption:
    """Takes one machine away; `machine_ends` is called when its time is over and the cluster knows."""

    def __init__(
        self, api: KubeApi, node: str, *, notice: float, workers: Callable[[], Iterable[PodWorker]], machine_ends: Callable[[str], None]
    ) -> None:
        self._api = api
        self._path = f"/api/v1/nodes/{node}"
        self._node = node
        self._notice = notice
        self._workers = workers
        self._machine_ends = machine_ends

    def start(self) -> None:
        threading.Thread(target=self._run, name=f"preempt {self._node}", daemon=True).start()

    def _run(self) -> None:
        logger.info("node %s is preempted, with %g s of notice", self._node, self._notice)
        end = time.monotonic() + self._notice
        if self._notice > 0:
            self._tell_shutting_down()
            for worker in self._workers():
                worker.shut_down_with_node(min(POD_SECONDS, self._notice))
            time.sleep(max(0.0, end - time.monotonic()))
        else:
            for worker in self._workers():
                worker.lost()
            while self._counts_as_ready():
                time.sleep(_LOOK_SECONDS)
            time.sleep(_ASKED_SECONDS)
        self._machine_ends(self._node)

    def _counts_as_ready(self) -> bool:
        """Whether the controller manager has not noticed yet."""
        try:
            return ready_condition(self._api.get(self._path)).get("status") == "True"
        except (ApiError, urllib3.exceptions.HTTPError) as error:
            return not (isinstance(error, ApiError) and error.status == 404)

    def _tell_shutting_down(self) -> None:
        now = timestamp()
        condition = {
            **{"type": "Ready", "status": "False", "reason": "KubeletNotReady", "message": "node is shutting down"},
            **{"lastHeartbeatTime": now, "lastTransitionTime": now},
        }
        try:
            taints = self._api.get(self._path)["spec"].get("taints") or []
            self._api.patch(self._path, {"spec": {"taints": [*taints, _TAINT]}})
            self._api.patch(f"{self._path}/status", {"status": {"conditions": [condition]}}, STRATEGIC_MERGE)
        except (ApiError, urllib3.exceptions.HTTPError) as error:
            logger.warning("node %s cannot be said to be shutting down: %s", self._node, error)
