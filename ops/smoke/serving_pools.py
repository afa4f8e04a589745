"""Which node pools serve: the node pools of the pods that are ready behind the service, asked of the cluster; and a way to each pod.

No answer of vLLM's names its pod; when all ready pods are on one pool it is that pool all the same. The cluster is the one of a
kubeconfig, and is believed only if a Service of it has the stack's very address.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import HTTPError
from urllib3.util import Retry

from components.catalog.node_labels import NODE_POOL_LABEL
from ops.smoke.service import Api, Service
from ops.smoke.target import Target

_SECONDS = (5.0, 20.0)

#: What may pass by itself is asked again, with pauses of 0 and 2 s.
_RETRY = Retry(total=2, backoff_factor=1, status_forcelist=(429, 500, 502, 503, 504), raise_on_status=False)


class UnknownPool(Exception):
    """The cluster cannot be asked, or is another one; the message says why and what would help."""


@dataclass(frozen=True, kw_only=True)
class ServingPod:
    """A pod that is ready behind the stack's service."""

    name: str
    #: `no pool` if its node is in none.
    pool: str
    #: The address of the pod's server by the API server's proxy, an OpenAI client's base URL.
    url: str
    #: The kubernetes client's configuration.
    _access: Any

    @contextmanager
    def service(self, *, seconds: float, api: Api = "chat") -> Iterator[Service]:
        """The pod's own server. The proxy passes no `Authorization` header on, so a server that wants an API key answers 401."""
        access = self._access
        with requests.Session() as session:
            # A CA of the environment (REQUESTS_CA_BUNDLE) would take the place of the cluster's.
            session.trust_env = False
            session.verify = (access.ssl_ca_cert or True) if access.verify_ssl else False
            session.cert = (access.cert_file, access.key_file) if access.cert_file and access.key_file else None
            session.proxies = {"https": access.proxy} if access.proxy else {}
            token = next((each["value"] for each in access.auth_settings().values()), "")
            yield Service(self.url, seconds=seconds, key=token.removeprefix("Bearer "), api=api, session=session)


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
        selector, port = _behind(services, target)
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
    pools = {node.metadata.name: (node.metadata.labels or {}).get(NODE_POOL_LABEL, "") for node in nodes}
    base = f"{core.api_client.configuration.host}/api/v1/namespaces/{target.namespace}/pods"
    return [
        ServingPod(
            name=pod.metadata.name,
            pool=pools.get(pod.spec.node_name) or "no pool",
            url=f"{base}/{pod.metadata.name}:{port}/proxy/v1",
            _access=core.api_client.configuration,
        )
        for pod in pods
        if _is_ready(pod)
    ]


def _behind(services: list[Any], target: Target) -> tuple[dict[str, str], int]:
    """The selector, and the pods' port, of the Service that has the stack's address and port: no other cluster has one."""
    parts = urlsplit(target.service_url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    for service in services:
        ingress = (service.status.load_balancer.ingress if service.status.load_balancer else None) or []
        ports = [each.target_port or port for each in service.spec.ports or [] if each.port == port]
        if ports and any(each.ip == target.service_ip for each in ingress):
            return dict(service.spec.selector or {}), ports[0]
    raise UnknownPool(
        f"no Service in namespace {target.namespace} of the kubeconfig's cluster has the address {target.service_ip}: it is "
        f"another cluster (`gcloud container clusters get-credentials {target.cluster_name} "
        f"--location {target.cluster_location}`)"
    )


def _is_ready(pod: Any) -> bool:
    conditions = pod.status.conditions or []
    return pod.metadata.deletion_timestamp is None and any(each.type == "Ready" and each.status == "True" for each in conditions)
