"""A pod's status as the kubelet writes it: pure functions of what its containers are doing.

Left out: resources and allocated resources of containers, volume mounts, users, readiness gates, QoS (the API server's).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sandbox.node_agent.timestamps import timestamp

Object = dict[str, Any]


@dataclass(kw_only=True)
class ContainerView:
    """What the status says of one container. Exactly one of `waiting`, `running`, `terminated` is its state."""

    name: str
    image: str
    #: (reason, message)
    waiting: tuple[str, str] | None = ("ContainerCreating", "")
    #: startedAt
    running: str | None = None
    #: The API's ContainerStateTerminated.
    terminated: Object | None = None
    #: The same, of the run before.
    last_terminated: Object | None = None
    ready: bool = False
    started: bool = False
    restart_count: int = 0
    image_id: str = ""
    container_id: str = ""

    @property
    def succeeded(self) -> bool:
        return self.terminated is not None and self.terminated["exitCode"] == 0

    def as_status(self) -> Object:
        """The API's ContainerStatus."""
        if self.running:
            state: Object = {"running": {"startedAt": self.running}}
        elif self.terminated:
            state = {"terminated": self.terminated}
        else:
            reason, message = self.waiting or ("ContainerCreating", "")
            state = {"waiting": {"reason": reason, **({"message": message} if message else {})}}
        return {
            "name": self.name,
            "image": self.image,
            "imageID": self.image_id,
            "containerID": self.container_id,
            "state": state,
            "lastState": {"terminated": self.last_terminated} if self.last_terminated else {},
            "ready": self.ready,
            "started": self.started,
            "restartCount": self.restart_count,
        }


@dataclass(frozen=True, kw_only=True)
class PodView:
    """What the status says of the pod as a whole."""

    pod: Object
    containers: Sequence[ContainerView]
    pod_ip: str
    host_ip: str
    start_time: str
    #: Its processes are being ended for good, or have been.
    terminating: bool = False
    #: (reason, message) of a pod that was ended by its node.
    failure: tuple[str, str] | None = None
    previous: Object = field(default_factory=dict)


def phase(view: PodView) -> str:
    """The pod's phase by the kubelet's rules."""
    policy, containers = view.pod["spec"].get("restartPolicy", "Always"), view.containers
    succeeded = all(each.succeeded for each in containers)
    if view.failure and not any(each.running for each in containers):
        return "Failed"
    if view.terminating and all(each.terminated for each in containers):
        return "Succeeded" if succeeded else "Failed"
    if any(each.waiting and not each.last_terminated for each in containers):
        return "Pending"
    if policy == "Always" or any(not each.terminated for each in containers):
        return "Running"
    if succeeded:
        return "Succeeded"
    return "Failed" if policy == "Never" else "Running"


def pod_status(view: PodView) -> Object:
    """The API's PodStatus, of which the conditions are to be merged by their type."""
    current = phase(view)
    status: Object = {
        "phase": current,
        "observedGeneration": view.pod["metadata"].get("generation", 0),
        "conditions": _conditions(view, current),
        "hostIP": view.host_ip,
        "hostIPs": [{"ip": view.host_ip}],
        "podIP": view.pod_ip,
        "podIPs": [{"ip": view.pod_ip}],
        "startTime": view.start_time,
        "containerStatuses": [each.as_status() for each in view.containers],
    }
    if view.failure:
        status["reason"], status["message"] = view.failure
    return status


def _conditions(view: PodView, current: str) -> list[Object]:
    unready = [each.name for each in view.containers if not each.ready]
    not_ready: tuple[str, str] | None = None
    if current in ("Succeeded", "Failed"):
        not_ready = ("PodCompleted" if current == "Succeeded" else "PodFailed", "")
    elif unready:
        not_ready = ("ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]")
    problems = {
        # The pod's address is there from the beginning and goes with its last process.
        "PodReadyToStartContainers": ("", "") if current in ("Succeeded", "Failed") else None,
        "Initialized": None,
        "Ready": not_ready,
        "ContainersReady": not_ready,
    }
    generation = view.pod["metadata"].get("generation", 0)
    return [_condition(kind, problem, generation, view.previous) for kind, problem in problems.items()]


def _condition(kind: str, problem: tuple[str, str] | None, generation: int, previous: Object) -> Object:
    reason, message = problem or ("", "")
    result: Object = {
        "type": kind,
        "status": "False" if problem is not None else "True",
        "observedGeneration": generation,
        "lastProbeTime": None,
        # Null takes away what an earlier status said.
        "reason": reason or None,
        "message": message or None,
        "lastTransitionTime": timestamp(),
    }
    for before in previous.get("conditions") or []:
        if before["type"] == kind and before["status"] == result["status"]:
            result["lastTransitionTime"] = before["lastTransitionTime"]
    return result
