"""The stack's own VPC: one subnetwork with ranges for nodes, pods and Services, Cloud NAT for nodes without public addresses, and the
proxies' subnet of a gateway.

Nodes reach Google's own services (images, logs, metrics) by Private Google Access, and everything else (Hugging Face, Docker Hub)
through the NAT. Left out: firewall rules, which GKE makes for what it runs, and ways into the network (VPN, peering).
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


class Network(pulumi.ComponentResource):
    """A VPC network for private nodes only."""

    #: `projects/P/global/networks/N`.
    network_id: pulumi.Output[str]
    #: `projects/P/regions/R/subnetworks/N`.
    subnetwork_id: pulumi.Output[str]

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
            # The cluster cannot move to a subnetwork with other ranges.
            opts=beside(self, "Subnetwork"),
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
                opts=pulumi.ResourceOptions(parent=self),
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
        self.network_id = network.id
        # Through the NAT too, so that no node starts without a way out.
        self.subnetwork_id = pulumi.Output.all(subnetwork.id, nat.id).apply(lambda known: str(known[0]))
        self.register_outputs({"network_id": self.network_id, "subnetwork_id": self.subnetwork_id})
