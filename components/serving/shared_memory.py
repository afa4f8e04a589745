"""The memory that the processes of one server share: a volume at /dev/shm where there is more than one chip.

A container's own /dev/shm has 64 MiB (containerd's default). vLLM has one process a chip; to all of them and from each goes a ring buffer
of ten chunks of 16 MiB and more (vllm/distributed/device_communicators/shm_broadcast.py), and NCCL keeps its segments there where GPUs have
no NVLink, as the L4 has none. Left out: servers with one chip, which share nothing.
"""

from __future__ import annotations

from typing import Any

from components.catalog.capacity import shared_memory_gib
from components.catalog.machines import Kind, MachineType

_MOUNT_PATH = "/dev/shm"  # noqa: S108 - where the kernel, vLLM and NCCL have it


def shared_memory_mounts(kind: Kind, machine: MachineType) -> list[dict[str, Any]]:
    """`volume_mounts` of the container of an accelerator."""
    return [{"name": _name(kind), "mount_path": _MOUNT_PATH}] if machine.count > 1 else []


def shared_memory_volumes(machines: dict[Kind, MachineType]) -> list[dict[str, Any]]:
    """`volumes` of the pod: one for each container that needs one, since a container's shared memory is its own."""
    return [
        {"name": _name(kind), "empty_dir": {"medium": "Memory", "size_limit": f"{shared_memory_gib(machine.count)}Gi"}}
        for kind, machine in machines.items()
        if machine.count > 1
    ]


def _name(kind: Kind) -> str:
    return f"shared-memory-{kind}"
