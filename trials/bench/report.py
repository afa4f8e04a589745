"""Results for a person: a table on the screen, Markdown for a page, and what changed since the saved run in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.table import Table

from trials.bench.comparison import Change, Comparison
from trials.bench.figures import Figure
from trials.bench.results import Section

_HEADINGS = ("figure", "value", "noise", "goal", "reached")


def amount(value: float, unit: str) -> str:
    """A value as it is read: `1.43x`, `12.4 s`, `540 MB`, `18,432 bytes`."""
    if unit == "x":
        return f"{value:.2f}x"
    if unit == "s":
        return f"{value:.1f} s"
    if unit == "MB":
        return f"{value:,.0f} MB"
    return f"{value:,.0f} {unit}" if float(value).is_integer() else f"{value:,.1f} {unit}"


def goal(figure: Figure) -> str:
    if figure.goal is None:
        return ""
    return f"at {'least' if figure.higher_is_better else 'most'} {amount(figure.goal, figure.unit)}"


def table(section: Section, comparison: Comparison) -> Table:
    """One bench's figures, with what was saved beside them."""
    found = Table(title=section.title, title_justify="left")
    for heading in (*_HEADINGS, "saved", "verdict"):
        names = heading in ("figure", "verdict")
        found.add_column(heading, justify="left" if names else "right", no_wrap=not names)
    for figure in section.figures:
        change = comparison.change_of(figure.name)
        found.add_row(
            figure.name,
            *_cells(figure),
            "" if change is None else amount(change.saved.value, change.saved.unit),
            "" if change is None else change.verdict + (f": {change.reason}" if change.reason else ""),
        )
    return found


def markdown(sections: Sequence[Section]) -> str:
    """All benches as they stand in a page."""
    return "\n\n".join(_markdown(section) for section in sections) + "\n"


def said(change: Change) -> str:
    """One line of what moved, for the end of the run."""
    now, saved = change.now, change.saved
    return (
        f"{change.verdict}: {now.name}: {amount(now.value, now.unit)}, was {amount(saved.value, saved.unit)} "
        f"(noise may move it by {amount(change.margin, now.unit)})"
    )


def verdicts(sections: Sequence[Section], comparisons: Mapping[str, Comparison]) -> list[str]:
    """What somebody has to know of the run, the worst first; empty for nothing."""
    found = [f"failed: {section.bench}: {section.failed}" for section in sections if section.failed]
    for section in sections:
        found += [f"goal missed: {figure.name}: {amount(figure.value, figure.unit)}, goal {goal(figure)}" for figure in section.missed]
    for verdict in ("worse", "better"):
        for comparison in comparisons.values():
            found += [said(change) for change in comparison.of(verdict)]
    return found


def _cells(figure: Figure) -> tuple[str, str, str, str]:
    reached = {None: "", True: "yes", False: "no"}[figure.reached]
    noise = f"±{amount(figure.noise, figure.unit)}" if len(figure.samples) > 1 else "one sample"
    return amount(figure.value, figure.unit), noise, goal(figure), reached


def _markdown(section: Section) -> str:
    measured = section.measured
    rows = [f"| {figure.name}{f' ({figure.note})' if figure.note else ''} | {' | '.join(_cells(figure))} |" for figure in section.figures]
    return "\n".join(
        [
            f"**{section.title}**",
            "",
            f"| {' | '.join(_HEADINGS)} |",
            "|---|---:|---:|---:|---|",
            *rows,
            "",
            *(f"- {line}" for line in section.lines),
            *([f"- Ended early: {section.failed}"] if section.failed else []),
            "",
            f"Measured {measured.date} at commit {measured.commit}, at most {measured.repeats} times each"
            f"{', quick' if measured.quick else ''}, on: {measured.machine}.",
        ]
    )
