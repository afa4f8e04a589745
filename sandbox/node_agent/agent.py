"""Follows the nodes and pods of one cluster: heartbeats for each node, and a worker for each pod that is bound to one."""

import functools
import logging
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from kubernetes import client

from sandbox.host.addresses import PodAddresses
from sandbox.host.paths import MARK
from sandbox.host.processes import Spawner
from sandbox.images.image_store import ImageStore
from sandbox.kube.kube_api import KubeApi, Object, Watcher
from sandbox.kube.names import PREEMPTION_ANNOTATION
from sandbox.metrics.adapter import CLUSTER_DIR_VARIABLE
from sandbox.node_agent.container import Container
from sandbox.node_agent.devices import NodeDevices
from sandbox.node_agent.events import EventRecorder
from sandbox.node_agent.heartbeats import Beat, Heartbeats
from sandbox.node_agent.kubelet_api import KubeletApi
from sandbox.node_agent.pod import AgentServices, Node, pod_folder
from sandbox.node_agent.preemption import Preemption
from sandbox.node_agent.worker import PodWorker
from sandbox.servers.model_server import ModelServer

logger = logging.getLogger(__name__)

_STOP_GRACE_SECONDS = 3.0


class NodeAgent:
    """All pods of all nodes of one cluster.

    `environment` is the daemon's, of which containers get the sandbox's mark and the server that it names; `speed` divides restart
    back-offs here and start-up times in the stand-in servers; `pull_seconds` says how long a node takes to pull an image;
    `machine_ends` takes a preempted node's machine away.
    """

    def __init__(
        self,
        api_client: client.ApiClient,
        *,
        images: ImageStore,
        state_dir: Path,
        pod_addresses: PodAddresses,
        environment: Mapping[str, str],
        speed: float,
        pull_seconds: Callable[[str, str], float],
        spawner: Spawner,
        cert_file: Path,
        key_file: Path,
        machine_ends: Callable[[str], None],
    ) -> None:
        self._state_dir = state_dir
        self._machine_ends = machine_ends
        #: Node -> seconds of notice that its machine was given.
        self._preempted: dict[str, float] = {}
        api = KubeApi(api_client)
        server = urlsplit(api_client.configuration.host)
        self._services = AgentServices(
            api=api,
            images=images,
            spawner=spawner,
            events=EventRecorder(api, "kubelet"),
            addresses=pod_addresses,
            state_dir=state_dir,
            environment={
                MARK: environment.get(MARK) or str(state_dir),
                CLUSTER_DIR_VARIABLE: str(state_dir),
                # No address of a Service leads anywhere here.
                "KUBERNETES_SERVICE_HOST": server.hostname or "",
                "KUBERNETES_SERVICE_PORT": str(server.port),
            },
            api_server_ca=Path(ca) if (ca := api_client.configuration.ssl_ca_cert) else None,
            speed=speed,
            pull_seconds=pull_seconds,
            server=ModelServer.of(environment),
        )
        self._lock = threading.RLock()
        self._nodes: dict[str, Node] = {}
        #: uid -> pod, of every pod that is bound to a node, whether the node is known yet or not.
        self._pods: dict[str, Object] = {}
        self._workers: dict[str, PodWorker] = {}
        self._stopping = False
        self._heartbeats = Heartbeats(api, self._beating)
        self._kubelet_api = KubeletApi(
            self._find_log, self._find_pod, cert_file=cert_file, key_file=key_file, port_file=state_dir / "kubelet-port"
        )
        self._watchers = [
            Watcher(api, "/api/v1/nodes", on_sync=self._nodes_listed, on_event=self._node_event),
            Watcher(
                api,
                "/api/v1/pods",
                # Field selectors know "is not" but not "is set".
                query={"fieldSelector": "spec.nodeName!="},
                on_sync=self._pods_listed,
                on_event=self._pod_event,
            ),
        ]

    @property
    def kubelet_port(self) -> int:
        """The HTTPS port on 127.0.0.1 that node objects name as their kubelet's."""
        return self._kubelet_api.port

    def start(self) -> None:
        self._kubelet_api.start()
        self._heartbeats.start()
        for watcher in self._watchers:
            watcher.start()

    def stop(self) -> None:
        """Ends every process of every container; pods stay in the API server as they are."""
        with self._lock:
            self._stopping = True
            workers = list(self._workers.values())
        for watcher in self._watchers:
            watcher.stop()
        self._heartbeats.stop()
        for worker in workers:
            worker.shut_down(_STOP_GRACE_SECONDS)
        # What is not over by then hangs on something else than its processes.
        deadline = time.monotonic() + _STOP_GRACE_SECONDS + 2
        for worker in workers:
            if not worker.ended.wait(max(0.0, deadline - time.monotonic())):
                logger.warning("pod %s/%s did not end in time, is killed", worker.namespace, worker.name)
                worker.kill()
        self._services.events.stop()
        self._kubelet_api.stop()

    def _find_log(self, namespace: str, pod: str, container: str, previous: bool) -> tuple[Path, Callable[[], bool]]:
        """See `FindLog`."""
        for worker in self._workers_of(namespace, pod):
            found = worker.containers.get(container)
            if found is None:
                raise LookupError(f"container {container} not found in pod {namespace}/{pod}")
            path = found.log_file(previous=previous)
            if path is None:
                if previous:
                    raise LookupError(f'previous terminated container "{container}" in pod "{pod}" not found')
                reason, _ = found.view.waiting or ("ContainerCreating", "")
                raise LookupError(f'container "{container}" in pod "{pod}" is waiting to start: {reason}')
            return path, functools.partial(_is_over, found, path)
        raise LookupError(f"pod {namespace}/{pod} does not run on a node of the sandbox")

    def _find_pod(self, namespace: str, pod: str) -> str:
        """See `FindPod`."""
        for worker in self._workers_of(namespace, pod):
            if worker.network is not None:
                return worker.network.loopback
        raise LookupError(f"pod {namespace}/{pod} does not run on a node of the sandbox")

    def _workers_of(self, namespace: str, pod: str) -> list[PodWorker]:
        """The newest first: of two pods with one name, the older one is ending."""
        with self._lock:
            return [each for each in reversed(self._workers.values()) if (each.namespace, each.name) == (namespace, pod)]

    # --- nodes

    def _nodes_listed(self, nodes: list[Object]) -> None:
        with self._lock:
            names = {node["metadata"]["name"] for node in nodes}
            for name in self._nodes.keys() - names:
                self._node_gone(name)
            for node in nodes:
                self._node_there(node)

    def _node_event(self, event: str, node: Object) -> None:
        with self._lock:
            if event == "DELETED":
                self._node_gone(node["metadata"]["name"])
            else:
                self._node_there(node)

    def _node_there(self, obj: Object) -> None:
        name = obj["metadata"]["name"]
        notice = (obj["metadata"].get("annotations") or {}).get(PREEMPTION_ANNOTATION)
        if notice is not None and name not in self._preempted:
            self._preempted[name] = float(notice)
            Preemption(
                self._services.api, name, notice=float(notice), workers=lambda: self._workers_on(name), machine_ends=self._machine_ends
            ).start()
        if name in self._nodes:
            self._nodes[name].update(obj)
            return
        self._nodes[name] = Node(obj, NodeDevices(self._node_folder(name)))
        self._heartbeats.soon()
        for uid, pod in list(self._pods.items()):
            if pod["spec"]["nodeName"] == name:
                # A worker from before is that of a machine which is gone: for its pod this one is the same machine, rebooted.
                self._take_on(pod, self._nodes[name], before=self._workers.pop(uid, None))

    def _node_gone(self, name: str) -> None:
        """A machine that is taken away takes its processes with it."""
        if self._nodes.pop(name, None) is None:
            return
        for worker in self._workers.values():
            if worker.node.name == name:
                worker.lost()
        self._preempted.pop(name, None)
        shutil.rmtree(self._node_folder(name), ignore_errors=True)

    def _beating(self) -> list[Beat]:
        """A machine that is taken away with notice goes on telling that it is not ready; without notice it is silent."""
        with self._lock:
            notices = {name: self._preempted.get(name) for name in self._nodes}
            return [Beat(self._nodes[name].object, ready=notice is None) for name, notice in notices.items() if notice != 0]

    def _workers_on(self, node: str) -> list[PodWorker]:
        with self._lock:
            return [each for each in self._workers.values() if each.node.name == node]

    def _node_folder(self, name: str) -> Path:
        return self._state_dir / "nodes" / name

    # --- pods

    def _pods_listed(self, pods: list[Object]) -> None:
        with self._lock:
            uids = {pod["metadata"]["uid"] for pod in pods}
            for uid in self._pods.keys() - uids:
                self._pod_gone(uid)
            for pod in pods:
                self._pod_there(pod)

    def _pod_event(self, event: str, pod: Object) -> None:
        with self._lock:
            if event == "DELETED":
                self._pod_gone(pod["metadata"]["uid"])
            else:
                self._pod_there(pod)

    def _pod_there(self, pod: Object) -> None:
        uid = pod["metadata"]["uid"]
        self._pods[uid] = pod
        if uid in self._workers:
            self._workers[uid].update(pod)
            return
        if node := self._nodes.get(pod["spec"]["nodeName"]):
            self._take_on(pod, node)

    def _take_on(self, pod: Object, node: Node, *, before: PodWorker | None = None) -> None:
        if self._stopping:
            return
        worker = PodWorker(pod, node, self._services)
        self._workers[worker.uid] = worker
        if before is None:
            worker.start()
        else:
            # Both have the pod's address and its folder.
            threading.Thread(target=_start_after, args=(before, worker), name=f"start {worker.name}", daemon=True).start()

    def _pod_gone(self, uid: str) -> None:
        pod = self._pods.pop(uid, None)
        worker = self._workers.pop(uid, None)
        if worker is not None:
            worker.gone()
            threading.Thread(target=_forget, args=(worker,), name=f"forget {worker.name}", daemon=True).start()
        elif pod is not None:
            shutil.rmtree(pod_folder(self._state_dir, pod), ignore_errors=True)


def _is_over(container: Container, log: Path) -> bool:
    return not container.running or container.log_file(previous=False) != log


def _start_after(before: PodWorker, worker: PodWorker) -> None:
    before.ended.wait()
    worker.start()


def _forget(worker: PodWorker) -> None:
    worker.ended.wait()
    worker.forget()
