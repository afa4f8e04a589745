"""Machine types: those with accelerators and what each has, and those that a system pool can have.

One table for the settings' checks, the pod template and the sandbox. Google's machines that are not listed here are
refused, since neither their accelerator nor their topology is known; adding one takes one line.
Sources: https://docs.cloud.google.com/kubernetes-engine/docs/concepts/plan-tpus and
https://docs.cloud.google.com/compute/docs/accelerator-optimized-machines; rows marked unverified are from notes.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

#: Where to find all machine types and add one.
MACHINES_PAGE = "components/catalog/machines.py"

Provisioning = Literal["on-demand", "spot", "preemptible"]

Kind = Literal["tpu", "gpu"]
#: In the order of the walkthrough's containers.
KINDS: tuple[Kind, ...] = ("gpu", "tpu")


@dataclass(frozen=True, kw_only=True)
class MachineType:
    """One Compute Engine machine type that carries an accelerator."""

    kind: Kind
    #: GKE's name: the label gke-tpu-accelerator, or the type of a guest accelerator.
    accelerator: str
    #: Chips or GPUs of one machine.
    count: int
    #: Physical topology of a single-host TPU slice; empty for GPUs.
    topology: str = ""
    vcpus: int
    #: As Compute Engine counts them.
    memory_gb: float
    #: Value of TPU_ACCELERATOR_TYPE without the number of chips; empty for GPUs.
    generation: str = ""


def _tpu(generation: str, accelerator: str, count: int, topology: str, vcpus: int, memory_gb: float) -> MachineType:
    return MachineType(
        kind="tpu", accelerator=accelerator, count=count, topology=topology, vcpus=vcpus, memory_gb=memory_gb, generation=generation
    )


def _l4(vcpus: int, count: int) -> MachineType:
    return MachineType(kind="gpu", accelerator="nvidia-l4", count=count, vcpus=vcpus, memory_gb=4 * vcpus)


MACHINE_TYPES = MappingProxyType(
    {
        "ct6e-standard-1t": _tpu("v6e", "tpu-v6e-slice", 1, "1x1", 44, 176),
        "ct6e-standard-4t": _tpu("v6e", "tpu-v6e-slice", 4, "2x2", 180, 720),
        "ct6e-standard-8t": _tpu("v6e", "tpu-v6e-slice", 8, "2x4", 180, 1440),
        "ct5lp-hightpu-1t": _tpu("v5litepod", "tpu-v5-lite-podslice", 1, "1x1", 24, 48),
        "ct5lp-hightpu-4t": _tpu("v5litepod", "tpu-v5-lite-podslice", 4, "2x2", 112, 192),  # unverified
        "ct5lp-hightpu-8t": _tpu("v5litepod", "tpu-v5-lite-podslice", 8, "2x4", 224, 384),  # unverified
        "g2-standard-4": _l4(4, 1),
        "g2-standard-8": _l4(8, 1),
        "g2-standard-12": _l4(12, 1),
        "g2-standard-16": _l4(16, 1),
        "g2-standard-32": _l4(32, 1),
        "g2-standard-24": _l4(24, 2),  # unverified
        "g2-standard-48": _l4(48, 4),  # unverified
        "g2-standard-96": _l4(96, 8),  # unverified
    }
)


#: Families of machines without an accelerator whose types differ only in vCPUs: GB for each vCPU, and the numbers of vCPUs.
#: https://docs.cloud.google.com/compute/docs/general-purpose-machines; the rows of c3, n4 and t2d are unverified.
_FAMILIES: dict[str, tuple[float, tuple[int, ...]]] = {
    "e2-standard": (4, (2, 4, 8, 16, 32)),
    "e2-highmem": (8, (2, 4, 8, 16)),
    "e2-highcpu": (1, (2, 4, 8, 16, 32)),
    "n1-standard": (3.75, (1, 2, 4, 8, 16, 32, 64, 96)),
    "n2-standard": (4, (2, 4, 8, 16, 32, 48, 64, 80, 96, 128)),
    "n2d-standard": (4, (2, 4, 8, 16, 32, 48, 64, 80, 96, 128, 224)),
    "n4-standard": (4, (2, 4, 8, 16, 32, 48, 64, 80)),
    "c3-standard": (4, (4, 8, 22, 44, 88, 176)),
    "t2d-standard": (4, (1, 2, 4, 8, 16, 32, 48, 60)),
}

#: Machine type without accelerator -> vCPUs and GB of memory. Others are refused for the system pool, which GKE would only do once
#: the cluster exists; adding one takes one line.
PLAIN_MACHINE_TYPES = MappingProxyType(
    {
        "e2-small": (2, 2.0),
        "e2-medium": (2, 4.0),
        **{f"{family}-{vcpus}": (vcpus, vcpus * gb_per_vcpu) for family, (gb_per_vcpu, sizes) in _FAMILIES.items() for vcpus in sizes},
    }
)
