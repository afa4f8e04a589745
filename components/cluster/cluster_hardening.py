"""What a cluster for real traffic has beyond the walkthrough's, as arguments of the cluster and of its node pools.

Each field off is the walkthrough's cluster. Left out: the network itself (`network`), and the policy that Binary Authorization
enforces, which is the project's and not the stack's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi

from components.cluster.network import POD_RANGE_NAME, SERVICE_RANGE_NAME, Network
from components.settings.maintenance_window import MaintenanceWindow
from components.settings.settings import Settings


@dataclass(frozen=True, kw_only=True)
class ClusterHardening:
    #: None: the project's default network, public nodes.
    network: Network | None
    #: Whether the control plane is reached by its DNS name alone, guarded by IAM, and by no address.
    dns_endpoint: bool
    #: IPv4 CIDR that may reach the control plane's address; empty lets everyone try.
    control_plane_source_ranges: Sequence[str]
    maintenance_window: MaintenanceWindow | None
    #: `projects/P/locations/L/keyRings/R/cryptoKeys/K`; empty: Google's own encryption alone.
    secrets_encryption_key: str
    binary_authorization: bool
    #: GKE Dataplane V2, without which a NetworkPolicy does nothing.
    dataplane_v2: bool
    cost_allocation: bool
    labels: Mapping[str, str]

    @classmethod
    def of(cls, settings: Settings, network: Network | None) -> ClusterHardening:
        return cls(
            network=network,
            dns_endpoint=settings.control_plane_endpoint == "dns",
            control_plane_source_ranges=settings.control_plane_source_ranges,
            maintenance_window=settings.maintenance_window,
            secrets_encryption_key=settings.secrets_encryption_key,
            binary_authorization=settings.binary_authorization,
            dataplane_v2=settings.network_policy,
            cost_allocation=settings.cost_allocation,
            labels=settings.labels,
        )

    @property
    def apis(self) -> tuple[str, ...]:
        """Google APIs that these need beyond the cluster's own."""
        return ("binaryauthorization",) if self.binary_authorization else ()


def cluster_arguments(args: ClusterHardening) -> dict[str, Any]:
    """Keyword arguments of `container.Cluster`; what is off is not named, and so keeps GKE's default."""
    arguments: dict[str, Any] = {}
    if args.network is not None:
        arguments |= {
            "network": args.network.network_id,
            "subnetwork": args.network.subnetwork_id,
            "networking_mode": "VPC_NATIVE",
            "ip_allocation_policy": {
                "cluster_secondary_range_name": POD_RANGE_NAME,
                "services_secondary_range_name": SERVICE_RANGE_NAME,
            },
            "private_cluster_config": {"enable_private_nodes": True},
        }
    if args.dns_endpoint:
        arguments["control_plane_endpoints_config"] = {
            # "External" is everything that is not Google's own: IAM (container.clusters.connect) decides who gets through.
            "dns_endpoint_config": {"allow_external_traffic": True},
            "ip_endpoints_config": {"enabled": False},
        }
    elif args.control_plane_source_ranges:
        arguments["master_authorized_networks_config"] = {
            "cidr_blocks": [{"cidr_block": each} for each in args.control_plane_source_ranges],
            # Without this every virtual machine of Google Cloud, anybody's, is let in.
            "gcp_public_cidrs_access_enabled": False,
        }
    if args.maintenance_window is not None:
        window = args.maintenance_window
        arguments["maintenance_policy"] = {
            "recurring_window": {
                "start_time": window.start,
                "end_time": window.end,
                "recurrence": window.recurrence,
            }
        }
    if args.secrets_encryption_key:
        arguments["database_encryption"] = {"state": "ENCRYPTED", "key_name": args.secrets_encryption_key}
    if args.binary_authorization:
        arguments["binary_authorization"] = {"evaluation_mode": "PROJECT_SINGLETON_POLICY_ENFORCE"}
    if args.dataplane_v2:
        arguments["datapath_provider"] = "ADVANCED_DATAPATH"
    if args.cost_allocation:
        arguments["cost_management_config"] = {"enabled": True}
    if args.labels:
        arguments["resource_labels"] = dict(args.labels)
    return arguments


def ignored_changes(args: ClusterHardening) -> list[str]:
    """Properties of `container.Cluster` that Google sets as it likes whatever a program says."""
    if args.network is None or not args.dns_endpoint:
        return []
    # Without addresses of the control plane GKE fixes both, and older providers see a difference for ever:
    # https://github.com/hashicorp/terraform-provider-google/issues/27901
    return ["privateClusterConfig.enablePrivateEndpoint", "privateClusterConfig.masterGlobalAccessConfig"]


def node_pool_arguments(private_nodes: bool) -> dict[str, Any]:
    """Keyword arguments of `container.NodePool`, said of each pool so that a pool shows what it is."""
    return {"network_config": {"enable_private_nodes": True}} if private_nodes else {}


def node_labels(labels: Mapping[str, str]) -> dict[str, Any]:
    """Part of a pool's `node_config`: the labels of its machines and disks, which is what bills are split by."""
    return {"resource_labels": dict(labels)} if labels else {}


#: Of a cluster that could not be made. With `--continue-on-error` the program goes on after it, and nothing that needs the cluster is made;
#: a kubeconfig that is missing would be the machine's own, and so another cluster's.
NO_ENDPOINT = ("cluster-could-not-be-made.invalid", None)


def kubeconfig_endpoint(cluster: Any, dns_endpoint: bool) -> pulumi.Output[tuple[str, str | None]]:
    """Host of the control plane, and the certificate to trust: None where it is a public authority's, as the DNS name's is."""
    if dns_endpoint:
        endpoint: pulumi.Output[tuple[str, str | None]] = cluster.control_plane_endpoints_config.apply(dns_endpoint_of)
        return endpoint
    certificate = cluster.master_auth.apply(lambda auth: auth.cluster_ca_certificate if auth else None)
    return pulumi.Output.all(cluster.endpoint, certificate).apply(lambda known: ip_endpoint_of(*known))


def dns_endpoint_of(config: Any) -> tuple[str, str | None]:
    """`config`: the cluster's control_plane_endpoints_config."""
    found = config.dns_endpoint_config if config else None
    return (str(found.endpoint), None) if found else NO_ENDPOINT


def ip_endpoint_of(endpoint: str | None, certificate: str | None) -> tuple[str, str | None]:
    return (endpoint, certificate) if endpoint and certificate else NO_ENDPOINT
