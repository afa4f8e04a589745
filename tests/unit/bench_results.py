"""Results as benches hand them over, for the tests of what is made of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trials.bench.figures import Curve, Figure
from trials.bench.machine import Machine
from trials.bench.results import Measured, Section

MACHINE = Machine(
    cpu="Some CPU", cores=4, memory_gib=16, system="Linux x86_64, Some Linux 1", python="3.11.7", engine="3.250.0", kubernetes="1.37.2"
)


def figure(samples: Sequence[float], *, name: str = "preview", unit: str = "x", **others: Any) -> Figure:
    return Figure(name=name, samples=samples, unit=unit, **others)


def curve(**others: Any) -> Curve:
    points = [(3.0, 1.0, 0.1), (10.0, 1.2, 0.05), (300.0, 4.5, 0.3)]
    values: dict[str, Any] = {
        "name": "Preview <with> ever more pools",
        "x_label": "pools",
        "y_label": "times as long as with 3",
        "series": {"preview & nothing": points, "update": points[:2]},
    }
    return Curve(**{**values, **others})


def section(*figures: Figure, bench: str = "growth", machine: Machine = MACHINE, quick: bool = False, **others: Any) -> Section:
    measured = Measured(date="2026-11-25T12:00:00+00:00", commit="0123456789ab", repeats=5, quick=quick, machine=machine)
    return Section(bench=bench, title="What grows", measured=measured, figures=figures, **others)
