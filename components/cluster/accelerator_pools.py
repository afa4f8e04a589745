"""The accelerator node pools, one for each step of the fallback, tainted so that only pods of their ComputeClass run there.

Pools wait for the cluster's system pool and not for each other. Left out: their order, which the ComputeClass sets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
from pulumi_gcp import container

from components.catalog.boot_disks import DEFAULT_DISK_GB
from components.catalog.node_labels import COMPUTE_CLASS_LABEL
from components.cluster.cluster import Cluster, node_defaults
from components.cluster.cluster_hardening import node_labels, node_pool_arguments
from components.cluster.network import ClusterNetwork
from components.cluster.pool_failures import error_hook
from components.cluster.replacement import replacement_hook
from components.settings.accelerator_pool import AcceleratorPool
from components.settings.sections import AcceleratorSettings, ClusterSettings, Place


@dataclass(frozen=True)
class AcceleratorPoolsArgs:
    place: Place
    #: A reordered list of pools changes nothing here, since pools are kept by name.
    accelerators: AcceleratorSettings
    settings: ClusterSettings
    cluster: Cluster
    #: Of private nodes; None: the project's default network.
    vpc: ClusterNetwork | None


def node_config(
    pool: AcceleratorPool,
    *,
    compute_class_name: str,
    node_service_account: pulumi.Input[str],
    labels: Mapping[str, str],
    image_streaming: bool,
) -> dict[str, Any]:
    """`node_config` of the pool's NodePool resource."""
    config: dict[str, Any] = {
        "machine_type": pool.machine_type,
        "labels": {COMPUTE_CLASS_LABEL: compute_class_name},
        # GKE itself adds the accelerator's taint (google.com/tpu or nvidia.com/gpu).
        "taints": [{"key": COMPUTE_CLASS_LABEL, "value": compute_class_name, "effect": "NO_SCHEDULE"}],
        **node_defaults(node_service_account, image_streaming=image_streaming),
        **node_labels(labels),
        # Always set: if it were left out, an earlier size would stay.
        "disk_size_gb": pool.disk_size_gb or DEFAULT_DISK_GB,
    }
    config |= capacity(pool)
    if pool.kind == "gpu":
        config["guest_accelerators"] = [
            {
                "type": pool.machine.accelerator,
                "count": pool.machine.count,
                "gpu_driver_installation_config": {"gpu_driver_version": pool.gpu_driver_version},
            }
        ]
    if pool.secondary_boot_disk_image is not None:
        # A change replaces the pool: GKE changes this disk neither on a node nor on a pool.
        config["secondary_boot_disks"] = [{"disk_image": pool.secondary_boot_disk_image, "mode": "CONTAINER_IMAGE_CACHE"}]
    return config


def capacity(pool: AcceleratorPool) -> dict[str, Any]:
    """How the pool's nodes are bought, as fields of `node_config`. A ComputeClass says none of it of a pool that it names.

    Flex-start takes no reservation and no Spot (preconditions of modules/compute/gke-node-pool in GoogleCloudPlatform/cluster-toolkit).
    """
    if pool.provisioning == "flex-start":
        none = {"consume_reservation_type": "NO_RESERVATION"}
        return {"flex_start": True, "max_run_duration": f"{(pool.max_run_days or 0) * 86_400}s", "reservation_affinity": none}
    if pool.provisioning == "reservation":
        name = {"key": "compute.googleapis.com/reservation-name", "values": [pool.reservation]}
        return {"reservation_affinity": {"consume_reservation_type": "SPECIFIC_RESERVATION", **name}}
    return {pool.provisioning: True} if pool.taken_back else {}


def limits(pool: AcceleratorPool) -> dict[str, Any]:
    """`autoscaling` of the pool; a disabled one keeps its maximum, so that enabling it again changes one number and waits for nothing."""
    prefix = "total_" if pool.node_counts == "total" else ""
    least = pool.min_node_count if pool.enabled else 0
    return {f"{prefix}min_node_count": least, f"{prefix}max_node_count": pool.max_node_count, "location_policy": pool.location_policy}


