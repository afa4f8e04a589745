"""Which machine type a pool may name, and what to say of another: never a machine of the other kind, and whether Google has it.

Left out: what each machine carries (`components.catalog.machines`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from components.catalog.machines import MACHINE_TYPES, MACHINES_PAGE, NOT_SERVED, PLAIN_MACHINE_TYPES, Kind
from components.settings.problems import nearest
from components.settings.reader import Notes, ValueType

#: Families of machines by what they carry, those that the table lacks too: docs.cloud.google.com/compute/docs/machine-resource
_FAMILIES: dict[Kind, re.Pattern[str]] = {"gpu": re.compile(r"([ag][2-9]|n1)\w*-.*"), "tpu": re.compile(r"(ct|tpu)\d\w*-.*")}


@dataclass(frozen=True)
class AcceleratorMachine(ValueType):
    """The name of a machine type that carries an accelerator."""

    name = "text"

    def read(self, value: Any, notes: Notes) -> str:
        if value is not None and (not isinstance(value, str) or value not in MACHINE_TYPES):
            notes.refuse(_reason(str(value)), _fix(str(value)))
        return str(value or "")

    def how_to_give(self) -> str:
        return _fix("")


def _reason(name: str) -> str:
    for pattern, why in NOT_SERVED.items():
        if pattern.fullmatch(name):
            return f"is a machine type of Google's that {why}, so this program does not serve on it"
    if name in PLAIN_MACHINE_TYPES:
        return "carries no accelerator"
    return "is not a machine type with an accelerator that this program knows"


def _fix(name: str) -> str:
    kind = next((kind for kind, pattern in _FAMILIES.items() if pattern.fullmatch(name)), None)
    if kind is not None:
        return nearest(name, [each for each, machine in MACHINE_TYPES.items() if machine.kind == kind], MACHINES_PAGE)
    gpu, tpu = (next(each for each, machine in MACHINE_TYPES.items() if machine.kind == kind) for kind in ("gpu", "tpu"))
    return f"use one such as {gpu} (GPU) or {tpu} (TPU); {MACHINES_PAGE} lists all"
