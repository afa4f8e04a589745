"""How a container gets at its node's accelerator: by requesting it, or, where one pod must fit both kinds of node, by privilege.

A pod that requests a device runs on nodes with that device alone, so a pod for TPU and GPU nodes requests neither, and then only
`privileged` opens the node's devices to it (docs/hardening.md, *Privileged containers*, with what is known and what is not).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from components.catalog.machines import Kind, MachineType

DeviceAccess = Literal["privileged", "request"]

#: Accelerator -> the extended resource that GKE's device plugin offers.
RESOURCES: dict[Kind, str] = {"gpu": "nvidia.com/gpu", "tpu": "google.com/tpu"}


def device_access(choice: str, kinds: Iterable[Kind]) -> DeviceAccess:
    """The least that works for pools of these kinds; `choice` is the setting `deviceAccess`."""
    if choice == "auto":
        return "request" if len(set(kinds)) == 1 else "privileged"
    return "request" if choice == "request" else "privileged"


def security_context(access: DeviceAccess) -> dict[str, Any]:
    if access == "privileged":
        # Device files of the node are visible without requesting a device, which a pod for both kinds cannot do.
        return {"privileged": True}
    return {"privileged": False, "allow_privilege_escalation": False}


def device_resources(access: DeviceAccess, kind: Kind, machine: MachineType) -> dict[str, str]:
    """What the container requests and is limited to: all accelerators of its node, or nothing."""
    return {} if access == "privileged" else {RESOURCES[kind]: str(machine.count)}
