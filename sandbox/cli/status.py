"""The sandbox's present state, read from its API server: nodes by pool, the service's pods, and which of them answers."""

import base64
import json
import time
from typing import Any

from kubernetes import client, config

from components.catalog.node_labels import NODE_POOL_LABEL
from components.serving.api_key_names import SECRET_KEY, VARIABLE
from ops.smoke.service import Answer, Failure, Service
from sandbox.cli.lifecycle import SandboxError
from sandbox.cli.stack import STACK
from sandbox.google.stock import Stock
from sandbox.host.paths import Paths
from sandbox.images.image_builder import read_notes
from sandbox.kube.names import PREEMPTION_ANNOTATION

#: Of nodes that Google takes away: those of flex-start at the end of their days.
_TAKEN_LABELS = {f"cloud.google.com/gke-{each}" for each in ("spot", "preemptible", "flex-start")}

#: The most seconds that replicas take to settle.
SETTLE_SECONDS = 180.0

#: A server's start takes minutes on Google's clock and seconds on the sandbox's.
_CHAT_SECONDS = 60.0


class ServiceError(SandboxError):
    """The service does not answer as it should; the message says what it answered and what to look at."""


class ClusterView:
    """Reads the cluster through the administrator's kubeconfig."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        api = config.new_client_from_config(str(paths.own_kubeconfig))
        self._api = api
        self._core = client.CoreV1Api(api)
        self._apps = client.AppsV1Api(api)

    def nodes(self) -> list[dict[str, Any]]:
        return [
            {
                "name": node["metadata"]["name"],
                "pool": node["metadata"]["labels"].get(NODE_POOL_LABEL, ""),
                "machine_type": node["metadata"]["labels"].get("node.kubernetes.io/instance-type", ""),
                "ready": _is_ready(node),
                "labels": node["metadata"]["labels"],
                "taints": node["spec"].get("taints") or [],
            }
            for node in self._plain(self._core.list_node().items)
        ]

    def pods(self) -> list[dict[str, Any]]:
        """Pods of every namespace, including those that are ending."""
        pools = {node["name"]: node["pool"] for node in self.nodes()}
        return [
            {
                "name": pod["metadata"]["name"],
                "phase": (pod.get("status") or {}).get("phase", ""),
                "node": pod["spec"].get("nodeName"),
                "pool": pools.get(pod["spec"].get("nodeName")),
                "ready": _is_ready(pod) and "deletionTimestamp" not in pod["metadata"],
                "containers": [
                    {
                        "name": each["name"],
                        "ready": each["ready"],
                        "restarts": each["restartCount"],
                        "state": next(iter(each.get("state") or {"waiting": {}})),
                    }
                    for each in (pod.get("status") or {}).get("containerStatuses") or []
                ],
            }
            for pod in self._plain(self._core.list_pod_for_all_namespaces().items)
        ]

    def scale(self, namespace: str, deployment: str, replicas: int) -> None:
        """Scales the Deployment as `kubectl scale` does."""
        self._apps.patch_namespaced_deployment_scale(deployment, namespace, {"spec": {"replicas": replicas}})

    def preemptible_node(self, target: str) -> str:
        """The named node, or one of the named pool, preferably a serving one. Raises `ServiceError` if Google takes no such node."""
        nodes = self.nodes()
        serving = {pod["node"] for pod in self.pods() if pod["ready"]}
        named = [node for node in nodes if target in (node["name"], node["pool"])]
        spot = [node for node in named if node["labels"].keys() & _TAKEN_LABELS]
        if not spot:
            known = sorted({node["pool"] for node in nodes if node["labels"].keys() & _TAKEN_LABELS})
            reason = "is not a Spot, preemptible or flex-start node" if named else "is neither a node nor a pool with nodes"
            raise ServiceError(f"{target} {reason}; pools with such nodes now: {', '.join(known) or 'none'}")
        return str(max(spot, key=lambda node: node["name"] in serving)["name"])

    def preempt(self, node: str, notice: float) -> None:
        """Gives Google's notice; the node agent does the rest."""
        self._core.patch_node(node, {"metadata": {"annotations": {PREEMPTION_ANNOTATION: f"{notice:g}"}}})

    def api_key(self, namespace: str) -> str | None:
        """The server's API key from the Kubernetes Secret that its Deployment names; None if the server requires none."""
        for deployment in self._plain(self._apps.list_namespaced_deployment(namespace).items):
            for container in deployment["spec"]["template"]["spec"]["containers"]:
                for variable in container.get("env") or []:
                    if variable["name"] == VARIABLE:
                        name = variable["valueFrom"]["secretKeyRef"]["name"]
                        return base64.b64decode(self._core.read_namespaced_secret(name, namespace).data[SECRET_KEY]).decode()
        return None

    def is_settled(self) -> bool:
        """Whether nothing is pending, starting, ending or moving, and the Deployments have all their replicas."""
        records = list(self._paths.state.glob("clusters/*/autoscaler.json"))
        if not records or not all(json.loads(record.read_text())["settled"] for record in records):
            return False
        for deployment in self._plain(self._apps.list_deployment_for_all_namespaces().items):
            status = deployment.get("status") or {}
            wanted = deployment["spec"]["replicas"]
            if status.get("observedGeneration") != deployment["metadata"]["generation"]:
                return False
            if any((status.get(key) or 0) != wanted for key in ("replicas", "updatedReplicas", "readyReplicas")):
                return False
        # A pod that its node has ended stays as a record for a while.
        return all(pod["ready"] for pod in self.pods() if pod["phase"] not in ("Succeeded", "Failed"))

    def wait_until_settled(self, seconds: float) -> bool:
        """True once the cluster was settled in two checks in a row; False when the time is over."""
        deadline, calm = time.monotonic() + seconds, 0
        while time.monotonic() < deadline:
            calm = calm + 1 if self.is_settled() else 0
            if calm >= 2:
                return True
            time.sleep(0.6)
        return False

    def _plain(self, items: list[Any]) -> list[dict[str, Any]]:
        return list(self._api.sanitize_for_serialization(items))


def chat(service_url: str, model: str, question: str, api_key: str | None = None) -> Answer:
    """One chat completion. Raises `ServiceError`."""
    try:
        return Service(service_url, seconds=_CHAT_SECONDS, key=api_key or "").ask(model, question)
    except Failure as failure:
        raise ServiceError(f"{failure}; {failure.fix}; `python -m sandbox status` shows more") from failure


def wait_for_chat(service_url: str, model: str, question: str, seconds: float, api_key: str | None = None) -> Answer:
    """The first chat completion within so many seconds. Raises the last `ServiceError`."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return chat(service_url, model, question, api_key)
        except ServiceError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def status_document(paths: Paths, service_url: str | None) -> dict[str, Any]:
    """The document of `python -m sandbox status --json`."""
    there = paths.kubeconfig.exists()
    view = ClusterView(paths) if there else None
    return {
        "service_url": service_url,
        "stack": STACK,
        "nodes": view.nodes() if view else [],
        "pods": view.pods() if view else [],
        "out_of_stock": Stock(paths.stock).short(),
        "images": read_notes(paths.state),
    }


def _is_ready(body: dict[str, Any]) -> bool:
    conditions = (body.get("status") or {}).get("conditions") or []
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
