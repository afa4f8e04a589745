"""What a cluster for real traffic has beyond the walkthrough's, as arguments of the cluster and of its node pools.

With every field off it is the walkthrough's cluster. Left out: the network itself (`network`), and the policy that Binary
Authorization enforces, which belongs to the project and not to the stack.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pulumi

from components.cluster.network import ClusterNetwork
from components.settings.sections import ClusterSettings, NetworkSettings, Place, SecuritySettings

EVERYONE = "0.0.0.0/0"


@dataclass(frozen=True)
class ClusterArgs:
    place: Place
    cluster: ClusterSettings
    security: SecuritySettings
    network: NetworkSettings
    #: None: the project's default network, public nodes.
    vpc: ClusterNetwork | None
    #: Whether pods can mount Cloud Storage buckets.
    bucket_mounts: bool

    @property
    def dns_endpoint(self) -> bool:
        """Whether the control plane is reached only by its DNS name, which IAM guards, and not by an IP address."""
        return self.network.control_plane_endpoint == "dns"

    @property
    def apis(self) -> tuple[str, ...]:
        """Google APIs that these settings need beyond the cluster's own."""
        return ("binaryauthorization",) if self.security.binary_authorization else ()


def cluster_arguments(args: ClusterArgs) -> dict[str, Any]:
    """Keyword arguments of `container.Cluster`.

    Off is said: a block that the provider's schema computes keeps its old value, without a difference in the preview, when the program no
    longer names it.
    """
    security, private = args.security, args.vpc is not None
    arguments: dict[str, Any] = {
        **_control_plane(args),
        "private_cluster_config": {"enable_private_nodes": private},
        "database_encryption": (
            {"state": "ENCRYPTED", "key_name": security.secrets_encryption_key}
            if security.secrets_encryption_key
            else {"state": "DECRYPTED"}
        ),
        "binary_authorization": {"evaluation_mode": "PROJECT_SINGLETON_POLICY_ENFORCE" if security.binary_authorization else "DISABLED"},
        # Without GKE Dataplane V2 a NetworkPolicy does nothing. A change replaces the cluster, either way.
        "datapath_provider": "ADVANCED_DATAPATH" if args.network.network_policy else "LEGACY_DATAPATH",
        "cost_management_config": {"enabled": args.cluster.cost_allocation},
        "gateway_api_config": {"channel": "CHANNEL_STANDARD" if args.network.gateway else "CHANNEL_DISABLED"},
        "addons_config": {"gcs_fuse_csi_driver_config": {"enabled": args.bucket_mounts}},
    }
    if not args.dns_endpoint:
        arguments["private_cluster_config"]["enable_private_endpoint"] = False
    if args.vpc is not None:
        arguments |= {
            "network": args.vpc.network_id,
            "subnetwork": args.vpc.subnetwork_id,
            "networking_mode": "VPC_NATIVE",
            "ip_allocation_policy": {
                "cluster_secondary_range_name": args.vpc.pod_range,
                "services_secondary_range_name": args.vpc.service_range,
            },
        }
    if args.cluster.maintenance_window is not None:
        window = args.cluster.maintenance_window
        arguments["maintenance_policy"] = {
            "recurring_window": {"start_time": window.start, "end_time": window.end, "recurrence": window.recurrence}
        }
    if args.place.labels:
        arguments["resource_labels"] = dict(args.place.labels)
    return arguments


def _control_plane(args: ClusterArgs) -> dict[str, Any]:
    """The ways to the control plane: by DNS name, or by address for the ranges that may use it."""
    endpoints = {
        # "External" is everything that is not Google's own: IAM (container.clusters.connect) decides who gets through.
        "dns_endpoint_config": {"allow_external_traffic": args.dns_endpoint},
        "ip_endpoints_config": {"enabled": not args.dns_endpoint},
    }
    if args.dns_endpoint:
        return {"control_plane_endpoints_config": endpoints}
    ranges = args.network.control_plane_source_ranges
    return {
        "control_plane_endpoints_config": endpoints,
        # The provider cannot switch authorized networks off again, so "everyone" is a range as any other.
        "master_authorized_networks_config": {
            "cidr_blocks": [{"cidr_block": each} for each in ranges or (EVERYONE,)],
            # With ranges, this set to true would admit every customer's virtual machines in Google Cloud.
            "gcp_public_cidrs_access_enabled": not ranges,
        },
    }


def ignored_changes(args: ClusterArgs) -> list[str]:
    """Properties of `container.Cluster` that Google sets whatever the program asks for."""
    if args.vpc is None or not args.dns_endpoint:
        return []
    # Without IP addresses of the control plane GKE sets both, and older providers see a difference forever:
    # https://github.com/hashicorp/terraform-provider-google/issues/27901
    return ["privateClusterConfig.enablePrivateEndpoint", "privateClusterConfig.masterGlobalAccessConfig"]


def node_pool_arguments(private_nodes: bool) -> dict[str, Any]:
    """Keyword arguments of `container.NodePool`, said of each pool so that a pool shows what it is."""
    return {"network_config": {"enable_private_nodes": private_nodes}}


def node_labels(labels: Mapping[str, str]) -> dict[str, Any]:
    """Part of a pool's `node_config`: the labels of its machines and disks, by which bills are split."""
    return {"resource_labels": dict(labels)} if labels else {}


#: Stands in for a cluster that could not be made. With `--continue-on-error` the program goes on, and nothing that needs the cluster is
#: made. A missing kubeconfig would be replaced by the machine's own, which names another cluster.
NO_ENDPOINT = ("cluster-could-not-be-made.invalid", None)


def kubeconfig_endpoint(cluster: Any, dns_endpoint: bool) -> pulumi.Output[tuple[str, str | None]]:
    """Host of the control plane, and the certificate to trust: None if a public authority signed it, as for the DNS name."""
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
