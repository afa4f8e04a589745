"""Who may open connections to the servers: clients through the load balancer, the metrics collectors, and namespaces by name.

A gateway ends clients' connections: what comes to a pod then comes from Google's proxies and health checks, which are admitted, and from
no client. The Service's own load balancer passes packets through with their senders' addresses (externalTrafficPolicy Local), so clients
can be admitted by address. Two need no rule: the kubelet, whose probes come from the pod's own node, which Kubernetes always admits; and
that balancer's health checks, which ask the node and not the pod. Left out: what the servers themselves may reach (the model's downloads).
docs/hardening.md has the sources.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any

import pulumi
from pulumi_kubernetes import networking

from components.settings.sections import NetworkSettings

#: Where GKE runs the collectors of Managed Service for Prometheus, on Standard and on Autopilot clusters.
MONITORING_NAMESPACES = ("gmp-system", "gke-gmp-system")

#: Where health checks come from, and the global load balancer's proxies; those of regional ones are in the proxy-only subnet.
#: https://docs.cloud.google.com/load-balancing/docs/firewall-rules
GOOGLE_RANGES = ("35.191.0.0/16", "130.211.0.0/22")

#: Of the pods that ask the servers for their load, where a gateway chooses by it.
PICKER_LABELS = {"app": "vllm-endpoint-picker"}

_NAMESPACE_LABEL = "kubernetes.io/metadata.name"
_EVERYONE = "0.0.0.0/0"


def address_block(cidr: str, pod_range: str | None) -> dict[str, Any]:
    """An `ipBlock` without the cluster's pods."""
    block: dict[str, Any] = {"cidr": cidr}
    if pod_range and ipaddress.IPv4Network(pod_range).subnet_of(ipaddress.IPv4Network(cidr)):
        block["except_"] = [pod_range]
    return block


def _sources(network: NetworkSettings) -> Sequence[str]:
    if network.gateway is not None:
        return [*GOOGLE_RANGES, *([network.gateway.proxy_range] if network.gateway.regional else [])]
    return network.load_balancer_source_ranges or [_EVERYONE]


def network_policy_spec(network: NetworkSettings, *, pod_labels: Mapping[str, str], port: int) -> Any:
    """`spec` of the NetworkPolicy, which refuses all other connections."""
    namespaces = [*MONITORING_NAMESPACES, *network.client_namespaces]
    # Inside the cluster an address does not admit a client.
    pod_range = network.ranges.pods if network.ranges else None
    sources = [{"ip_block": address_block(each, pod_range)} for each in _sources(network)]
    inside = {"namespace_selector": {"match_expressions": [{"key": _NAMESPACE_LABEL, "operator": "In", "values": namespaces}]}}
    picker = [{"pod_selector": {"match_labels": PICKER_LABELS}}] if network.inference_gateway else []
    return {
        "pod_selector": {"match_labels": dict(pod_labels)},
        "policy_types": ["Ingress"],
        "ingress": [{"from_": [*sources, inside, *picker], "ports": [{"protocol": "TCP", "port": port}]}],
    }


def service_arguments(network: NetworkSettings) -> dict[str, Any]:
    """Part of the Service's spec: a policy needs the senders' addresses unchanged."""
    return {"external_traffic_policy": "Local"} if network.local_traffic else {}


def network_policy(
    name: str, network: NetworkSettings, *, namespace: str, pod_labels: Mapping[str, str], port: int, parent: pulumi.Resource
) -> None:
    """Makes the NetworkPolicy if the settings ask for one."""
    if not network.network_policy:
        return
    networking.v1.NetworkPolicy(
        name,
        metadata={"name": name, "namespace": namespace},
        spec=network_policy_spec(network, pod_labels=pod_labels, port=port),
        opts=pulumi.ResourceOptions(parent=parent),
    )
