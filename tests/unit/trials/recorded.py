"""Sections as benches and drills hand them over, for the tests of what is made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trials.figures import Curve, Figure
from trials.machine import Machine
from trials.record import Run, Section
from trials.results import Result

MACHINE = Machine(
    cpu="Some CPU", cores=4, memory_gib=16, system="Linux x86_64, Some Linux 1", python="3.11.7", engine="3.250.0", kubernetes="1.37.2"
)
CURVE = Curve(name="Preview", x_label="pools", y_label="times as long", series={"preview": [(3.0, 1.0, 0.1), (300.0, 4.5, 0.3)]})
RESULT = Result(event="an | event", tried=2, survived=1, recovery="by itself", longest_gap=1.25, failed=1, cut=0)


def figure(samples: Sequence[float], *, name: str = "preview", unit: str = "x", **others: Any) -> Figure:
    return Figure(name=name, samples=samples, unit=unit, **others)


def section(*figures: Figure, name: str = "growth", machine: Machine = MACHINE, quick: bool = False, **others: Any) -> Section:
    return _section({"repeats": 5, "quick": quick}, machine, name=name, title="What grows", figures=figures, **others)


def drill(name: str, *results: Result) -> Section:
    return _section({"share": 0.5, "seed": 3}, MACHINE, name=name, title=name.title(), results=results)


def _section(options: Mapping[str, Any], machine: Machine, **others: Any) -> Section:
    return Section(run=Run(date="2026-11-25T12:00:00+00:00", commit="0123456789ab", options=options, machine=machine), **others)
