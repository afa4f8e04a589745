"""Compute Engine machine types as a node's size: what a GKE node of one offers to pods.

Only sizes; which accelerator a machine carries is the node pool's business. Sources: Compute Engine's machine family
pages for vCPUs and memory, and GKE's page on node sizes for what GKE keeps for itself
(docs.cloud.google.com/kubernetes-engine/docs/concepts/plan-node-sizes).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from components.machines import MACHINE_TYPES

_GIB = 1024**3

#: GB of memory for each vCPU of the families whose types differ in the number of vCPUs alone.
_GB_PER_VCPU = {
    "e2-standard": 4, "e2-highmem": 8, "e2-highcpu": 1, "n1-standard": 3.75, "n2-standard": 4, "n2d-standard": 4,
    "c3-standard": 4,
}  # fmt: skip

#: vCPUs and GB of those that follow no rule; machines with accelerators are in the program's own table.
_LISTED: dict[str, tuple[int, float]] = {
    "e2-medium": (2, 4),
    "e2-small": (2, 2),
    **{name: (machine.vcpus, machine.memory_gb) for name, machine in MACHINE_TYPES.items()},
}

#: GKE's label for a machine's memory rounds in its own way; what the walkthrough's nodes show.
_MEMORY_LABEL = {"ct6e-standard-1t": 180}


class UnknownMachineTypeError(LookupError):
    """The sandbox does not know this machine type's size."""


@dataclass(frozen=True, kw_only=True)
class MachineSize:
    """`memory_gb` as Compute Engine counts it."""

    vcpus: int
    memory_gb: float
    memory_label: int

    def allocatable(self) -> dict[str, str]:
        """What is left for pods, as Kubernetes quantities of cpu and memory."""
        return {
            "cpu": f"{self.vcpus * 1000 - _reserved_millicpu(self.vcpus)}m",
            "memory": f"{int((self.memory_gb * _GIB - _reserved_memory(self.memory_gb)) // 1024)}Ki",
        }


def size_of(machine_type: str) -> MachineSize:
    """Raises `UnknownMachineTypeError`."""
    if machine_type in _LISTED:
        vcpus, memory = _LISTED[machine_type]
    elif (match := re.fullmatch(r"([a-z0-9]+-[a-z]+)-(\d+)", machine_type)) and match[1] in _GB_PER_VCPU:
        vcpus = int(match[2])
        memory = vcpus * _GB_PER_VCPU[match[1]]
    else:
        raise UnknownMachineTypeError(machine_type)
    return MachineSize(vcpus=vcpus, memory_gb=memory, memory_label=_MEMORY_LABEL.get(machine_type, round(memory)))


def _reserved_millicpu(vcpus: int) -> int:
    """6 % of the first core, 1 % of the second, 0.5 % of the next two, 0.25 % of the rest."""
    shares = [60.0, 10.0, 5.0, 5.0]
    return round(sum(shares[:vcpus]) + max(vcpus - len(shares), 0) * 2.5)


def _reserved_memory(memory_gb: float) -> float:
    """Bytes: 25 % of the first 4 GiB, 20 % of the next 4, 10 % of the next 8, 6 % of the next 112, 2 % above; 100 MiB more for eviction."""
    if memory_gb < 1:
        return 255 * 1024**2
    reserved, left = 0.0, memory_gb
    for width, share in ((4, 0.25), (4, 0.20), (8, 0.10), (112, 0.06), (float("inf"), 0.02)):
        part = min(left, width)
        reserved += part * share
        left -= part
    return reserved * _GIB + 100 * 1024**2


def allocatable_ephemeral_storage(disk_gb: int) -> int:
    """Bytes of a boot disk that are left for pods: GKE keeps 10 % for eviction and min(50 %, 6 GiB + 35 %, 100 GiB) for the system."""
    disk = disk_gb * _GIB
    return int(disk - 0.1 * disk - min(0.5 * disk, 6 * _GIB + 0.35 * disk, 100 * _GIB))
