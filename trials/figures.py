"""A measured figure: its samples, its goal, and how a bench hands figures over."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One measured quantity. Lower is better unless `higher_is_better`."""

    name: str
    #: Repeated measurements in this run; the figure's value is their median.
    samples: Sequence[float]
    #: "x" for a ratio, else s, MB, processes, bytes.
    unit: str
    #: The value that is asked for: at most, or at least where `higher_is_better`. None: watched, not judged.
    goal: float | None = None
    higher_is_better: bool = False
    note: str = ""

    @property
    def value(self) -> float:
        return statistics.median(self.samples)

    @property
    def noise(self) -> float:
        """Half the spread of the samples; 0 for a single one."""
        return (max(self.samples) - min(self.samples)) / 2

    @property
    def reached(self) -> bool | None:
        if self.goal is None:
            return None
        return self.value >= self.goal if self.higher_is_better else self.value <= self.goal


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A quantity that grows: label of a series -> points (x, median of y, half the spread of y)."""

    name: str
    x_label: str
    y_label: str
    series: Mapping[str, Sequence[tuple[float, float, float]]]


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What one bench measured. `lines` is prose of the report, such as the resources on the critical path."""

    figures: Sequence[Figure] = ()
    curves: Sequence[Curve] = ()
    lines: Sequence[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line says."""

    #: How often each thing is measured.
    repeats: int = 5
    #: Fewer and smaller measurements, to see whether the bench works.
    quick: bool = False
    #: With what takes a quarter of an hour and more: an `up` that builds every tool.
    cold: bool = False
