"""Boot disks of nodes: which type a machine gets, and its size unless the pool says otherwise. Left out: preloaded second disks."""

from __future__ import annotations

from components.catalog.machines import MACHINE_TYPES

#: GB of the boot disk of a node with an accelerator, unless its pool says otherwise.
DEFAULT_DISK_GB = 100

#: GB of the boot disks of nodes without an accelerator.
SYSTEM_DISK_GB = 50

#: Families of plain machines that cannot have a standard disk -> the disk type that they have.
#: https://docs.cloud.google.com/compute/docs/general-purpose-machines (supported disk types of each family)
_PLAIN_DISKS = {"c3": "pd-balanced", "n4": "hyperdisk-balanced"}


def default_disk_type(machine_type: str) -> str:
    """The disk type that GKE chooses for a machine with an accelerator where a pool names none: pd-balanced since 1.24, unless the machine
    cannot have it.

    https://docs.cloud.google.com/kubernetes-engine/docs/how-to/custom-boot-disks
    """
    return MACHINE_TYPES[machine_type].chip.disk if machine_type in MACHINE_TYPES else "pd-balanced"


def plain_disk_type(machine_type: str) -> str:
    """The disk type that the program asks for on nodes without an accelerator: a standard disk where the machine can have one.

    Standard disks do not count against SSD_TOTAL_GB, of which a new project has 250 GB in a region
    (terraform-google-modules/terraform-google-kubernetes-engine#1795).
    """
    return _PLAIN_DISKS.get(machine_type.partition("-")[0], "pd-standard")
