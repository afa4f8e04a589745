"""Which rung serves: the node pools of the pods that are ready behind the service, asked of the cluster.

vLLM says of no answer which pod made it; with all ready pods on one pool it is that pool all the same. The cluster is the one of
a kubeconfig, and is believed only if a Service of it has the stack's very address.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from components.catalog.node_labels import NODE_POOL_LABEL
from ops.smoke.target import Target

_SECONDS = (5.0, 20.0)

#: Seconds before each new try.
_PAUSES = (0.5, 2.0)


class UnknownRung(Exception):
    """The cluster cannot be asked, or is another one; the message says why and what would help."""


@dataclass(frozen=True, kw_only=True)
class ServingPod:
    """A ready pod behind the service; `pool` is empty for a node that is in none."""

    name: str
    node: str
    pool: str


def serving_pods(target: Target, kubeconfig: str | None) -> list[ServingPod]:
    """Ready pods behind the stack's service. `kubeconfig`: a file; None for kubectl's own choice. Raises `UnknownRung`."""
    if not target.service_ip or not target.namespace:
        raise UnknownRung("without --stack there is no cluster to ask")
    core = _core_api(kubeconfig)
    services = _asked(core.list_namespaced_service, target.namespace)
    selector = _selector(services, target)
    labels = ",".join(f"{key}={value}" for key, value in sorted(selector.items()))
    pods = _asked(core.list_namespaced_pod, target.namespace, label_selector=labels)
    nodes = _asked(core.list_node)
    pools = {node.metadata.name: (node.metadata.labels or {}).get(NODE_POOL_LABEL, "") for node in nodes}
    return [
        ServingPod(name=pod.metadata.name, node=pod.spec.node_name, pool=pools.get(pod.spec.node_name, ""))
        for pod in pods
        if _is_ready(pod)
    ]


def _core_api(kubeconfig: str | None) -> Any:
    try:
        from kubernetes import client, config
    except ImportError as error:
        raise UnknownRung("the package `kubernetes` is not installed (requirements-dev.txt has it)") from error
    configuration = client.Configuration()
    configuration.retries = 0
    try:
        return client.CoreV1Api(config.new_client_from_config(kubeconfig, client_configuration=configuration))
    except (config.ConfigException, OSError, ValueError) as error:
        raise UnknownRung(f"no cluster access: {str(error).splitlines()[0]}") from error


def _asked(list_items: Callable[..., Any], *arguments: str, **options: str) -> list[Any]:
    """The items of a list; what may pass by itself (429, 5xx, a broken connection) is asked again. Raises `UnknownRung`."""
    from kubernetes.client import ApiException
    from urllib3.exceptions import HTTPError

    for pause in (*_PAUSES, None):
        try:
            return list(list_items(*arguments, **options, _request_timeout=_SECONDS).items)
        except ApiException as error:
            if pause is None or not (error.status == 429 or error.status >= 500):
                cure = ": log in again (`gcloud auth login`)" if error.status == 401 else ""
                raise UnknownRung(f"the cluster of the kubeconfig answers {error.status} {error.reason}{cure}") from error
        except (HTTPError, OSError) as error:
            if pause is None:
                raise UnknownRung(f"the cluster of the kubeconfig does not answer ({type(error).__name__})") from error
        time.sleep(pause)
    raise AssertionError("the last round returns or raises")


def _selector(services: list[Any], target: Target) -> dict[str, str]:
    """Of the Service that has the stack's address and port: no other cluster has one."""
    parts = urlsplit(target.service_url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    for service in services:
        ingress = (service.status.load_balancer.ingress if service.status.load_balancer else None) or []
        if any(each.ip == target.service_ip for each in ingress) and any(each.port == port for each in service.spec.ports or []):
            return dict(service.spec.selector or {})
    raise UnknownRung(
        f"no Service in namespace {target.namespace} of the kubeconfig's cluster has the address {target.service_ip}: it is "
        f"another cluster (`gcloud container clusters get-credentials {target.cluster_name} "
        f"--location {target.cluster_location}`)"
    )


def _is_ready(pod: Any) -> bool:
    conditions = pod.status.conditions or []
    return pod.metadata.deletion_timestamp is None and any(each.type == "Ready" and each.status == "True" for each in conditions)
