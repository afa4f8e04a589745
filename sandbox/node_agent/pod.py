"""What the containers of a pod and the pod's worker share: the node, the pod's object and address, variables, events."""

import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from components.catalog.node_labels import NODE_POOL_LABEL
from sandbox.host.addresses import PodAddresses
from sandbox.host.processes import Spawner
from sandbox.host.state_files import write_text
from sandbox.images.image_store import ImageStore
from sandbox.kube.kube_api import ApiError, KubeApi, Object
from sandbox.node_agent.devices import NodeDevices
from sandbox.node_agent.environment import check_known, container_variables, service_variables
from sandbox.node_agent.events import EventRecorder
from sandbox.node_agent.network import PodNetwork
from sandbox.servers.model_server import ModelServer, stand_in

#: Where the kubelet mounts the token of a pod's service account, which processes without a mount namespace find by a variable.
SERVICE_ACCOUNT_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
#: Not renewed, unlike the kubelet's: longer than a sandbox lives.
_TOKEN_SECONDS = 10 * 365 * 86_400


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
    #: The certificate authority of the API server; None where no container speaks to it.
    api_server_ca: Path | None = None
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
        self.object = obj
        self.labels: Mapping[str, str] = obj["metadata"].get("labels") or {}
        addresses = {each["type"]: each["address"] for each in (obj.get("status") or {}).get("addresses") or []}
        self.address: str = addresses.get("InternalIP", "")
        capacity = (obj.get("status") or {}).get("capacity") or {}
        self.devices.make(self.name, self.labels, gpus=int(capacity.get("nvidia.com/gpu") or 1))

    def has_image(self, image: str) -> bool:
        with self._lock:
            return self._images.get(image, float("inf")) <= time.monotonic()

    def pull(self, image: str, base: str, seconds: float) -> float:
        """When (monotonic) the node has the image, which it begins to pull if it has not been requested yet.

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


class Pod:
    """A pod on its node. Only its worker's thread changes it; `actions` are what others want that thread to do."""

    def __init__(self, obj: Object, node: Node, services: AgentServices) -> None:
        metadata = obj["metadata"]
        self.object, self.node, self.services = obj, node, services
        self.name, self.namespace, self.uid = metadata["name"], metadata["namespace"], metadata["uid"]
        self.path = f"/api/v1/namespaces/{self.namespace}/pods/{self.name}"
        self.folder = pod_folder(services.state_dir, obj)
        self.actions: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.network: PodNetwork | None = None
        #: Nobody is told of what happens from now on: the node or the pod's object is gone.
        self.silent = False

    @property
    def address(self) -> str:
        return self.network.address if self.network else ""

    @property
    def restart_policy(self) -> str:
        return str(self.object["spec"].get("restartPolicy") or "Always")

    @property
    def grace_seconds(self) -> float:
        value = self.object["spec"].get("terminationGracePeriodSeconds")
        return 30.0 if value is None else float(value)

    @property
    def description(self) -> str:
        """As in the kubelet's messages."""
        return f"{self.name}_{self.namespace}({self.uid})"

    def post(self, action: Callable[[], None]) -> None:
        """Has the worker run this soon."""
        self.actions.put(action)

    def pull(self, image: str, base: str) -> float:
        """Has the node pull the image, which is built on `base`, unless it does already; when (monotonic) it has it."""
        return self.node.pull(image, base, self.services.pull_seconds(self.node.name, image))

    def event(self, container: str, kind: Literal["Normal", "Warning"], reason: str, message: str) -> None:
        if not self.silent:
            field_path = f"spec.containers{{{container}}}"
            self.services.events.record(self.object, kind, reason, message, field=field_path, host=self.node.name)

    def variables(self, container: Object) -> dict[str, str]:
        """The container's environment as the pod says it. Raises `ContainerConfigError`, and what `KubeApi` raises."""
        check_known(self.object["spec"], container)
        # Addresses are known here before the API server's object shows them.
        status = {"podIP": self.address, "hostIP": self.node.address}
        return container_variables(
            {**self.object, "status": status},
            container,
            services=self._service_variables(),
            secret=lambda namespace, name: self._lookup(f"/api/v1/namespaces/{namespace}/secrets/{name}"),
        )

    def service_account(self, container: Object, folder: Path) -> dict[str, str]:
        """Writes the token of the pod's service account into `folder`, for a container that mounts one; the variable says where.

        Raises what `KubeApi` raises.
        """
        mounts = container.get("volumeMounts") or []
        ca = self.services.api_server_ca
        if ca is None or all(each["mountPath"] != SERVICE_ACCOUNT_PATH for each in mounts):
            return {}
        name = self.object["spec"].get("serviceAccountName") or "default"
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": _TOKEN_SECONDS}}
        answer = self.services.api.create(f"/api/v1/namespaces/{self.namespace}/serviceaccounts/{name}/token", request)
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "token", answer["status"]["token"], mode=0o600)
        write_text(folder / "ca.crt", ca.read_text())
        return {"FUNGIBILITY_SERVICE_ACCOUNT_DIR": str(folder)}

    def sandbox_variables(self) -> Mapping[str, str]:
        """What the sandbox adds, whatever the pod says."""
        assert self.network is not None
        return {
            **self.services.environment,
            **self.node.devices.environment,
            "HOSTNAME": self.name,
            "POD_LOOPBACK": self.network.loopback,
            "SANDBOX_POD_ADDRESS": self.network.loopback,
            "SANDBOX_POD_NAME": self.name,
            "SANDBOX_NODE_NAME": self.node.name,
            "SANDBOX_NODE_POOL": self.node.labels.get(NODE_POOL_LABEL, ""),
            "SANDBOX_MACHINE_TYPE": self.node.labels.get("node.kubernetes.io/instance-type", ""),
            "SANDBOX_SPEED": f"{self.services.speed:g}",
            "FUNGIBILITY_CLOCK_SPEED": f"{self.services.speed:g}",
            "SANDBOX_CRASH_FILE": str(crash_file(self.folder)),
        }

    def _service_variables(self) -> dict[str, str]:
        """Those of the API server's Service, and of the namespace's others unless the pod wants none."""
        master = self._lookup("/api/v1/namespaces/default/services/kubernetes")
        services = [master] if master else []
        if self.object["spec"].get("enableServiceLinks", True):
            services += self.services.api.get(f"/api/v1/namespaces/{self.namespace}/services").get("items") or []
        return service_variables(services)

    def _lookup(self, path: str) -> Object | None:
        try:
            return self.services.api.get(path)
        except ApiError as error:
            if error.status == 404:
                return None
            raise
