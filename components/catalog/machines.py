"""Machine types: those with accelerators and what each has, and those that a system pool can have. Adding one takes one entry.

Settings, pods, preflight's quotas and versions, boot disks and the sandbox's nodes read this table; what it leaves open (a quota's name, a
price in `prices`) is said to be unknown and refuses nothing. Left out: multi-host TPU slices, on which vLLM does not run in GKE.
Sources: vCPUs, memory, numbers of accelerators, topologies, labels and disks are those of GKE's published autoscaler
(GoogleCloudPlatform/cluster-autoscaler at 7d25050, pkg/cloudprovider/gke/machinetypes and labels/system_labels.go), but for the 24 vCPUs of
g2-standard-24, which https://docs.cloud.google.com/compute/docs/accelerator-optimized-machines has; other facts name theirs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

#: Where to find all machine types and add one.
MACHINES_PAGE = "components/catalog/machines.py"

#: How nodes are bought. `preemptible` is the older form of `spot`.
Provisioning = Literal["on-demand", "spot", "preemptible", "flex-start", "reservation"]

#: Google may take these nodes back at any time.
TAKEN_BACK: tuple[Provisioning, ...] = ("spot", "preemptible")

Kind = Literal["tpu", "gpu"]
#: In the order of the walkthrough's containers.
KINDS: tuple[Kind, ...] = ("gpu", "tpu")


@dataclass(frozen=True, kw_only=True)
class Accelerator:
    """What all machines with one accelerator share."""

    kind: Kind
    #: GKE's name: the label gke-tpu-accelerator, or the type of a guest accelerator.
    name: str
    #: Quotas on demand and preemptible: a metric of compute.regions.get (`NVIDIA_L4_GPUS`), or what Cloud Quotas calls it without
    #: `-per-project-region`, and its dimension (`GPUS-PER-GPU-FAMILY gpu_family=NVIDIA_H100`); empty where no source names it.
    quotas: tuple[str, str] = ("", "")
    #: Type of the boot disk where a pool names none.
    disk: str = "pd-balanced"
    #: Oldest version of GKE, where a source names one.
    minimum: str = ""
    #: Whether Google's flex-start provides it (`dwsDisabled` in the autoscaler's table).
    flex_start: bool = True
    #: Value of TPU_ACCELERATOR_TYPE without its number; empty for GPUs.
    generation: str = ""
    #: TensorCores of a chip, which TPU_ACCELERATOR_TYPE counts: vllm-project/tpu-inference, tpu_info.py (get_num_cores_per_chip).
    cores: int = 1
    #: What `--tensor-parallel-size` counts: Ironwood's chip is two devices (AI-Hypercomputer/tpu-recipes, inference/ironwood/vLLM).
    devices: int = 1


@dataclass(frozen=True, kw_only=True)
class MachineType:
    """One Compute Engine machine type that carries an accelerator."""

    chip: Accelerator
    #: Chips or GPUs of one machine.
    count: int
    vcpus: int
    #: As Compute Engine counts them.
    memory_gb: float
    #: Physical topology of a single-host TPU slice; empty for GPUs.
    topology: str = ""
    #: Numbers of GPUs that may be attached, where the type does not decide it.
    counts: tuple[int, ...] = ()

    @property
    def kind(self) -> Kind:
        return self.chip.kind

    @property
    def accelerator(self) -> str:
        return self.chip.name

    @property
    def generation(self) -> str:
        return self.chip.generation

    @property
    def parallel_size(self) -> int:
        """vLLM's `--tensor-parallel-size` for all that the machine has."""
        return self.count * self.chip.devices

    @property
    def bounds(self) -> str:
        """Chips in each of libtpu's three directions: `2,2,1` of both 2x2 and 2x2x1."""
        return ",".join([*self.topology.split("x"), "1"][:3])


def _regional(metric: str) -> tuple[str, str]:
    return metric, f"PREEMPTIBLE_{metric}"


def _gpu_family(family: str, preemptible: str = "") -> tuple[str, str]:
    """GPUs that compute.regions.get does not list on demand: docs.cloud.google.com/docs/quotas/reference/rest (QuotaPreference) has the id,
    public notes of 2026 the families."""
    return f"GPUS-PER-GPU-FAMILY gpu_family={family}", preemptible


