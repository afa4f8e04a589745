"""What a GKE node offers to pods: the machine's resources, less what GKE keeps for itself.

Source: docs.cloud.google.com/kubernetes-engine/docs/concepts/plan-node-sizes. Left out: requests of GKE's own DaemonSets
(a few hundred millicores), which change with the cluster's version and features.
"""

from __future__ import annotations

_GIB = 2**30

#: GB of a boot disk unless the pool says otherwise.
DEFAULT_DISK_GB = 100

#: Requests of the sidecar container that mounts a bucket, as GKE's webhook sets them unless the pod's annotations do.
#: https://github.com/GoogleCloudPlatform/gcs-fuse-csi-driver, cmd/webhook/main.go
SIDECAR_REQUESTS = {"cpu": "250m", "memory": "256Mi", "ephemeral-storage": "5Gi"}


def shared_memory_gib(chips: int) -> int:
    """GiB of shared memory that a server with that many chips may use; it counts as memory of the pod.

    1 GiB a chip: the ring buffers of 8 chips take 2.1 GiB (9 of 10 x 24 MiB), NCCL's segments less.
    """
    return chips if chips > 1 else 0


def allocatable_millicpu(vcpus: int) -> float:
    """Millicores. GKE keeps 6 % of the first core, 1 % of the second, 0.5 % of the next two, and 0.25 % of the rest."""
    shares = (60.0, 10.0, 5.0, 5.0)
    return vcpus * 1000 - sum(shares[:vcpus]) - max(vcpus - len(shares), 0) * 2.5


def allocatable_memory(memory_gb: float) -> float:
    """Bytes. GKE keeps 25 % of the first 4 GiB, 20 % of the next 4, 10 % of the next 8, 6 % of the next 112, 2 % of the
    rest, and 100 MiB for eviction. Machines of less than 1 GiB carry no accelerator and are not covered."""
    reserved, left = 0.0, memory_gb
    for width, share in ((4.0, 0.25), (4.0, 0.20), (8.0, 0.10), (112.0, 0.06), (float("inf"), 0.02)):
        part = min(left, width)
        reserved += part * share
        left -= part
    return (memory_gb - reserved) * _GIB - 100 * 2**20


def allocatable_ephemeral_storage(disk_gb: int) -> float:
    """Bytes of a boot disk: GKE keeps 10 % for eviction, and for itself the least of 50 %, 6 GiB + 35 % and 100 GiB."""
    return (disk_gb - 0.1 * disk_gb - min(0.5 * disk_gb, 6 + 0.35 * disk_gb, 100)) * _GIB
