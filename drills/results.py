"""What a drill found, as a table and as JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table


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
    #: Of the lost ones, where requests are counted: no answer came, and an answer came in part.
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
    #: Of every random choice, so that a run can be repeated.
    seed: int = 0

    def some(self, count: int) -> int:
        """This many of `count`, at least one."""
        return max(1, round(count * self.share))


#: Yields its results one by one as they are known, so that they can be seen.
Drill = Callable[[Options], Iterator[Result]]


@dataclass(frozen=True, kw_only=True)
class Section:
    """All results of one drill."""

    name: str
    title: str
    results: Sequence[Result]

    def table(self) -> Table:
        table = Table(title=self.title, title_justify="left")
        for heading in ("event", "tried", "survived", "lost", "longest gap", "how it recovered"):
            table.add_column(heading, justify="left" if heading.startswith(("event", "how")) else "right")
        for each in self.results:
            gap = "" if each.longest_gap is None else f"{each.longest_gap:.1f} s"
            table.add_row(each.event, str(each.tried), str(each.survived), each.lost_text, gap, each.recovery)
        return table

    def markdown(self) -> str:
        """The rows as they stand in a page."""
        lines = [f"**{self.title}**", "", "| event | tried | survived | lost | longest gap | how it recovered |"]
        lines.append("|---|---:|---:|---:|---:|---|")
        for each in self.results:
            gap = "" if each.longest_gap is None else f"{each.longest_gap:.1f} s"
            lines.append(
                f"| {each.event} | {each.tried} | {each.survived} | {each.lost_text} | {gap} | {each.recovery} |"
            )
        return "\n".join(lines)

    def as_document(self) -> dict[str, Any]:
        results = [{**asdict(each), "lost": each.lost} for each in self.results]
        return {"name": self.name, "title": self.title, "results": results}