def _machines(chip: Accelerator, *rows: tuple[str, int, int, float] | tuple[str, int, int, float, str]) -> dict[str, MachineType]:
    """Rows of machine type, accelerators, vCPUs, GB of memory, and a TPU's topology."""
    return {
        name: MachineType(chip=chip, count=count, vcpus=vcpus, memory_gb=memory, topology="".join(topology))
        for name, count, vcpus, memory, *topology in rows
    }


_HYPERDISK = "hyperdisk-balanced"

_TABLE: dict[str, MachineType] = {
    **_machines(
        # compute.regions.get does not list v6e. The metric TPUS_PER_TPU_FAMILY is named by cloud.google.com/tpu/docs/v6e-intro, the
        # family by GKE's TPU table, and the ids by public notes of 2026.
        Accelerator(
            kind="tpu", name="tpu-v6e-slice", generation="v6e", disk=_HYPERDISK,
            quotas=("TPUS-PER-TPU-FAMILY tpu_family=CT6E", "PREEMPTIBLE-TPU-V6E"),
            # https://docs.cloud.google.com/kubernetes-engine/docs/concepts/plan-tpus
            minimum="1.31.4-gke.1256000",
        ),
        ("ct6e-standard-1t", 1, 44, 176, "1x1"), ("ct6e-standard-4t", 4, 180, 720, "2x2"), ("ct6e-standard-8t", 8, 180, 1440, "2x4"),
    ),
    **_machines(
        Accelerator(kind="tpu", name="tpu-v5-lite-podslice", generation="v5litepod", quotas=_regional("TPU_LITE_PODSLICE_V5")),
        ("ct5lp-hightpu-1t", 1, 24, 48, "1x1"), ("ct5lp-hightpu-4t", 4, 112, 192, "2x2"), ("ct5lp-hightpu-8t", 8, 224, 384, "2x4"),
    ),
    **_machines(
        Accelerator(kind="tpu", name="tpu-v5p-slice", generation="v5p", cores=2, quotas=("TPU-V5P", "PREEMPTIBLE-TPU-V5P")),
        ("ct5p-hightpu-4t", 4, 208, 448, "2x2x1"),
    ),
    **_machines(
        Accelerator(
            kind="tpu", name="tpu-v4-podslice", generation="v4", cores=2, flex_start=False, quotas=_regional("TPU_PODSLICE_V4")
        ),
        ("ct4p-hightpu-4t", 4, 240, 407, "2x2x1"),
    ),
    **_machines(
        Accelerator(kind="tpu", name="tpu7x", generation="tpu7x", cores=2, devices=2, disk=_HYPERDISK),
        ("tpu7x-standard-1t", 1, 56, 248, "1x1x1"), ("tpu7x-standard-4t", 4, 224, 992, "2x2x1"),
    ),
    **_machines(
        Accelerator(kind="gpu", name="nvidia-l4", quotas=_regional("NVIDIA_L4_GPUS")),
        ("g2-standard-4", 1, 4, 16), ("g2-standard-8", 1, 8, 32), ("g2-standard-12", 1, 12, 48), ("g2-standard-16", 1, 16, 64),
        ("g2-standard-32", 1, 32, 128), ("g2-standard-24", 2, 24, 96), ("g2-standard-48", 4, 48, 192), ("g2-standard-96", 8, 96, 384),
    ),
    **_machines(
        Accelerator(kind="gpu", name="nvidia-rtx-pro-6000", disk=_HYPERDISK, quotas=_gpu_family("NVIDIA_RTX_PRO_6000")),
        ("g4-standard-48", 1, 48, 180), ("g4-standard-96", 2, 96, 360), ("g4-standard-192", 4, 192, 720),
        ("g4-standard-384", 8, 384, 1440),
    ),
    **_machines(
        Accelerator(kind="gpu", name="nvidia-tesla-a100", quotas=_regional("NVIDIA_A100_GPUS")),
        ("a2-highgpu-1g", 1, 12, 85), ("a2-highgpu-2g", 2, 24, 170), ("a2-highgpu-4g", 4, 48, 340), ("a2-highgpu-8g", 8, 96, 680),
        ("a2-megagpu-16g", 16, 96, 1360),
    ),
    **_machines(
        Accelerator(kind="gpu", name="nvidia-a100-80gb", quotas=_regional("NVIDIA_A100_80GB_GPUS")),
        ("a2-ultragpu-1g", 1, 12, 170), ("a2-ultragpu-2g", 2, 24, 340), ("a2-ultragpu-4g", 4, 48, 680), ("a2-ultragpu-8g", 8, 96, 1360),
    ),
    **_machines(
        Accelerator(kind="gpu", name="nvidia-h100-80gb", quotas=_gpu_family("NVIDIA_H100", "PREEMPTIBLE_NVIDIA_H100_GPUS")),
        ("a3-highgpu-1g", 1, 26, 234), ("a3-highgpu-2g", 2, 52, 468), ("a3-highgpu-4g", 4, 104, 936), ("a3-highgpu-8g", 8, 208, 1872),
    ),
    **_machines(
        Accelerator(
            kind="gpu", name="nvidia-h100-80gb", quotas=_gpu_family("NVIDIA_H100", "PREEMPTIBLE_NVIDIA_H100_GPUS"), flex_start=False
        ),
        ("a3-edgegpu-8g", 8, 208, 1872),
    ),
    **_machines(
        Accelerator(kind="gpu", name="nvidia-h100-mega-80gb", quotas=_gpu_family("NVIDIA_H100_MEGA")),
        ("a3-megagpu-8g", 8, 208, 1872),
    ),
    **_machines(
        Accelerator(kind="gpu", name="nvidia-h200-141gb", disk=_HYPERDISK, quotas=_gpu_family("NVIDIA_H200")),
        ("a3-ultragpu-8g", 8, 224, 2952),
    ),
    **_machines(
        Accelerator(kind="gpu", name="nvidia-b200", disk=_HYPERDISK, quotas=_gpu_family("NVIDIA_B200")),
        ("a4-highgpu-8g", 8, 224, 3968),
    ),
    # Its GPUs are attached, as many as `acceleratorCount` says; of N1's, vLLM runs on this one alone (`ATTACHED_ELSEWHERE`).
    **{
        f"n1-standard-{vcpus}": MachineType(
            chip=Accelerator(kind="gpu", name="nvidia-tesla-t4", quotas=_regional("NVIDIA_T4_GPUS")),
            count=1, counts=(1, 2, 4), vcpus=vcpus, memory_gb=3.75 * vcpus,
        )
        for vcpus in (4, 8, 16, 32)
    },
}  # fmt: skip

