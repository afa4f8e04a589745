"""What a cluster for real traffic has beyond the walkthrough's, as arguments of the cluster and of its node pools.

Each field off is the walkthrough's cluster. Left out: the network itself (`network`), and the policy that Binary Authorization
enforces, which is the project's and not the stack's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pulumi

from components.cluster.network import POD_RANGE_NAME, SERVICE_RANGE_NAME, Network
from components.settings.sections import ClusterSettings, NetworkSettings, Place, SecuritySettings


@dataclass(frozen=True)
class ClusterArgs:
    place: Place
    cluster: ClusterSettings
    security: SecuritySettings
    network: NetworkSettings
    #: The stack's own network; None: the project's default network, public nodes.
    vpc: Network | None
    #: Whether pods can mount Cloud Storage buckets.
    bucket_mounts: bool

    @property
    def dns_endpoint(self) -> bool:
        """Whether the control plane is reached by its DNS name alone, guarded by IAM, and by no address."""
        return self.network.control_plane_endpoint == "dns"

    @property
    def apis(self) -> tuple[str, ...]:
        """Google APIs that these need beyond the cluster's own."""
        return ("binaryauthorization",) if self.security.binary_authorization else ()


def cluster_arguments(args: ClusterArgs) -> dict[str, Any]:
    """Keyword arguments of `container.Cluster`; what is off is not named, and so keeps GKE's default."""
    arguments: dict[str, Any] = {}
    if args.vpc is not None:
        arguments |= {
            "network": args.vpc.network_id,
            "subnetwork": args.vpc.subnetwork_id,
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
    elif args.network.control_plane_source_ranges:
        arguments["master_authorized_networks_config"] = {
            "cidr_blocks": [{"cidr_block": each} for each in args.network.control_plane_source_ranges],
            # Without this every virtual machine of Google Cloud, anybody's, is let in.
            "gcp_public_cidrs_access_enabled": False,
        }
    if args.cluster.maintenance_window is not None:
        window = args.cluster.maintenance_window
        arguments["maintenance_policy"] = {
            "recurring_window": {
                "start_time": window.start,
                "end_time": window.end,
                "recurrence": window.recurrence,
            }
        }
    if args.security.secrets_encryption_key:
        arguments["database_encryption"] = {"state": "ENCRYPTED", "key_name": args.security.secrets_encryption_key}
    if args.security.binary_authorization:
        arguments["binary_authorization"] = {"evaluation_mode": "PROJECT_SINGLETON_POLICY_ENFORCE"}
    if args.network.network_policy:
        # Without GKE Dataplane V2 a NetworkPolicy does nothing.
        arguments["datapath_provider"] = "ADVANCED_DATAPATH"
    if args.cluster.cost_allocation:
        arguments["cost_management_config"] = {"enabled": True}
    if args.place.labels:
        arguments["resource_labels"] = dict(args.place.labels)
    return arguments


def ignored_changes(args: ClusterArgs) -> list[str]:
    """Properties of `container.Cluster` that Google sets as it likes whatever a program says."""
    if args.vpc is None or not args.dns_endpoint:
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
