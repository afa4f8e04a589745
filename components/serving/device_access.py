"""How a container gets access to its node's accelerator: by request, or by privilege if one pod must fit different nodes.

A pod that requests a device only runs on nodes with that many of it, so a pod for TPU and GPU nodes, or for nodes with different numbers of
GPUs, requests none, and then only `privileged` opens the node's devices to it (docs/hardening.md, *Privileged containers*, says what is
known and what is not).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from components.catalog.machines import Kind, MachineType

DeviceAccess = Literal["privileged", "request"]

#: Accelerator -> the extended resource that GKE's device plugin offers.
RESOURCES: dict[Kind, str] = {"gpu": "nvidia.com/gpu", "tpu": "google.com/tpu"}


def device_access(choice: str, machines: Iterable[MachineType]) -> DeviceAccess:
    """The least privilege that works for pools of these machines; `choice` is the setting `deviceAccess`."""
    if choice == "auto":
        return "request" if len({(machine.kind, machine.count) for machine in machines}) == 1 else "privileged"
    return "request" if choice == "request" else "privileged"


def security_context(access: DeviceAccess) -> dict[str, Any]:
    if access == "privileged":
        # Device files of the node are visible without requesting a device, which a pod for both kinds cannot do.
        return {"privileged": True}
    return {"privileged": False, "allow_privilege_escalation": False}


def device_resources(access: DeviceAccess, kind: Kind, machine: MachineType) -> dict[str, str]:
    """What the container requests and is limited to: all accelerators of its node, or nothing."""
    return {} if access == "privileged" else {RESOURCES[kind]: str(machine.count)}
