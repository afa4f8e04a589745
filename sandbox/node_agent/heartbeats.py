"""The heartbeats of all nodes of one cluster, as each one's kubelet sends them: its Lease, and its conditions in its status.

The real controller manager judges by them: a node whose heartbeats stop becomes NotReady, and its pods leave the endpoints.
Times are the kubelet's (https://kubernetes.io/docs/reference/node/node-status/#heartbeats), in real seconds, since the controller
manager's are, too. Left out: conditions about the machine itself (memory, disk, processes), which are always good.
"""

import datetime
import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import urllib3

from sandbox.kube.kube_api import STRATEGIC_MERGE, ApiError, KubeApi, Object
from sandbox.node_agent.timestamps import parse_timestamp, timestamp

logger = logging.getLogger(__name__)

LEASE_SECONDS = 40
_RENEW_SECONDS = 10.0
_STATUS_SECONDS = 300.0

#: After a heartbeat that the API server did not take.
_RETRY_SECONDS = 1.0

_LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"

#: type, status, reason, message: a healthy kubelet's.
_CONDITIONS = (
    ("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
    ("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    ("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    ("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
)


@dataclass(frozen=True)
class Beat:
    """A node that sends heartbeats: its object as last seen, and whether it says of itself that it is ready."""

    node: Object
    ready: bool = True


class Heartbeats:
    """Sends them in a thread of its own for whatever nodes `beating` gives; nodes that it leaves out fall silent."""

    def __init__(self, api: KubeApi, beating: Callable[[], Iterable[Beat]]) -> None:
        self._api = api
        self._beating = beating
        self._wake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="heartbeats", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def soon(self) -> None:
        """A node has come: its first heartbeat makes it Ready."""
        self._wake.set()

    def stop(self) -> None:
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def _run(self) -> None:
        while not self._stopping:
            self._wake.clear()
            try:
                taken = all([self._beat(each) for each in self._beating()])
            except Exception:
                # Without this thread every node would fall silent.
                logger.exception("heartbeats: tries again in %g s", _RETRY_SECONDS)
                taken = False
            self._wake.wait(_RENEW_SECONDS if taken else _RETRY_SECONDS)

    def _beat(self, beat: Beat) -> bool:
        """False when the API server did not take it."""
        name = beat.node["metadata"]["name"]
        try:
            self._renew_lease(beat.node)
            if beat.ready and _to_be_told(beat.node):
                self._tell_ready(beat.node)
        except (ApiError, urllib3.exceptions.HTTPError) as error:
            # A node that has just been deleted has no status to write to; the watch is about to say so.
            if not (isinstance(error, ApiError) and error.status == 404):
                logger.info("a heartbeat of node %s is lost: %s", name, error)
                return False
        return True

    def _renew_lease(self, node: Object) -> None:
        name = node["metadata"]["name"]
        renewed = {"renewTime": f"{datetime.datetime.now(datetime.UTC):%Y-%m-%dT%H:%M:%S.%fZ}"}
        try:
            self._api.patch(f"{_LEASES}/{name}", {"spec": renewed})
        except ApiError as error:
            if error.status != 404:
                raise
            owner = {"apiVersion": "v1", "kind": "Node", "name": name, "uid": node["metadata"]["uid"]}
            self._api.create(
                _LEASES,
                {
                    "apiVersion": "coordination.k8s.io/v1",
                    "kind": "Lease",
                    # The garbage collector takes it away with its node.
                    "metadata": {"name": name, "ownerReferences": [owner]},
                    "spec": {"holderIdentity": name, "leaseDurationSeconds": LEASE_SECONDS, **renewed},
                },
            )

    def _tell_ready(self, node: Object) -> None:
        now = timestamp()
        before = {each["type"]: each for each in node["status"].get("conditions") or []}
        conditions = []
        for kind, status, reason, message in _CONDITIONS:
            known = before.get(kind, {})
            since = known["lastTransitionTime"] if known.get("status") == status else now
            conditions.append(
                {
                    **{"type": kind, "status": status, "reason": reason, "message": message},
                    **{"lastHeartbeatTime": now, "lastTransitionTime": since},
                }
            )
        path = f"/api/v1/nodes/{node['metadata']['name']}/status"
        self._api.patch(path, {"metadata": {"uid": node["metadata"]["uid"]}, "status": {"conditions": conditions}}, STRATEGIC_MERGE)


def _to_be_told(node: Object) -> bool:
    """Whether its status does not say that it is ready, or has not said so for as long as a kubelet is silent about it."""
    condition = ready_condition(node)
    if condition.get("status") != "True" or "lastHeartbeatTime" not in condition:
        return True
    age = datetime.datetime.now(datetime.UTC) - parse_timestamp(condition["lastHeartbeatTime"])
    return age.total_seconds() >= _STATUS_SECONDS


def ready_condition(node: Object) -> Object:
    """The node's condition `Ready`; empty where it has none yet."""
    return next((each for each in (node.get("status") or {}).get("conditions") or [] if each["type"] == "Ready"), {})
