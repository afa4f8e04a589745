"""One pod on its node: which of its containers run when, its status, and its end.

A thread for each pod does everything in turn; what happens elsewhere (a process ends, a probe decides, the API server
has news) is posted to it. Left out: activeDeadlineSeconds that goes on counting over a restart of the agent.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import urllib3

from components.catalog.node_labels import NODE_POOL_LABEL
from sandbox.host.addresses import PodAddresses
from sandbox.host.processes import Spawner
from sandbox.images.image_store import ImageStore
from sandbox.kube.kube_api import STRATEGIC_MERGE, ApiError, KubeApi, Object
from sandbox.node_agent.container import Container
from sandbox.node_agent.devices import NodeDevices
from sandbox.node_agent.environment import container_variables, service_variables
from sandbox.node_agent.events import EventRecorder
from sandbox.node_agent.network import PodNetwork
from sandbox.node_agent.quantities import timestamp
from sandbox.node_agent.status import ContainerKind, ContainerView, PodView, pod_status
from sandbox.servers.model_server import ModelServer, stand_in

logger = logging.getLogger(__name__)

_API_RETRY_SECONDS = 1.0

#: For the processes of a pod that the API server no longer has: the kubelet gives them little time, too.
_ORPHAN_GRACE_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True)
class AgentServices:
    """What the workers of all pods share."""

    api: KubeApi
    images: ImageStore
    spawner: Spawner
    events: EventRecorder
    addresses: PodAddresses
    state_dir: Path
    #: For every container, over whatever the pod says.
    environment: Mapping[str, str]
    speed: float
    #: (node, image) -> how long the node takes to pull the image, in seconds of this machine's clock.
    pull_seconds: Callable[[str, str], float] = field(default=lambda node, image: 0.0)
    #: What every container's `python3 -m vllm...` is.
    server: ModelServer = field(default_factory=stand_in)


class Node:
    """A node, as its pods see it."""

    def __init__(self, obj: Object, devices: NodeDevices) -> None:
        self.name: str = obj["metadata"]["name"]
        self.devices = devices
        #: Image -> when (monotonic) the node has it.
        self._images: dict[str, float] = {}
        self._bases: dict[str, float] = {}
        self._pulls_end = 0.0
        self._lock = threading.Lock()
        self.update(obj)

    def update(self, obj: Object) -> None:
        self.labels: Mapping[str, str] = obj["metadata"].get("labels") or {}
        status = obj.get("status") or {}
        self.allocatable: Mapping[str, str] = status.get("allocatable") or {}
        addresses = {each["type"]: each["address"] for each in status.get("addresses") or []}
        self.address: str = addresses.get("InternalIP", "")
        self.devices.make(self.name, self.labels)

    def has_image(self, image: str) -> bool:
        with self._lock:
            return self._images.get(image, float("inf")) <= time.monotonic()

    def pull(self, image: str, base: str, seconds: float) -> float:
        """When (monotonic) the node has the image, which it begins to pull if nobody has asked for it yet.

        One at a time, as the kubelet does unless it is told otherwise:
        https://kubernetes.io/docs/concepts/containers/images/#serial-and-parallel-image-pulls
        `seconds` is for the base's layers, which are nearly all of an image and come once.
        """
        with self._lock:
            if base not in self._bases:
                self._pulls_end = max(self._pulls_end, time.monotonic()) + seconds
                self._bases[base] = self._pulls_end
            return self._images.setdefault(image, max(self._bases[base], time.monotonic()))


def pod_folder(state_dir: Path, pod: Object) -> Path:
    metadata = pod["metadata"]
    return state_dir / "pods" / f"{metadata['namespace']}_{metadata['name']}_{metadata['uid']}"


def crash_file(folder: Path) -> Path:
    """In a pod's folder: while it is there, the stand-in servers of the pod do not start."""
    return folder / "crash-on-start"


