"""A GKE node pool as the sandbox keeps it, and the Node object that one of its machines registers.

Labels, taints and names are those of the walkthrough's listing. Left out: Google's other node features (upgrades, auto-repair, multi-host
TPU slices, reservations, the end of a flex-start node after its days); a pool of theirs is accepted and has no effect here.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from components.catalog.boot_disks import DEFAULT_DISK_GB, default_disk_type
from components.catalog.capacity import allocatable_ephemeral_storage
from components.catalog.machines import MACHINE_TYPES
from components.catalog.node_labels import COMPUTE_CLASS_LABEL, NODE_POOL_LABEL
from sandbox.control_plane.control_plane import KUBELET_ADDRESS
from sandbox.google.machine_types import size_of

_SUFFIX_ALPHABET = "bcdfghjklmnpqrstvwxz0123456789"

#: Terraform's and Pulumi's words for a taint's effect, and Kubernetes's.
_EFFECTS = {"NO_SCHEDULE": "NoSchedule", "PREFER_NO_SCHEDULE": "PreferNoSchedule", "NO_EXECUTE": "NoExecute"}


@dataclass(kw_only=True)
class NodePool:
    """`inputs` are the resource's own, camelCase; sizes are numbers of nodes over all zones."""

    name: str
    inputs: dict[str, Any]
    zones: list[str]
    #: Names of the pool's machines, whether they have joined yet or not.
    nodes: list[str] = field(default_factory=list)
    #: Nodes still on their way: name -> zone.
    joining: dict[str, str] = field(default_factory=dict)
    #: Those of them whose machine Google neither gives nor refuses.
    held: set[str] = field(default_factory=set)
    #: While Google creates, changes or deletes the pool, the autoscaler leaves it alone.
    in_operation: bool = False
    #: GKE's `statusMessage` of a pool that is RUNNING_WITH_ERROR; None of one that is RUNNING.
    error: str | None = None

    @property
    def config(self) -> Mapping[str, Any]:
        return self.inputs.get("nodeConfig") or {}

    @property
    def machine_type(self) -> str:
        # GKE's own default.
        return str(self.config.get("machineType") or "e2-medium")

    @property
    def machine_family(self) -> str:
        return self.machine_type.split("-")[0]

    @property
    def initial_size(self) -> int:
        per_zone = int(self.inputs.get("initialNodeCount", self.inputs.get("nodeCount", self._per_zone("min", 1))))
        return max(per_zone * len(self.zones), self.minimum)

    @property
    def autoscaled(self) -> bool:
        return bool(self.inputs.get("autoscaling"))

    @property
    def minimum(self) -> int:
        return self._limit("min")

    @property
    def maximum(self) -> int:
        return self._limit("max")

    @property
    def provision_time(self) -> str:
        """The latency for which the autoscaler waits for a machine that does not come."""
        return "held_flex_request" if self.config.get("flexStart") else "held_tpu_request" if self.tpu_chips else "held_request"

    @property
    def streams_images(self) -> bool:
        """Whether containers start while their image still comes (GKE image streaming)."""
        return bool((self.config.get("gcfsConfig") or {}).get("enabled"))

    @property
    def tpu_chips(self) -> int:
        """Chips of one machine; 0 for a machine without TPU."""
        machine = MACHINE_TYPES.get(self.machine_type)
        return machine.count if machine is not None and machine.kind == "tpu" else 0

    @property
    def compute_class(self) -> str | None:
        return (self.config.get("labels") or {}).get(COMPUTE_CLASS_LABEL)

    def _limit(self, which: str) -> int:
        autoscaling = self.inputs.get("autoscaling") or {}
        total = autoscaling.get(f"total{which.capitalize()}NodeCount")
        if total is not None:
            return int(total)
        return self._per_zone(which, 0) * len(self.zones)

    def _per_zone(self, which: str, default: int) -> int:
        return int((self.inputs.get("autoscaling") or {}).get(f"{which}NodeCount", default))

    def new_node_name(self, cluster: str) -> str:
        """`gke-tpu-<hash>-<suffix>` for TPUs, `gke-<cluster>-<pool>-<hash>-<suffix>` for the rest, as GKE names them."""
        pool_hash = hashlib.sha256(f"{cluster}/{self.name}".encode()).hexdigest()[:8]
        stem = "gke-tpu" if self.tpu_chips else f"gke-{cluster}-{self.name}"[:49].rstrip("-")
        while True:
            name = f"{stem}-{pool_hash}-{''.join(random.choices(_SUFFIX_ALPHABET, k=4))}"
            if name not in self.nodes:
                return name


