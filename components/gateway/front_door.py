"""The Gateway in front of the servers: TLS, and a load balancer that sends each request to a pod by itself.

GKE makes a network endpoint group of the Service's pods, so that requests reach a pod without another node between. Left out: what
selects among the pods by their load (`inference_pool`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
from pulumi_kubernetes import apiextensions

from components.cluster.network import ClusterNetwork
from components.gateway import objects
from components.gateway.certificate import ManagedCertificate
from components.gateway.clients import client_policy
from components.gateway.inference_pool import InferencePool
from components.serving.inference_server import APP_LABELS, SERVER_PORT, SERVICE_NAME
from components.settings.gateway import Gateway
from components.settings.sections import NetworkSettings, Place, ServerSettings

#: Seconds that Google may take to make a load balancer; minutes are usual.
_READY_SECONDS = 1800


@dataclass(frozen=True)
class FrontDoorArgs:
    place: Place
    #: Beginning of the names of Google's resources.
    cluster_name: str
    server: ServerSettings
    settings: NetworkSettings
    #: The stack's own network, whose proxy-only subnet has to be there first.
    network: ClusterNetwork | None


class GatewayObject(pulumi.CustomResource):
    """A Gateway, with the `status` that the SDK's class for custom resources does not show."""

    status: pulumi.Output[Any]

    def __init__(self, name: str, metadata: Mapping[str, Any], spec: Mapping[str, Any], opts: pulumi.ResourceOptions) -> None:
        properties = {"apiVersion": objects.API, "kind": "Gateway", "metadata": metadata, "spec": spec, "status": None}
        super().__init__(f"kubernetes:{objects.API}:Gateway", name, properties, opts)


def address_of(status: Any) -> str | None:
    """The load balancer's address, for which the provider waits; None if the Gateway could not be made (see `ingress_ip`)."""
    addresses = (status or {}).get("addresses")
    return str(addresses[0]["value"]) if addresses else None


class FrontDoor(pulumi.ComponentResource):
    """A Gateway with its routes and policies."""

    #: None only if an update could not make the Gateway.
    service_ip: pulumi.Output[str | None]
    #: Ends in `/v1`.
    service_url: pulumi.Output[str | None]
    #: `{name, type, data}` of the records that the host name's domain needs.
    dns_records: pulumi.Output[Sequence[dict[str, str]]]

    def __init__(self, name: str, args: FrontDoorArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("fungibility:index:FrontDoor", name, None, opts)
        gateway, namespace = args.settings.gateway, args.server.namespace
        assert gateway is not None
        certificate: ManagedCertificate | None = None
        if gateway.makes_certificate:
            in_here = pulumi.ResourceOptions(parent=self)
            certificate = ManagedCertificate(f"{name}-certificate", args.place, args.cluster_name, gateway, in_here)
        reference = certificate.reference if certificate else ""
        if gateway.certificate is None:
            pulumi.log.warn(
                "gateway.hostName: is empty, so the service speaks HTTP, and anyone who reads traffic inside the VPC reads API keys and "
                "prompts. Fix: give gateway.hostName and gateway.certificate.",
                resource=self,
            )
        made = GatewayObject(
            name,
            {
                "name": SERVICE_NAME,
                "namespace": namespace,
                "annotations": {
                    # Accepted is not enough: only a programmed Gateway has an address.
                    "pulumi.com/waitFor": "condition=Programmed",
                    "pulumi.com/timeoutSeconds": str(_READY_SECONDS),
                    **objects.map_annotation(gateway, reference),
                },
            },
            {"gatewayClassName": gateway.class_name, "listeners": objects.listeners(gateway, reference)},
            # Its load balancer has no proxies without their subnet, which nothing else here names.
            pulumi.ResourceOptions(parent=self, depends_on=[args.network.resource] if args.network and args.network.resource else []),
        )
        target = {"group": "", "kind": "Service", "name": SERVICE_NAME}
        backend: dict[str, Any] = {"name": SERVICE_NAME, "port": args.settings.service_port}
        if args.settings.inference_gateway:
            here = pulumi.ResourceOptions(parent=self)
            project = args.place.project
            pool = InferencePool(
                f"{name}-pool", SERVICE_NAME, namespace, project=project, pod_labels=APP_LABELS, port=SERVER_PORT, opts=here
            )
            target = backend = pool.reference
        for route, spec in objects.routes(gateway, SERVICE_NAME, backend).items():
            self._object(f"{name}{route.removeprefix(SERVICE_NAME)}", objects.API, "HTTPRoute", route, namespace, spec)
        self._object(name, objects.POLICY_API, "HealthCheckPolicy", SERVICE_NAME, namespace, objects.health_check(target, SERVER_PORT))
        policy = objects.backend_policy(
            target,
            draining_seconds=args.server.termination_grace_period_seconds,
            security_policy=client_policy(f"{name}-clients", args.place, f"{args.cluster_name}-clients", gateway, parent=self),
        )
        self._object(name, objects.POLICY_API, "GCPBackendPolicy", SERVICE_NAME, namespace, policy)
        self.service_ip = made.status.apply(address_of)
        self.service_url = self.service_ip.apply(lambda ip: _url(gateway, ip))
        records = [certificate.record] if certificate else []
        self.dns_records = pulumi.Output.all(self.service_ip, *records).apply(lambda known: _records(gateway, known[0], known[1:]))
        self.register_outputs({"service_ip": self.service_ip, "service_url": self.service_url, "dns_records": self.dns_records})

    def _object(self, name: str, api: str, kind: str, object_name: str, namespace: str, spec: Any) -> None:
        apiextensions.CustomResource(
            name,
            api_version=api,
            kind=kind,
            metadata={"name": object_name, "namespace": namespace},
            spec=spec,
            opts=pulumi.ResourceOptions(parent=self),
        )


def _url(gateway: Gateway, ip: str | None) -> str | None:
    if ip is None:
        return None
    return f"https://{gateway.host_name}/v1" if gateway.certificate else f"http://{ip}/v1"


def _records(gateway: Gateway, ip: str | None, authorizations: Sequence[dict[str, str]]) -> Sequence[dict[str, str]]:
    host = [{"name": f"{gateway.host_name}.", "type": "A", "data": ip}] if gateway.host_name and ip else []
    return [*host, *(each for each in authorizations if each)]
