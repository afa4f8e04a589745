"""The GKE cluster: control plane, system node pool, and the least-privileged identity that all its nodes share.

Left out: accelerator pools (`accelerator_pools`), whose failures then never affect the cluster, and hardening (`cluster_hardening`).
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pulumi
from pulumi_gcp import container, projects, serviceaccount

from components.catalog.boot_disks import SYSTEM_DISK_GB, plain_disk_type
from components.catalog.node_labels import SYSTEM_POOL_NAME
from components.cluster.cluster_hardening import (
    ClusterArgs,
    cluster_arguments,
    ignored_changes,
    kubeconfig_endpoint,
    node_labels,
    node_pool_arguments,
)
from components.cluster.image_streaming import prepare_image_streaming, streaming_config
from components.cluster.project_services import enable_apis
from components.cluster.replacement import beside, successor_first

#: Covers everything that a node does besides pulling images: logs, metrics, autoscaling reports.
#: https://docs.cloud.google.com/kubernetes-engine/docs/how-to/hardening-your-cluster#use_least_privilege_sa
NODE_ROLE = "roles/container.defaultNodeServiceAccount"

_APIS = ("compute", "container", "iam", "cloudresourcemanager")

#: IAM's limit on the name of a service account.
_MAX_ACCOUNT_LENGTH = 30


def node_account_id(cluster_name: str) -> str:
    """`CLUSTER-nodes`; a name too long for that is cut and gets a hash, so that two clusters never share an account."""
    account_id = f"{cluster_name}-nodes"
    if len(account_id) <= _MAX_ACCOUNT_LENGTH:
        return account_id
    digest = hashlib.sha256(cluster_name.encode()).hexdigest()[:8]
    return f"{cluster_name[:15].rstrip('-')}-{digest}-nodes"


def make_kubeconfig(*, context: str, endpoint: str, ca_certificate: str | None) -> str:
    """A kubeconfig that holds no credential: Google's plugin gets a fresh token for its user.

    Without `ca_certificate` clients use the machine's own certificate authorities, as for every public site.
    """
    server = {"server": f"https://{endpoint}"}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": context, "cluster": server | ({"certificate-authority-data": ca_certificate} if ca_certificate else {})}],
        "contexts": [{"name": context, "context": {"cluster": context, "user": context}}],
        "current-context": context,
        "users": [
            {
                "name": context,
                "user": {
                    "exec": {
                        "apiVersion": "client.authentication.k8s.io/v1beta1",
                        "command": "gke-gcloud-auth-plugin",
                        "installHint": "gcloud components install gke-gcloud-auth-plugin",
                        "interactiveMode": "IfAvailable",
                        "provideClusterInfo": True,
                    }
                },
            }
        ],
    }
    return json.dumps(config, indent=2)


def node_defaults(service_account: pulumi.Input[str], *, image_streaming: bool) -> dict[str, Any]:
    """The part of a node's configuration that is the same for every pool; wire names of NodePool.nodeConfig."""
    return {
        "service_account": service_account,
        # The account's roles decide what it may do; scopes are an older and coarser restriction.
        "oauth_scopes": ["https://www.googleapis.com/auth/cloud-platform"],
        **streaming_config(image_streaming),
        "shielded_instance_config": {"enable_integrity_monitoring": True},
        # Pods get the identity of their Kubernetes service account, never the node's.
        "workload_metadata_config": {"mode": "GKE_METADATA"},
    }


def plain_machine(machine_type: str) -> dict[str, Any]:
    """Machine and boot disk of a node without accelerator; wire names of NodePool.nodeConfig."""
    return {"machine_type": machine_type, "disk_type": plain_disk_type(machine_type), "disk_size_gb": SYSTEM_DISK_GB}


