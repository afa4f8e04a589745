"""Compute Engine machine types as a node's size: what a GKE node of one offers to pods.

Only sizes; which accelerator a machine carries is the node pool's business. Sources: Compute Engine's machine family
pages; what GKE keeps of one for itself is the program's `components/node_capacity.py`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from components.machines import MACHINE_TYPES
from components.node_capacity import allocatable_memory, allocatable_millicpu

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
            "cpu": f"{round(allocatable_millicpu(self.vcpus))}m",
            "memory": f"{int(allocatable_memory(self.memory_gb)) // 1024}Ki",
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
