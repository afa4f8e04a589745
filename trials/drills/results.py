"""What a drill found, as a table, as JSON and back, and as rows of a page.

A section says itself when, from which commit and on which machine it was found, since a file may hold drills of several runs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from sandbox.host.state_files import write_text
from trials import rows
from trials.bench.machine import Machine


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
class Found:
    """When and how a section came about."""

    #: UTC, ISO 8601.
    date: str
    commit: str
    share: float
    seed: int
    machine: Machine

    def __str__(self) -> str:
        share = "" if self.share == 1 else f", {self.share:.0%} of it"
        return f"Found {self.date} at commit {self.commit}{share}, seed {self.seed}, on: {self.machine}."


@dataclass(frozen=True, kw_only=True)
class Section:
    """All results of one drill."""

    name: str
    title: str
    results: Sequence[Result]
    found: Found

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Section:
        """The reverse of `as_document`. Raises `KeyError`."""
        names = [field.name for field in fields(Result)]
        found = document["found"]
        return cls(
            name=document["name"],
            title=document["title"],
            results=[Result(**{name: each[name] for name in names}) for each in document["results"]],
            found=Found(**{**found, "machine": Machine.of(found["machine"])}),
        )

    def table(self) -> Table:
        table = Table(title=self.title, title_justify="left")
        for heading in ("event", "tried", "survived", "lost", "longest gap", "how it recovered"):
            table.add_column(heading, justify="left" if heading.startswith(("event", "how")) else "right")
        for each in self.results:
            gap = "" if each.longest_gap is None else f"{each.longest_gap:.1f} s"
            table.add_row(escape(each.event), str(each.tried), str(each.survived), each.lost_text, gap, escape(each.recovery))
        return table

    def markdown(self) -> str:
        """As it stands in a page."""
        lines = ["| event | tried | survived | lost | longest gap | how it recovered |"]
        lines.append("|---|---:|---:|---:|---:|---|")
        for each in self.results:
            gap = "" if each.longest_gap is None else f"{each.longest_gap:.1f} s"
            cells = (each.event, str(each.tried), str(each.survived), each.lost_text, gap, each.recovery)
            lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
        return "\n".join([*lines, "", str(self.found)])

    def as_document(self) -> dict[str, Any]:
        results = [{**asdict(each), "lost": each.lost} for each in self.results]
        return {"name": self.name, "title": self.title, "found": asdict(self.found), "results": results}


def read(path: Path) -> list[Section]:
    """Of a file that `write` wrote; none where there is no file."""
    if not path.exists():
        return []
    return [Section.of(each) for each in json.loads(path.read_text())["sections"]]


def write(path: Path, sections: Sequence[Section]) -> None:
    """Drills that the file has and that did not run now stay in it. Whole or not at all; raises `OSError`."""
    kept = {section.name: section for section in (*read(path), *sections)}
    document = {"sections": [section.as_document() for section in kept.values()]}
    write_text(path, rows.dumps(document))


def page(sections: Sequence[Section]) -> str:
    """What was tried, survived and lost of each drill, and below it each drill's own events, folded."""
    totals = ["| drill | what is counted | tried | survived | lost |", "|---|---|---:|---:|---:|"]
    for section in sections:
        tried, survived = (sum(getattr(each, name) for each in section.results) for name in ("tried", "survived"))
        totals.append(f"| `{section.name}` | {section.title} | {tried} | {survived} | {tried - survived} |")
    folded = [f"<details>\n<summary><code>{section.name}</code></summary>\n\n{section.markdown()}\n\n</details>" for section in sections]
    return "\n\n".join(["\n".join(totals), *folded])
