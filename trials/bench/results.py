"""What benches found: one section a bench, as JSON and back, and the file of the last results.

A section says itself when, from which commit and on which machine it was measured, since a file may hold sections of several
runs: a run of one bench keeps what the file has of the others.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sandbox.host.state_files import write_text
from trials import rows
from trials.bench.figures import Curve, Figure, Findings
from trials.bench.machine import Machine

#: Of the JSON; another number is another form.
FORM = 1


class ResultsError(Exception):
    """A file of results cannot be read; the message says which, why and what to do."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """When and how a section came about."""

    #: UTC, ISO 8601.
    date: str
    commit: str
    repeats: int
    quick: bool
    machine: Machine


@dataclass(frozen=True, kw_only=True)
class Section:
    """All that one bench found in one run."""

    bench: str
    title: str
    measured: Measured
    figures: Sequence[Figure] = ()
    curves: Sequence[Curve] = ()
    lines: Sequence[str] = ()
    #: Why the bench ended early; what it had found before is here all the same.
    failed: str | None = None

    def with_findings(self, findings: Findings) -> Section:
        return replace(
            self,
            figures=[*self.figures, *findings.figures],
            curves=[*self.curves, *findings.curves],
            lines=[*self.lines, *findings.lines],
        )

    @property
    def missed(self) -> list[Figure]:
        """Figures that do not reach their goal."""
        return [figure for figure in self.figures if figure.reached is False]

    def as_document(self) -> dict[str, Any]:
        measured = self.measured
        return {
            "bench": self.bench,
            "title": self.title,
            "measured": {
                "date": measured.date,
                "commit": measured.commit,
                "repeats": measured.repeats,
                "quick": measured.quick,
                "machine": measured.machine.as_document(),
            },
            "failed": self.failed,
            "figures": [figure.as_document() for figure in self.figures],
            "curves": [curve.as_document() for curve in self.curves],
            "lines": list(self.lines),
        }

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Section:
        """The reverse. Raises `KeyError` and `TypeError` for what is no section."""
        measured = document["measured"]
        return cls(
            bench=document["bench"],
            title=document["title"],
            measured=Measured(
                date=measured["date"],
                commit=measured["commit"],
                repeats=measured["repeats"],
                quick=measured["quick"],
                machine=Machine.of(measured["machine"]),
            ),
            figures=[Figure.of(figure) for figure in document["figures"]],
            curves=[Curve.of(curve) for curve in document["curves"]],
            lines=list(document["lines"]),
            failed=document["failed"],
        )


def as_json(sections: Sequence[Section]) -> str:
    document = {"form": FORM, "sections": [section.as_document() for section in sections]}
    return rows.dumps(document)


def read(path: Path) -> list[Section]:
    """Raises `FileNotFoundError`, and `ResultsError` for a file of another kind."""
    try:
        document = json.loads(path.read_text())
        form = document["form"]
        if form != FORM:
            raise ResultsError(
                f"{path}: its form is {form!r}, and this program knows {FORM}: it is of another version; measure anew, or name another file"
            )
        return [Section.of(each) for each in document["sections"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ResultsError(f"{path}: is no file of results ({type(error).__name__}: {error}); remove it, or name another") from error


def merged(earlier: Sequence[Section], now: Sequence[Section]) -> list[Section]:
    """What is kept: of each bench its last section that did not fail, in the order of the earlier ones."""
    kept = {section.bench: section for section in earlier}
    kept |= {section.bench: section for section in now if section.failed is None}
    return list(kept.values())


def write(path: Path, text: str) -> None:
    """Whole or not at all. Raises `OSError`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text)
