"""An estimate as text for a terminal, as Markdown for a pull request and as JSON for a program."""

from __future__ import annotations

import json
from collections.abc import Iterable

from ops.cost import HOURS_A_MONTH, NOT_COUNTED, Estimate, Line

_HEADER = ("part", "what", "USD/h each", "idle", "usual", "maximum")


def text(stack: str, region: str, estimate: Estimate) -> str:
    """A table, and what has to be known of it."""
    table = [_HEADER, *_rows(estimate)]
    widths = [max(len(row[column]) for row in table) for column in range(len(_HEADER))]
    lines = [
        "  ".join(
            # Names to the left, numbers to the right.
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]
    return "\n".join([f"Stack {stack} in {region}, USD an hour (number of nodes):", "", *lines, "", *_notes(estimate)])


def markdown(stack: str, region: str, estimate: Estimate) -> str:
    """The same for a comment on a pull request."""
    rows = _rows(estimate)
    return "\n".join(
        [
            f"### Cost of stack `{stack}` in {region}",
            "",
            _markdown_row(_HEADER),
            _markdown_row(("---", "---", "---:", "---:", "---:", "---:")),
            *(_markdown_row(row) for row in rows),
            "",
            *(f"- {note}" for note in _notes(estimate)),
        ]
    )


def as_json(stack: str, region: str, estimate: Estimate) -> str:
    """Hourly and monthly USD; a line without a price has null, and no total counts it."""
    totals = {"idle": estimate.idle, "usual": estimate.usual, "maximum": estimate.maximum}
    document = {
        "stack": stack,
        "region": region,
        "currency": "USD",
        "lines": [_json_line(line) for line in estimate.lines],
        "hour": {key: round(value, 4) for key, value in totals.items()},
        "month": {key: round(value * HOURS_A_MONTH, 2) for key, value in totals.items()},
        "unpriced": [line.name for line in estimate.unpriced],
        "unverified": [line.name for line in estimate.unverified],
        "sources": [{"date": date, "where": where} for date, where in _sources(estimate)],
        "notCounted": list(NOT_COUNTED),
    }
    return json.dumps(document, indent=2)


def _json_line(line: Line) -> dict[str, object]:
    return {
        "name": line.name,
        "what": line.what,
        "hourEach": None if line.price is None else line.price.usd,
        "idle": line.idle,
        "usual": line.usual,
        "maximum": line.maximum,
    }


def _rows(estimate: Estimate) -> list[tuple[str, ...]]:
    totals = (estimate.idle, estimate.usual, estimate.maximum)
    return [
        *(
            (
                line.name,
                line.what,
                "unknown" if line.price is None else f"{line.price.usd:.4f}",
                *(_amount(line, count) for count in (line.idle, line.usual, line.maximum)),
            )
            for line in estimate.lines
        ),
        ("total", "an hour", "", *(f"{each:.2f}" for each in totals)),
        ("total", f"a month ({HOURS_A_MONTH} h)", "", *(f"{each * HOURS_A_MONTH:,.0f}" for each in totals)),
    ]


def _amount(line: Line, count: int) -> str:
    if line.price is None:
        return f"? ({count})"
    return f"{line.price.usd * count:.2f} ({count})"


def _notes(estimate: Estimate) -> list[str]:
    notes = []
    if estimate.unpriced:
        parts = ", ".join(f"{line.name} ({line.what})" for line in estimate.unpriced)
        notes.append(f"No price is known of: {parts}. The totals are without them: add a row to components/catalog/prices.py.")
    if estimate.unverified:
        notes.append(f"Unverified for this region: {', '.join(line.name for line in estimate.unverified)}.")
    notes.append(f"Prices: {'; '.join(f'{where} ({date})' for date, where in _sources(estimate))}.")
    notes.append("Spot and preemptible prices may change every day.")
    notes.append(f"Not counted: {', '.join(NOT_COUNTED)}.")
    return notes


def _sources(estimate: Estimate) -> list[tuple[str, str]]:
    return sorted({(str(line.price.source.date), line.price.source.where) for line in estimate.lines if line.price})


def _markdown_row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