#: Machine type -> what it has.
MACHINE_TYPES = MappingProxyType(_TABLE)

#: GPUs that GKE attaches to N1 machines, and the default image of vLLM does not run on: CUDA 13 has no code for them
#: (https://docs.nvidia.com/cuda/cuda-toolkit-release-notes, "Maxwell, Pascal, and Volta").
ATTACHED_ELSEWHERE = ("nvidia-tesla-v100", "nvidia-tesla-p100", "nvidia-tesla-p4", "nvidia-tesla-k80")

#: Machine types that Google has with an accelerator and this program does not serve on -> why. From the same table of the autoscaler.
NOT_SERVED = MappingProxyType(
    {
        re.compile(r"a4x-.+"): "has Arm CPUs, and vLLM's images are built for x86-64",
        re.compile(r"ct[23]p?-.+|ct4l-.+|ct5l-.+"): "has a TPU that vLLM does not run on",
        re.compile(r"g4-standard-(6|12|24)"): "has a part of a GPU, which needs NVIDIA's driver for shared GPUs",
        re.compile(r".+-nolssd"): "has no local SSDs, and a price and stock of its own",
        re.compile(r"n1-.+"): "may have GPUs attached, of which only n1-standard with 4 to 32 vCPUs and T4s are known here",
        re.compile(r"tpu7-.+|tpu7x-ultranet-.+"): "has a TPU of which no public recipe for vLLM is known",
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
