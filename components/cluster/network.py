"""What a cluster with private nodes is attached to: a network that somebody else owns, or the stack's own VPC.

The stack's own has one subnetwork with ranges for nodes, pods and Services, and Cloud NAT. Nodes reach Google's services (images, logs,
metrics) by Private Google Access, and everything else (Hugging Face, Docker Hub) through the NAT. Of an existing one nothing is made or
changed; its owner sees to the same (docs/hardening.md). Left out: firewall rules, which GKE makes for what it runs, and ways into the
network (VPN, peering).
"""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
from pulumi_gcp import compute

from components.cluster.project_services import enable_apis
from components.cluster.replacement import beside, successor_first
from components.settings.sections import NetworkSettings, Place

#: Names of the subnetwork's secondary ranges.
POD_RANGE_NAME = "pods"
SERVICE_RANGE_NAME = "services"


@dataclass(frozen=True)
class NetworkArgs:
    place: Place
    #: Name of the network, the router and the NAT; at most 57 characters.
    name: str
    network: NetworkSettings


@dataclass(frozen=True, kw_only=True)
class ClusterNetwork:
    """Where nodes, pods and Services have their addresses."""

    #: `projects/P/global/networks/N`.
    network_id: pulumi.Input[str]
    #: `projects/P/regions/R/subnetworks/N`.
    subnetwork_id: pulumi.Input[str]
    #: Names of the subnetwork's secondary ranges.
    pod_range: str
    service_range: str
    #: What makes all of it; None for an existing one.
    resource: pulumi.Resource | None = None


def cluster_network(place: Place, cluster_name: str, network: NetworkSettings, opts: pulumi.ResourceOptions) -> ClusterNetwork | None:
    """None for the project's default network, with public nodes."""
    if network.ranges is not None:
        return Network("network", NetworkArgs(place, cluster_name, network), opts).made
    vpc = network.existing
    if vpc is None:
        return None
    owner = vpc.host_project or place.project
    return ClusterNetwork(
        network_id=f"projects/{owner}/global/networks/{vpc.network}",
        subnetwork_id=f"projects/{owner}/regions/{place.region}/subnetworks/{vpc.subnetwork}",
        pod_range=vpc.pod_range,
        service_range=vpc.service_range,
    )


class Network(pulumi.ComponentResource):
    """A VPC network for private nodes only."""

    made: ClusterNetwork

    def __init__(self, name: str, args: NetworkArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("fungibility:index:Network", name, None, opts)
        ranges, gateway = args.network.ranges, args.network.gateway
        assert ranges is not None
        network = compute.Network(
            name,
            project=args.place.project,
            name=args.name,
            auto_create_subnetworks=False,
            routing_mode="REGIONAL",
            # Explicit, since no output depends on an API being on.
            opts=successor_first(self, depends_on=enable_apis(name, ["compute"], project=args.place.project, parent=self)),
        )
        # The cluster cannot move to a subnetwork with other ranges, and the gateway's proxies are in use until others serve.
        subnetwork_options = beside(self, "Subnetwork")
        subnetwork = compute.Subnetwork(
            f"{name}-nodes",
            project=args.place.project,
            region=args.place.region,
            name=f"{args.name}-nodes",
            network=network.id,
            ip_cidr_range=ranges.nodes,
            secondary_ip_ranges=[
                {"range_name": POD_RANGE_NAME, "ip_cidr_range": ranges.pods},
                {"range_name": SERVICE_RANGE_NAME, "ip_cidr_range": ranges.services},
            ],
            private_ip_google_access=True,
            opts=subnetwork_options,
        )
        if gateway is not None and gateway.regional:
            compute.Subnetwork(
                f"{name}-proxies",
                project=args.place.project,
                region=args.place.region,
                name=f"{args.name}-proxies",
                network=network.id,
                ip_cidr_range=gateway.proxy_range,
                # https://docs.cloud.google.com/load-balancing/docs/proxy-only-subnets: one active one in a region of a network.
                purpose="REGIONAL_MANAGED_PROXY",
                role="ACTIVE",
                opts=subnetwork_options,
            )
        router = compute.Router(
            name, project=args.place.project, region=args.place.region, name=args.name, network=network.id, opts=successor_first(self)
        )
        nat = compute.RouterNat(
            name,
            project=args.place.project,
            region=args.place.region,
            name=args.name,
            router=router.name,
            nat_ip_allocate_option="AUTO_ONLY",
            # Pods have addresses in a secondary range, which need the NAT too.
            source_subnetwork_ip_ranges_to_nat="ALL_SUBNETWORKS_ALL_IP_RANGES",
            # A server opens many connections to one host at once while it downloads weights.
            enable_dynamic_port_allocation=True,
            log_config={"enable": True, "filter": "ERRORS_ONLY"},
            opts=successor_first(self),
        )
        # Through the NAT too, so that no node starts without a way out.
        subnetwork_id = pulumi.Output.all(subnetwork.id, nat.id).apply(lambda known: str(known[0]))
        self.made = ClusterNetwork(
            network_id=network.id, subnetwork_id=subnetwork_id, pod_range=POD_RANGE_NAME, service_range=SERVICE_RANGE_NAME, resource=self
        )
        self.register_outputs({"network_id": network.id, "subnetwork_id": subnetwork_id})
