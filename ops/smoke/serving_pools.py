"""Which node pools serve: the node pools of the pods that are ready behind the service, asked of the cluster; and a way to each pod.

No answer of vLLM's names its pod; when all ready pods are on one pool it is that pool all the same. The cluster is the one of a
kubeconfig, and is believed only if a Service of it has the stack's very address.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from urllib3.exceptions import HTTPError
from urllib3.util import Retry

from components.catalog.node_labels import NODE_POOL_LABEL
from ops.smoke.kubectl import Kubectl, KubectlError
from ops.smoke.service import Api, Failure, Service
from ops.smoke.target import Target

_SECONDS = (5.0, 20.0)

#: What may pass by itself is asked again, with pauses of 0 and 2 s.
_RETRY = Retry(total=2, backoff_factor=1, status_forcelist=(429, 500, 502, 503, 504), raise_on_status=False)


class UnknownPool(Exception):
    """The cluster cannot be asked, or is another one; the message says why and what would help."""


class Unreached(Failure):
    """kubectl does not lead to the pod."""


@dataclass(frozen=True, kw_only=True)
class ServingPod:
    """A pod that is ready behind the stack's service."""

    name: str
    #: `no pool` if its node is in none.
    pool: str
    #: Where its server listens.
    port: int
    node_labels: Mapping[str, str]
    kubectl: Kubectl

    @contextmanager
    def service(self, *, seconds: float, key: str = "", api: Api = "chat") -> Iterator[Service]:
        """The pod's own server, past the load balancer and past any NetworkPolicy. Raises `Unreached`."""
        try:
            with self.kubectl.forwarded(self.name, self.port) as port:
                yield Service(f"http://127.0.0.1:{port}/v1", seconds=seconds, key=key, api=api)
        except KubectlError as error:
            fix = "install kubectl with the cluster's login, and allow `create` of pods/portforward (roles/container.developer has it)"
            raise Unreached(f"pod {self.name} cannot be reached by `kubectl port-forward`: {error}", fix) from error


def serving_pods(target: Target, kubeconfig: str | None) -> list[ServingPod]:
    """The ready pods behind the stack's service. Raises `UnknownPool`.

    `kubeconfig`: a file; None for kubectl's own choice.
    """
    if not target.service_ip or not target.namespace:
        raise UnknownPool("without --stack there is no cluster to ask")
    try:
        from kubernetes import client, config
    except ImportError as error:
        raise UnknownPool("the package `kubernetes` is not installed (requirements-dev.txt has it)") from error
    configuration = client.Configuration()
    configuration.retries = _RETRY
    try:
        core = client.CoreV1Api(config.new_client_from_config(kubeconfig, client_configuration=configuration))
        services = core.list_namespaced_service(target.namespace, _request_timeout=_SECONDS).items
        found = _behind(services, target) or _behind_gateway(services, target, core.api_client, client)
        if found is None:
            raise UnknownPool(
                f"neither a Service nor a Gateway in namespace {target.namespace} of the kubeconfig's cluster has the address "
                f"{target.service_ip}: it is another cluster (`gcloud container clusters get-credentials {target.cluster_name} "
                f"--location {target.cluster_location}`)"
            )
        selector, port = found
        labels = ",".join(f"{key}={value}" for key, value in sorted(selector.items()))
        pods = core.list_namespaced_pod(target.namespace, label_selector=labels, _request_timeout=_SECONDS).items
        nodes = core.list_node(_request_timeout=_SECONDS).items
    except client.ApiException as error:
        fix = ": log in again (`gcloud auth login`)" if error.status == 401 else ""
        raise UnknownPool(f"the cluster of the kubeconfig answers {error.status} {error.reason}{fix}") from error
    except HTTPError as error:
        raise UnknownPool(f"the cluster of the kubeconfig does not answer ({type(error).__name__})") from error
    except (config.ConfigException, OSError, ValueError) as error:
        raise UnknownPool(f"no cluster access: {str(error).splitlines()[0]}") from error
    labels_of = {node.metadata.name: node.metadata.labels or {} for node in nodes}
    kubectl = Kubectl(target.namespace, kubeconfig)
    return [
        ServingPod(name=pod.metadata.name, pool=labels.get(NODE_POOL_LABEL) or "no pool", port=port, node_labels=labels, kubectl=kubectl)
        for pod in pods
        if _is_ready(pod)
        for labels in [labels_of.get(pod.spec.node_name, {})]
    ]


def _behind(services: list[Any], target: Target) -> tuple[dict[str, str], int] | None:
    """The selector, and the pods' port, of the Service that has the stack's address and port: no other cluster has one."""
    parts = urlsplit(target.service_url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    for service in services:
        ingress = (service.status.load_balancer.ingress if service.status.load_balancer else None) or []
        ports = [each.target_port or port for each in service.spec.ports or [] if each.port == port]
        if ports and any(each.ip == target.service_ip for each in ingress):
            return dict(service.spec.selector or {}), ports[0]
    return None


def _behind_gateway(services: list[Any], target: Target, api_client: Any, kubernetes: Any) -> tuple[dict[str, str], int] | None:
    """The same of the Service that has the name of the Gateway with the stack's address."""
    objects, place = kubernetes.CustomObjectsApi(api_client), ("gateway.networking.k8s.io", "v1", target.namespace, "gateways")
    try:
        listed = objects.list_namespaced_custom_object(*place, _request_timeout=_SECONDS)
    except kubernetes.ApiException as error:
        if error.status != 404:
            raise
        # The cluster knows no Gateways.
        return None
    names = {
        each["metadata"]["name"]
        for each in listed["items"]
        if any(address.get("value") == target.service_ip for address in each.get("status", {}).get("addresses") or [])
    }
    for service in services:
        if service.metadata.name in names and service.spec.ports:
            return dict(service.spec.selector or {}), service.spec.ports[0].target_port
    return None


def _is_ready(pod: Any) -> bool:
    conditions = pod.status.conditions or []
    return pod.metadata.deletion_timestamp is None and any(each.type == "Ready" and each.status == "True" for each in conditions)