class Cluster(pulumi.ComponentResource):
    """A Standard cluster that is ready for accelerator pools."""

    #: Runs what GKE itself needs; without it nothing answers the webhooks of the cluster's own parts.
    system_pool: container.NodePool
    name: pulumi.Output[str]
    location: pulumi.Output[str]
    #: Secret although it holds no credential, since it names the control plane.
    kubeconfig: pulumi.Output[str]
    #: `projects/P/locations/L/clusters/N`.
    cluster_id: pulumi.Output[str]
    #: `PROJECT.svc.id.goog`: the identities of the cluster's pods.
    workload_pool: pulumi.Output[str]
    #: E-mail address of the account that nodes run as.
    node_service_account: pulumi.Output[str]

    def __init__(self, name: str, args: ClusterArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("fungibility:index:Cluster", name, None, opts)
        apis = enable_apis(name, (*_APIS, *args.apis), project=args.place.project, parent=self)
        account = serviceaccount.Account(
            f"{name}-nodes",
            project=args.place.project,
            account_id=node_account_id(args.cluster.name),
            display_name=f"Nodes of GKE cluster {args.cluster.name}",
            # Explicit, since no output depends on an API being on.
            opts=successor_first(self, depends_on=apis),
        )
        node_role = projects.IAMMember(
            f"{name}-node-role",
            project=args.place.project,
            role=NODE_ROLE,
            member=account.email.apply(lambda email: f"serviceAccount:{email}"),
            opts=successor_first(self),
        )
        # Without its role a node cannot report that it is ready.
        before_nodes: list[pulumi.Resource] = [node_role]
        if args.cluster.image_streaming:
            before_nodes += prepare_image_streaming(name, project=args.place.project, node_service_account=account.email, parent=self)
        cluster = container.Cluster(
            name,
            project=args.place.project,
            name=args.cluster.name,
            location=args.place.cluster_location,
            deletion_protection=args.cluster.deletion_protection,
            release_channel={"channel": args.cluster.release_channel},
            workload_identity_config={"workload_pool": f"{args.place.project}.svc.id.goog"},
            enable_shielded_nodes=True,
            monitoring_config={
                # The last two are kube state metrics, which the dashboard and the alerts query for pods and Deployments.
                "enable_components": ["SYSTEM_COMPONENTS", "POD", "DEPLOYMENT"],
                "managed_prometheus": {"enabled": True, "auto_monitoring_config": {"scope": args.cluster.auto_monitoring_scope}},
            },
            node_pool_defaults={"node_config_defaults": streaming_config(args.cluster.image_streaming)},
            # A pool that belongs to the cluster resource cannot change without replacing the cluster: the default one
            # goes at once, and the system pool below is a resource of its own.
            remove_default_node_pool=True,
            initial_node_count=1,
            # The default pool lives for a minute, but without this it needs the project's default service account, room for e2
            # machines in every zone, and 300 GB of the project's quota of SSDs.
            node_config={"service_account": account.email, **plain_machine(args.cluster.system_machine_type)},
            **cluster_arguments(args),
            opts=pulumi.ResourceOptions.merge(
                beside(self, "Cluster"),
                pulumi.ResourceOptions(
                    # Google refuses only after everything on the cluster is gone; Pulumi refuses first.
                    protect=args.cluster.deletion_protection,
                    depends_on=before_nodes,
                    # Both describe the default pool, which no longer exists: Google reports other pools' values there.
                    ignore_changes=["nodeConfig", "initialNodeCount", *ignored_changes(args)],
                ),
            ),
        )
        self.system_pool = container.NodePool(
            f"{name}-system",
            project=args.place.project,
            name=SYSTEM_POOL_NAME,
            cluster=cluster.name,
            location=args.place.cluster_location,
            node_count=args.cluster.system_nodes_per_zone,
            management={"auto_repair": True, "auto_upgrade": True},
            node_config={
                **plain_machine(args.cluster.system_machine_type),
                **node_defaults(account.email, image_streaming=args.cluster.image_streaming),
                **node_labels(args.place.labels),
            },
            **node_pool_arguments(args.vpc is not None),
            opts=pulumi.ResourceOptions(parent=self, protect=args.cluster.deletion_protection),
        )
        self.name = cluster.name
        self.location = cluster.location
        self.cluster_id = cluster.id
        # Through the cluster, since the pool exists only once the project has one.
        self.workload_pool = cluster.id.apply(lambda _: f"{args.place.project}.svc.id.goog")
        self.node_service_account = account.email
        self.kubeconfig = pulumi.Output.secret(
            kubeconfig_endpoint(cluster, args.dns_endpoint).apply(
                lambda known: make_kubeconfig(
                    context=f"gke_{args.place.project}_{args.place.cluster_location}_{args.cluster.name}",
                    endpoint=known[0],
                    ca_certificate=known[1],
                )
            )
        )
        self.register_outputs({"name": self.name, "location": self.location, "node_service_account": self.node_service_account})