def warm_rungs(pools: Sequence[AcceleratorPool]) -> list[str]:
    """What a minimum on a pool of lower priority leads to, one warning a pool.

    By the code of GKE's autoscaler (docs/ladder.md): a node of a pool at its minimum is a free place for every pod that moves, and neither
    active migration nor scale-down ever takes a pod away from it again.
    """
    (first, *lower) = [(index, pool) for index, pool in enumerate(pools) if pool.enabled]
    best = first[1].name
    return [
        f"acceleratorPools[{index}].minNodeCount: {pool.min_node_count} keeps a node of {pool.name} idle beside {best}, which comes first. "
        f"An update's new replica takes that node and stays on it: GKE moves no replica away from a pool at its minimum, and {best} idles "
        f"meanwhile and is billed. Fix: give 0, and keep warm nodes on {best} alone (docs/ladder.md)."
        for index, pool in lower
        if pool.min_node_count > 0
    ]


def upgrade_settings(pool: AcceleratorPool) -> dict[str, Any] | None:
    """How GKE upgrades the pool's nodes; None leaves it to GKE, which has one way for flex-start (SHORT_LIVED, unknown to the provider).

    A surge node of a TPU pool would need a spare chip, which quota and stock rarely have: its nodes are upgraded in place, one at a
    time. GPU pools keep GKE's default, the new node first.
    """
    if pool.provisioning == "flex-start":
        return None
    # A reservation has as many machines as it has, and an upgrade brings none.
    surge = 0 if pool.kind == "tpu" or pool.provisioning == "reservation" else 1
    return {"strategy": "SURGE", "max_surge": surge, "max_unavailable": 1 - surge}


class AcceleratorPools(pulumi.ComponentResource):
    """Node pools by name."""

    pools: Mapping[str, container.NodePool]

    def __init__(self, name: str, args: AcceleratorPoolsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        # GKE adds its own taint to a GPU pool only if a pool without an accelerator exists already.
        after_system_pool = pulumi.ResourceOptions(depends_on=[args.cluster.system_pool])
        super().__init__("fungibility:index:AcceleratorPools", name, None, pulumi.ResourceOptions.merge(opts, after_system_pool))
        for warning in warm_rungs(args.accelerators.pools):
            pulumi.log.warn(warning, resource=self)
        hooks = pulumi.ResourceHookBinding(
            before_create=[replacement_hook()],
            # The provider's own error does not name the cause.
            on_error=[error_hook({pool.name: pool for pool in args.accelerators.pools})],
        )
        self.pools = {
            pool.name: container.NodePool(
                pool.name,
                project=args.place.project,
                name=pool.name,
                cluster=args.cluster.name,
                location=args.place.cluster_location,
                node_locations=list(pool.zones),
                initial_node_count=pool.initial_node_count if pool.enabled else 0,
                autoscaling=limits(pool),
                # Of flex-start GKE does not repair nodes (the same preconditions).
                management={"auto_repair": pool.provisioning != "flex-start", "auto_upgrade": True},
                upgrade_settings=upgrade_settings(pool),
                node_config=node_config(
                    pool,
                    compute_class_name=args.accelerators.compute_class_name,
                    node_service_account=args.cluster.node_service_account,
                    labels=args.place.labels,
                    image_streaming=args.settings.image_streaming,
                ),
                **node_pool_arguments(args.vpc is not None),
                opts=pulumi.ResourceOptions(
                    parent=self,
                    # Or a `pulumi destroy` without preview would take the pools before it comes to the cluster, which refuses.
                    protect=args.settings.deletion_protection,
                    # The cluster autoscaler owns the size from the first minute on, and a changed initial count would
                    # replace the pool and everything that runs on it (pulumi-gcp#412).
                    ignore_changes=["initialNodeCount", "nodeCount"],
                    # GKE tries for 36 minutes before it reports a stock-out; by default the provider gives up earlier.
                    custom_timeouts=pulumi.CustomTimeouts(create="45m"),
                    hooks=hooks,
                ),
            )
            for pool in args.accelerators.pools
        }
        self.register_outputs({"names": list(self.pools)})
