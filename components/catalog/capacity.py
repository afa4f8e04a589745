"""What a GKE node offers to pods: the machine, less what GKE keeps for itself.

Sources: docs.cloud.google.com/kubernetes-engine/docs/concepts/plan-node-sizes, and what GKE's published autoscaler predicts of new
nodes. Left out: what DaemonSets of GKE's own request (a few hundred millicores), which changes with the cluster's version and features.
"""

from __future__ import annotations

import bisect

_GIB = 2**30
_TENTH = 0.10000000149011612

#: GiB of memory, and bytes of a disk of so many GiB, that Container-Optimized OS of 1.36.0-gke.3712000 (amd64) keeps for itself.
#: https://github.com/GoogleCloudPlatform/cluster-autoscaler/blob/7d250507339b3a7583b380349f217ea191ff15ff/config/os-reserved.yaml
_KERNEL_MEMORY = (
    (1, 63029248), (2, 81379328), (4, 185987072), (8, 259383296), (16, 406728704), (32, 701440000), (64, 1290866688), (128, 2369056768),
    (256, 4427124736), (1922, 32385806336),
)  # fmt: skip
_IMAGE_PARTITIONS = ((15, 4731506688), (100, 6170308608), (1000, 21279993856), (10_000, 172290314240))

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


def allocatable_memory(memory_gb: float, *, image_streaming: bool) -> float:
    """Bytes. The kernel takes its part first; GKE keeps a falling share of the machine, 4 % of that once more for image streaming, and
    100 MiB for eviction. Machines of less than 1 GiB carry no accelerator and are not covered."""
    # GKE counts a GB of the brackets as 1000 MiB (pkg/cloudprovider/gke/reserved.go).
    reserved, left = 0.0, memory_gb * 1024
    for width, share in ((4000.0, 0.25), (4000.0, 0.20), (8000.0, 0.10), (112_000.0, 0.06), (float("inf"), 0.02)):
        part = min(left, width)
        reserved += part * share
        left -= part
    reserved = int(reserved) + (int(0.04 * reserved) if image_streaming else 0)
    return memory_gb * _GIB - _interpolated(_KERNEL_MEMORY, memory_gb) - (reserved + 100) * 2**20


def allocatable_ephemeral_storage(disk_gb: int) -> float:
    """Bytes of a boot disk: less the image's own partitions, a tenth for eviction, and the least of 50 %, 6 GiB + 35 % and 100 GiB."""
    capacity = disk_gb * _GIB - _interpolated(_IMAGE_PARTITIONS, disk_gb)
    kept = min(disk_gb // 2, 6 + int(0.35 * disk_gb), 100)
    # The kubelet's tenth has single precision.
    return int(capacity - int(capacity * _TENTH) - kept * _GIB)


def _interpolated(table: tuple[tuple[float, int], ...], size: float) -> float:
    """What is reserved of `size`, between the two rows around it, or beyond the last two."""
    sizes = [row[0] for row in table]
    above = min(max(bisect.bisect_left(sizes, size), 1), len(table) - 1)
    (low, at_low), (high, at_high) = table[above - 1], table[above]
    return at_low + (at_high - at_low) * (size - low) / (high - low)
