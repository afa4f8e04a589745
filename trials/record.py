"""What benches and drills found, as one JSON file: a section for each of them, with one figure, result or sentence a line.

A section says itself when, from which commit and on which machine it came about, since a file may hold sections of several runs: a run
of one bench or drill keeps what the file has of the others. Left out: how a section is shown (`trials.report`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sandbox.host.state_files import write_text
from trials.figures import Curve, Figure, Findings
from trials.machine import Machine, commit
from trials.results import Result

#: The version of the JSON's form.
FORM = 2

#: In the file, objects down to this depth have a line for each key: the document and its sections. Deeper, only lists have lines.
_OBJECTS = 3

#: What a section holds: key -> type of its elements.
_ROWS: Mapping[str, Any] = {"figures": Figure, "curves": Curve, "lines": str, "results": Result}


class RecordError(Exception):
    """A file of results cannot be read; the message says which, why and what to do."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """When and how a section came about."""

    #: UTC, ISO 8601.
    date: str
    commit: str
    #: What the command line said.
    options: Mapping[str, Any]
    machine: Machine

    @classmethod
    def now(cls, options: Any) -> Run:
        """`options` is a dataclass."""
        date = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(date=date, commit=commit(), options=asdict(options), machine=Machine.here())


@dataclass(frozen=True, kw_only=True)
class Section:
    """All that one bench or drill found in one run."""

    name: str
    title: str
    run: Run
    figures: Sequence[Figure] = ()
    curves: Sequence[Curve] = ()
    lines: Sequence[str] = ()
    results: Sequence[Result] = ()
    #: Why it ended early; what it had found before is here all the same.
    failed: str | None = None

    def adding(self, found: Findings | Result) -> Section:
        if isinstance(found, Result):
            return replace(self, results=[*self.results, found])
        return replace(
            self, figures=[*self.figures, *found.figures], curves=[*self.curves, *found.curves], lines=[*self.lines, *found.lines]
        )

    @property
    def missed(self) -> list[Figure]:
        """Figures that do not reach their goal."""
        return [figure for figure in self.figures if figure.reached is False]

    def as_document(self) -> dict[str, Any]:
        rows = {key: [_document(each) for each in getattr(self, key)] for key in _ROWS}
        head = {"name": self.name, "title": self.title, "run": asdict(self.run), "failed": self.failed}
        return head | {key: found for key, found in rows.items() if found}

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Section:
        """The reverse. Raises `KeyError` and `TypeError` for a document of another kind."""
        run = {**document["run"], "machine": Machine(**document["run"]["machine"])}
        rows = {key: [_of(kind, each) for each in document.get(key, [])] for key, kind in _ROWS.items()}
        return cls(name=document["name"], title=document["title"], run=Run(**run), failed=document["failed"], **rows)


def as_json(sections: Sequence[Section]) -> str:
    return _written({"form": FORM, "sections": [section.as_document() for section in sections]}, 0) + "\n"


def read(path: Path) -> list[Section]:
    """Raises `RecordError`, also for a file that is not there."""
    try:
        document = json.loads(path.read_text())
        if document["form"] != FORM:
            raise RecordError(
                f"{path}: its form is {document['form']!r}, and this program reads form {FORM}, so another version wrote it. "
                "Fix: measure again, or name another file."
            )
        return [Section.of(each) for each in document["sections"]]
    except OSError as error:
        raise RecordError(f"{path}: cannot be read ({error.strerror}). Fix: name a file that --save or --json wrote.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RecordError(
            f"{path}: is not a file of results ({type(error).__name__}: {error}). Fix: remove it, or name another."
        ) from error


def merged(earlier: Sequence[Section], now: Sequence[Section]) -> list[Section]:
    """The sections of `now` in place of earlier ones of the same name, in the order of the earlier ones."""
    return list({section.name: section for section in (*earlier, *now)}.values())


def write(path: Path, text: str) -> None:
    """The whole text or nothing. Raises `OSError`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text)


def _document(row: Any) -> Any:
    if isinstance(row, Figure):
        return {"name": row.name, "value": row.value, "noise": row.noise, "reached": row.reached, **asdict(row)}
    if isinstance(row, Result):
        return {**asdict(row), "lost": row.lost}
    return row if isinstance(row, str) else asdict(row)


def _of(kind: Any, document: Any) -> Any:
    return document if kind is str else kind(**{field.name: document[field.name] for field in fields(kind)})


def _written(value: Any, depth: int) -> str:
    inside, outside = "  " * (depth + 1), "  " * depth
    if isinstance(value, dict) and value and depth < _OBJECTS:
        rows = [f"{inside}{json.dumps(key)}: {_written(each, depth + 1)}" for key, each in value.items()]
        return "{\n" + ",\n".join(rows) + f"\n{outside}}}"
    if isinstance(value, list) and value and depth <= _OBJECTS:
        return "[\n" + ",\n".join(inside + _written(each, depth + 1) for each in value) + f"\n{outside}]"
    return json.dumps(value)