class PodWorker:
    """Starts with `start`; `ended` is set when nothing of the pod is left on the node."""

    def __init__(self, pod: Object, node: Node, services: AgentServices) -> None:
        self.ended = threading.Event()
        self.node = node
        self._services = services
        self._pod = pod
        metadata, spec = pod["metadata"], pod["spec"]
        self.name, self.namespace, self.uid = metadata["name"], metadata["namespace"], metadata["uid"]
        self._path = f"/api/v1/namespaces/{self.namespace}/pods/{self.name}"
        self._folder = pod_folder(services.state_dir, pod)
        self._queue: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._network: PodNetwork | None = None
        self._start_time: str = (pod.get("status") or {}).get("startTime") or timestamp()
        self._active_since = time.monotonic()
        self._published: Object = {}
        self._publish_again_at = 0.0
        self._terminating = False
        self._grace = self.grace_seconds
        self._failure: tuple[str, str] | None = None
        #: Nobody is told of what happens from now on: the node or the pod's object is gone.
        self._silent = False
        self._over = False
        self.containers: dict[str, Container] = {}
        for kind, each in _containers(spec):
            self.containers[each["name"]] = Container(
                each,
                kind,
                self,
                folder=self._folder / each["name"],
                images=services.images,
                spawner=services.spawner,
                server=services.server,
                speed=services.speed,
            )
        self._thread = threading.Thread(target=self._run, name=f"pod {self.name}", daemon=True)

    # --- what others call

    def start(self) -> None:
        self._thread.start()

    def update(self, pod: Object) -> None:
        """The API server's object has changed."""

        def take() -> None:
            self._pod = pod
            if pod["metadata"].get("deletionTimestamp"):
                self._terminate(float(pod["metadata"].get("deletionGracePeriodSeconds") or 0))

        self.post(take)

    def gone(self) -> None:
        """The API server no longer has the object."""

        def end() -> None:
            self._silent = True
            self._terminate(_ORPHAN_GRACE_SECONDS)

        self.post(end)

    def lost(self) -> None:
        """The node is gone, with all that ran on it; the object is left to whoever collects it."""

        def end() -> None:
            self._silent = self._terminating = True
            self.kill()

        self.post(end)

    def shut_down_with_node(self, grace: float) -> None:
        """The machine ends: the kubelet's graceful shutdown, after which the pod has failed and its object stays."""

        def end() -> None:
            self._failure = ("Terminated", "Pod was terminated in response to imminent node shutdown.")
            self._terminate(min(grace, self.grace_seconds))

        self.post(end)

    def shut_down(self, grace: float) -> None:
        """The agent ends: the processes go, the object stays as it is."""

        def end() -> None:
            self._silent = True
            self._terminate(grace)

        self.post(end)

    # --- what its containers call

    @property
    def address(self) -> str:
        return self._network.address if self._network else ""

    @property
    def restart_policy(self) -> str:
        return str(self._pod["spec"].get("restartPolicy") or "Always")

    @property
    def grace_seconds(self) -> float:
        value = self._pod["spec"].get("terminationGracePeriodSeconds")
        return 30.0 if value is None else float(value)

    @property
    def description(self) -> str:
        return f"{self.name}_{self.namespace}({self.uid})"

    def post(self, action: Callable[[], None]) -> None:
        self._queue.put(action)

    def has_image(self, image: str) -> bool:
        return self.node.has_image(image)

    def pull(self, image: str, base: str) -> float:
        return self.node.pull(image, base, self._services.pull_seconds(self.node.name, image))

    def event(self, container: ContainerView, kind: Literal["Normal", "Warning"], reason: str, message: str) -> None:
        if not self._silent:
            group = "containers" if container.kind == "app" else "initContainers"
            self._services.events.record(
                self._pod,
                "Pod",
                kind,
                reason,
                message,
                field_path=f"spec.{group}{{{container.name}}}",
                host=self.node.name,
            )

    def variables(self, container: Object) -> dict[str, str]:
        # Addresses are known to this worker before the API server's object shows them.
        status = {
            **(self._pod.get("status") or {}),
            "podIP": self.address,
            "podIPs": [{"ip": self.address}],
            "hostIP": self.node.address,
            "hostIPs": [{"ip": self.node.address}],
        }
        return container_variables(
            {**self._pod, "status": status},
            container,
            services=self._service_variables(),
            secret=lambda namespace, name: self._lookup(f"/api/v1/namespaces/{namespace}/secrets/{name}"),
            config_map=lambda namespace, name: self._lookup(f"/api/v1/namespaces/{namespace}/configmaps/{name}"),
            allocatable=self.node.allocatable,
        )

    def sandbox_variables(self) -> Mapping[str, str]:
        assert self._network is not None
        return {
            **self._services.environment,
            **self.node.devices.environment,
            "HOSTNAME": self.name,
            "POD_LOOPBACK": self._network.loopback,
            "SANDBOX_POD_ADDRESS": self._network.loopback,
            "SANDBOX_POD_NAME": self.name,
            "SANDBOX_NODE_NAME": self.node.name,
            "SANDBOX_NODE_POOL": self.node.labels.get(NODE_POOL_LABEL, ""),
            "SANDBOX_MACHINE_TYPE": self.node.labels.get("node.kubernetes.io/instance-type", ""),
            "SANDBOX_SPEED": f"{self._services.speed:g}",
            "SANDBOX_CRASH_FILE": str(crash_file(self._folder)),
        }

    def _service_variables(self) -> dict[str, str]:
        api = self._services.api
        services = []
        if self.namespace != "default":
            master = self._lookup("/api/v1/namespaces/default/services/kubernetes")
            services += [master] if master else []
        every = api.get(f"/api/v1/namespaces/{self.namespace}/services").get("items") or []
        if self._pod["spec"].get("enableServiceLinks", True):
            services += every
        else:
            names = {"kubernetes"} if self.namespace == "default" else set()
            services += [each for each in every if each["metadata"]["name"] in names]
        return service_variables(services)

    def _lookup(self, path: str) -> Object | None:
        try:
            return self._services.api.get(path)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    # --- the worker

    def _run(self) -> None:
        while True:
            try:
                if self._network is None:
                    self._prepare()
                wake_at = self._turn()
                if self._over:
                    break
                with contextlib.suppress(queue.Empty):
                    self._queue.get(timeout=None if wake_at is None else max(0.0, wake_at - time.monotonic()))()
                    while True:
                        self._queue.get_nowait()()
            except Exception:
                # A pod that nobody looks after would stay as it is for ever.
                logger.exception("pod %s/%s: goes on in %g s", self.namespace, self.name, _API_RETRY_SECONDS)
                time.sleep(_API_RETRY_SECONDS)
        if self._network is not None:
            self._network.release()
        self.ended.set()

    def _prepare(self) -> None:
        status = self._pod.get("status") or {}
        before = {each["name"]: each for each in [*(status.get("containerStatuses") or []), *(status.get("initContainerStatuses") or [])]}
        self._published = {"conditions": status.get("conditions") or []}
        for container in self.containers.values():
            (self._folder / container.view.name).mkdir(parents=True, exist_ok=True)
            if container.view.name in before:
                container.take_over(before[container.view.name])
        self._network = PodNetwork(self._services.addresses, status.get("podIP"))
        if status.get("phase") in ("Succeeded", "Failed") and status.get("reason"):
            self._failure = (status["reason"], status.get("message", ""))
        if self._pod["metadata"].get("deletionTimestamp"):
            self._terminate(float(self._pod["metadata"].get("deletionGracePeriodSeconds") or 0))

    def _turn(self) -> float | None:
        """Does what is to be done now; returns when (monotonic) to look again without being told."""
        wake: list[float] = []
        if self._terminating:
            self._end_containers()
        else:
            try:
                wake += self._start_containers()
            except (ApiError, urllib3.exceptions.HTTPError) as error:
                logger.info("pod %s/%s: %s; tries again", self.namespace, self.name, error)
                wake.append(time.monotonic() + _API_RETRY_SECONDS)
            wake += self._watch_deadline()
        if self._silent:
            self._over = self._terminating and not self._any_running
            return None
        if not self._publish():
            wake.append(time.monotonic() + _API_RETRY_SECONDS)
        elif self._terminating and not self._any_running and self._pod["metadata"].get("deletionTimestamp"):
            if self._remove():
                self._over = True
            else:
                wake.append(time.monotonic() + _API_RETRY_SECONDS)
        return min((each for each in wake if each != float("inf")), default=None)

    @property
    def _any_running(self) -> bool:
        return any(each.running for each in self.containers.values())

    def _of_kind(self, *kinds: ContainerKind) -> list[Container]:
        return [each for each in self.containers.values() if each.view.kind in kinds]

    @property
    def _finished(self) -> bool:
        """Nothing is started any more: an init container failed for good, or every app container has done its part."""
        return any(each.done and not each.view.succeeded for each in self._of_kind("init")) or all(
            each.done for each in self._of_kind("app")
        )

    def _start_containers(self) -> list[float]:
        """Starts what may start: init containers one after the other, then the rest. Gives times to look again."""
        apps = self._of_kind("app")
        if self._finished:
            for each in self._of_kind("sidecar"):
                each.end(self._grace, f"Stopping container {each.view.name}")
            return []
        before = self._of_kind("init", "sidecar")
        # Once an app container has been started, init containers are over with.
        initialized = any(each.running or each.view.terminated or each.view.last_terminated for each in apps)
        wake: list[float] = []
        for each in before:
            if each.view.kind == "init" and (initialized or each.view.succeeded):
                continue
            if not each.running and not each.done:
                each.start()
                wake.append(each.wake_at)
            if each.view.kind == "init" or not (each.view.started or initialized):
                for later in [*before[before.index(each) + 1 :], *apps]:
                    if later.view.waiting and not later.view.last_terminated and not later.running:
                        later.view.waiting = ("PodInitializing", "")
                return wake
        for each in apps:
            if not each.running and not each.done:
                each.start()
                wake.append(each.wake_at)
        return wake

    def _watch_deadline(self) -> list[float]:
        limit = self._pod["spec"].get("activeDeadlineSeconds")
        if limit is None or self._finished:
            return []
        at = self._active_since + float(limit)
        if time.monotonic() < at:
            return [at]
        self._failure = ("DeadlineExceeded", "Pod was active on the node longer than the specified deadline")
        self._terminate(self.grace_seconds)
        self._end_containers()
        return []

    # --- the end

    def _terminate(self, grace: float) -> None:
        """From now on containers are only ended; a later call can shorten the grace period."""
        self._grace = min(self._grace, grace) if self._terminating else grace
        self._terminating = True

    def _end_containers(self) -> None:
        message = "Stopping container {}".format
        # Sidecars serve the app containers, so they go after them, the last one first.
        apps = [each for each in self._of_kind("app", "init") if each.running]
        sidecars = [each for each in self._of_kind("sidecar") if each.running]
        for each in apps or sidecars[-1:]:
            # There is no time for hooks once nobody waits for the pod.
            each.end(self._grace, message(each.view.name), hook=not self._silent)

    def kill(self) -> None:
        """Ends every process at once, from whatever thread."""
        for container in self.containers.values():
            container.kill()

    def _remove(self) -> bool:
        """Takes the pod's object away, now that nothing of it runs; False to be called again."""
        try:
            self._services.api.delete(self._path, {"gracePeriodSeconds": 0, "preconditions": {"uid": self.uid}})
        except ApiError as error:
            # Gone, or another pod of the same name.
            if error.status not in (404, 409):
                logger.warning("pod %s/%s cannot be removed: %s", self.namespace, self.name, error)
                return False
        except urllib3.exceptions.HTTPError as error:
            logger.info("pod %s/%s is not removed yet: %s", self.namespace, self.name, error)
            return False
        return True

    def forget(self) -> None:
        """Deletes the pod's files; for when its object is gone."""
        shutil.rmtree(self._folder, ignore_errors=True)

    # --- the status

    def _view(self) -> PodView:
        return PodView(
            pod=self._pod,
            containers=[each.view for each in self.containers.values()],
            pod_ip=self.address,
            host_ip=self.node.address,
            start_time=self._start_time,
            terminating=self._terminating,
            failure=self._failure,
            previous=self._published,
        )

    def _publish(self) -> bool:
        """Writes the status if it has changed; False to be called again."""
        status = pod_status(self._view())
        if status == self._published:
            return True
        try:
            self._services.api.patch(f"{self._path}/status", {"metadata": {"uid": self.uid}, "status": _as_patch(status)}, STRATEGIC_MERGE)
        except ApiError as error:
            if error.status in (404, 409):
                # The watch is about to say that the pod is gone.
                self._published = status
                return True
            logger.warning("status of pod %s/%s is refused: %s", self.namespace, self.name, error)
            return False
        except urllib3.exceptions.HTTPError as error:
            logger.info("status of pod %s/%s is not written yet: %s", self.namespace, self.name, error)
            return False
        self._published = status
        return True


def _as_patch(status: Object) -> Object:
    """For a strategic merge, which adds to lists: a pod whose address another sandbox has taken meanwhile has a new one alone."""
    return {**status, **({"podIPs": [{"$patch": "replace"}, *status["podIPs"]]} if "podIPs" in status else {})}


def _containers(spec: Object) -> Iterator[tuple[ContainerKind, Object]]:
    for each in spec.get("initContainers") or []:
        yield ("sidecar" if each.get("restartPolicy") == "Always" else "init", each)
    for each in spec["containers"]:
        yield ("app", each)
