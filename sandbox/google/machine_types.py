"""Compute Engine machine types as a node's size: what a GKE node of one offers to pods.

Only sizes; which accelerator a machine carries is the node pool's business. The tables are the program's (`components/catalog`),
so that what its settings accept is known here too, and so is what GKE keeps of a machine for itself.
"""

from dataclasses import dataclass

from components.catalog.capacity import allocatable_memory, allocatable_millicpu
from components.catalog.machines import MACHINE_TYPES, PLAIN_MACHINE_TYPES

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

    def allocatable(self, *, image_streaming: bool) -> dict[str, str]:
        """What is left for pods, as Kubernetes quantities of cpu and memory."""
        return {
            "cpu": f"{round(allocatable_millicpu(self.vcpus))}m",
            "memory": f"{int(allocatable_memory(self.memory_gb, image_streaming=image_streaming)) // 1024}Ki",
        }


def size_of(machine_type: str) -> MachineSize:
    """Raises `UnknownMachineTypeError`."""
    if machine_type in PLAIN_MACHINE_TYPES:
        vcpus, memory = PLAIN_MACHINE_TYPES[machine_type]
    elif machine_type in MACHINE_TYPES:
        vcpus, memory = MACHINE_TYPES[machine_type].vcpus, MACHINE_TYPES[machine_type].memory_gb
    else:
        raise UnknownMachineTypeError(machine_type)
    return MachineSize(vcpus=vcpus, memory_gb=memory, memory_label=_MEMORY_LABEL.get(machine_type, round(memory)))