def node_labels(pool: NodePool, *, node: str, zone: str) -> dict[str, str]:
    """Every label that GKE puts on a node of this pool, and the pool's own."""
    size = size_of(pool.machine_type)
    region = zone.rsplit("-", 1)[0]
    config = pool.config
    gke = {
        "gke-boot-disk": config.get("diskType") or default_disk_type(pool.machine_type),
        "gke-container-runtime": "containerd",
        "gke-cpu-scaling-level": str(size.vcpus),
        "gke-logging-variant": "DEFAULT",
        "gke-max-pods-per-node": "110",
        "gke-memory-gb-scaling-level": str(size.memory_label),
        "gke-netd-ready": "true",
        "gke-os-distribution": "cos",
        "gke-provisioning": _provisioning(config),
        "gke-stack-type": "IPV4",
        "machine-family": pool.machine_family,
        "private-node": str(bool((pool.inputs.get("networkConfig") or {}).get("enablePrivateNodes"))).lower(),
    }
    if config.get("preemptible"):
        gke["gke-preemptible"] = "true"
    if config.get("spot"):
        gke["gke-spot"] = "true"  # unverified
    if config.get("flexStart"):
        gke["gke-flex-start"] = "true"
    if pool.tpu_chips:
        machine = MACHINE_TYPES[pool.machine_type]
        gke["gke-tpu-accelerator"] = machine.accelerator
        gke["gke-tpu-topology"] = machine.topology
        gke["gke-accelerator-count"] = str(pool.tpu_chips)
    for accelerator in config.get("guestAccelerators") or []:
        gke["gke-accelerator"] = accelerator["type"]
        gke["gke-gpu"] = "true"
        driver = (accelerator.get("gpuDriverInstallationConfig") or {}).get("gpuDriverVersion")
        if driver:
            gke["gke-gpu-driver-version"] = driver.lower()
    return {
        **{f"cloud.google.com/{key}": value for key, value in gke.items()},
        NODE_POOL_LABEL: pool.name,
        "beta.kubernetes.io/arch": "amd64",
        "beta.kubernetes.io/instance-type": pool.machine_type,
        "beta.kubernetes.io/os": "linux",
        "failure-domain.beta.kubernetes.io/region": region,
        "failure-domain.beta.kubernetes.io/zone": zone,
        "iam.gke.io/gke-metadata-server-enabled": "true",
        "kubernetes.io/arch": "amd64",
        "kubernetes.io/hostname": node,
        "kubernetes.io/os": "linux",
        "node.kubernetes.io/instance-type": pool.machine_type,
        "topology.gke.io/zone": zone,
        "topology.kubernetes.io/region": region,
        "topology.kubernetes.io/zone": zone,
        **(config.get("labels") or {}),
    }


def node_taints(pool: NodePool) -> list[dict[str, str]]:
    """The pool's own taints and the one that GKE sets for each kind of accelerator."""
    taints = [{"key": each["key"], "value": each["value"], "effect": _EFFECTS[each["effect"]]} for each in pool.config.get("taints") or []]
    if pool.tpu_chips:
        taints.append({"key": "google.com/tpu", "value": "present", "effect": "NoSchedule"})
    if pool.config.get("guestAccelerators"):
        taints.append({"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"})
    return taints


def node_allocatable(pool: NodePool) -> dict[str, str]:
    """Kubernetes quantities by resource, the accelerators included."""
    disk_gb = int(pool.config.get("diskSizeGb") or DEFAULT_DISK_GB)
    resources = {
        **size_of(pool.machine_type).allocatable(image_streaming=pool.streams_images),
        "ephemeral-storage": str(int(allocatable_ephemeral_storage(disk_gb))),
        "pods": "110",
    }
    if pool.tpu_chips:
        resources["google.com/tpu"] = str(pool.tpu_chips)
    gpus = sum(int(each.get("count", 1)) for each in pool.config.get("guestAccelerators") or [])
    if gpus:
        resources["nvidia.com/gpu"] = str(gpus)
    return resources


def node_object(pool: NodePool, *, node: str, zone: str, address: str, project: str, kubelet_port: int, version: str) -> dict[str, Any]:
    """The v1 Node that a machine of the pool registers; the node agent's heartbeats make it Ready and keep it so."""
    allocatable = node_allocatable(pool)
    size = size_of(pool.machine_type)
    capacity = {**allocatable, "cpu": str(size.vcpus), "memory": f"{int(size.memory_gb * 1024**2)}Ki"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": node, "labels": node_labels(pool, node=node, zone=zone)},
        "spec": {"taints": node_taints(pool), "providerID": f"gce://{project}/{zone}/{node}"},
        "status": {
            "addresses": [
                {"type": "InternalIP", "address": address},
                {"type": "Hostname", "address": node},
                {"type": "InternalDNS", "address": KUBELET_ADDRESS},
            ],
            "allocatable": allocatable,
            "capacity": capacity,
            "daemonEndpoints": {"kubeletEndpoint": {"Port": kubelet_port}},
            "nodeInfo": {
                "architecture": "amd64",
                "bootID": "",
                "containerRuntimeVersion": "sandbox://processes",
                "kernelVersion": "sandbox",
                "kubeProxyVersion": "",
                "kubeletVersion": version,
                "machineID": "",
                "operatingSystem": "linux",
                "osImage": "simulated node (sandbox)",
                "systemUUID": "",
            },
        },
    }


def _provisioning(config: Mapping[str, Any]) -> str:
    if config.get("spot"):
        return "spot"
    if config.get("flexStart"):
        return "flex-start"
    return "preemptible" if config.get("preemptible") else "standard"
