"""One line of what a drill found, and what the command line asks of it. Left out: the file of results (`trials.record`)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from sandbox.servers.model_server import STAND_IN

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Result:
    """One line of the report. `tried` is `survived` plus `lost`; what is counted (runs, requests) the drill's title says."""

    event: str
    tried: int
    survived: int
    #: How it came back, with what a person had to do, if anything; of what was lost, why.
    recovery: str
    #: The longest time without an answer, where requests are counted; seconds of this machine's clock.
    longest_gap: float | None = None
    #: Where requests are counted: lost ones without an answer, and lost ones with a part of one.
    failed: int | None = None
    cut: int | None = None
    #: How many the event's own nature may cost; `recovery` says why. What is lost above that is a fault of ours.
    bound: int = 0

    @property
    def lost(self) -> int:
        return self.tried - self.survived

    @property
    def bad(self) -> bool:
        """More was lost than has to be."""
        return self.lost > self.bound

    @property
    def lost_text(self) -> str:
        """How many, and of what kind."""
        if not self.lost or self.failed is None:
            return str(self.lost)
        return f"{self.lost} ({self.failed} failed, {self.cut} cut)"


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line says."""

    #: How much of each drill: 1 is all of it; below, a sample that `seed` draws.
    share: float = 1.0
    #: The seed of every random choice, so that a run can be repeated.
    seed: int = 0
    #: What the pods run, a name of `sandbox.servers.model_server`.
    server: str = STAND_IN

    def some(self, count: int) -> int:
        """This many of `count`, at least one."""
        return max(1, round(count * self.share))

    def sample(self, items: Sequence[T]) -> list[T]:
        """The drill's share of these, drawn by the seed, in their order."""
        chosen = random.Random(self.seed).sample(range(len(items)), self.some(len(items)))
        return [items[index] for index in sorted(chosen)]
