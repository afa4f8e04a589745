"""Sections for a person: tables on the screen, Markdown for a page, and what changed since the saved run in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rich.markup import escape
from rich.table import Table

from trials.comparison import Change, Comparison
from trials.figures import Curve, Figure, Findings
from trials.record import Section
from trials.results import Result

_FIGURES = ("figure", "value", "noise", "goal", "reached")
_RESULTS = ("event", "tried", "survived", "lost", "longest gap", "how it recovered")

#: Columns of words; all others are numbers.
_WORDS = {"figure", "verdict", "event", "how it recovered"}


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


def lines(found: Findings | Result) -> list[str]:
    """What a bench or a drill has just found, while it goes on."""
    if isinstance(found, Result):
        return [f"{found.event}: {found.survived} of {found.tried}; {found.recovery}"]
    return [*(f"{each.name}: {amount(each.value, each.unit)}" for each in found.figures), *found.lines]


def table(section: Section, comparison: Comparison | None = None) -> Table:
    """One section for the screen; `comparison` puts what was saved beside the figures."""
    if comparison is None:
        return _table(section.title, _RESULTS, map(_result_cells, section.results))
    rows = []
    for figure in section.figures:
        change = comparison.change_of(figure.name)
        saved = "" if change is None else amount(change.saved.value, change.saved.unit)
        verdict = "" if change is None else change.verdict + (f": {change.reason}" if change.reason else "")
        rows.append((figure.name, *_figure_cells(figure), saved, verdict))
    return _table(section.title, (*_FIGURES, "saved", "verdict"), rows)


def markdown(sections: Sequence[Section]) -> str:
    """All benches as they stand in a page."""
    return "\n\n".join(f"**{section.title}**\n\n{section_markdown(section)}" for section in sections) + "\n"


def page(sections: Sequence[Section]) -> str:
    """What was tried, survived and lost in each drill, and below it each drill's own events, folded."""
    totals = ["| drill | what is counted | tried | survived | lost |", "|---|---|---:|---:|---:|"]
    for section in sections:
        tried, survived = (sum(getattr(each, name) for each in section.results) for name in ("tried", "survived"))
        totals.append(f"| `{section.name}` | {section.title} | {tried} | {survived} | {tried - survived} |")
    folded = [
        f"<details>\n<summary><code>{section.name}</code></summary>\n\n{section_markdown(section)}\n\n</details>" for section in sections
    ]
    return "\n\n".join(["\n".join(totals), *folded])


def section_markdown(section: Section) -> str:
    run, options = section.run, section.run.options
    if "share" in options:
        grid = _grid(_RESULTS, "|---|---:|---:|---:|---:|---|", map(_result_cells, section.results))
        share = "" if options["share"] == 1 else f", {options['share']:.0%} of it"
        server = f", pods ran {options['server']}" if "server" in options else ""
        how = f"Found {run.date} at commit {run.commit}{share}, seed {options['seed']}{server}"
    else:
        rows = [(f"{each.name}{f' ({each.note})' if each.note else ''}", *_figure_cells(each)) for each in section.figures]
        grid = _grid(_FIGURES, "|---|---:|---:|---:|---|", rows)
        quick = ", quick" if options["quick"] else ""
        how = f"Measured {run.date} at commit {run.commit}, at most {options['repeats']} times each{quick}"
    ended = [f"Ended early: {section.failed}"] if section.failed else []
    listed = [f"- {line}" for line in (*section.lines, *ended)]
    return "\n".join([*grid, "", *charts(section.curves), *listed, *([""] if listed else []), f"{how}, on: {run.machine}."])


def charts(curves: Sequence[Curve]) -> list[str]:
    """One Mermaid chart a series, since Mermaid draws no legend; its sizes are equally far apart, whatever they are."""
    found: list[str] = []
    for curve in curves:
        for label, points in curve.series.items():
            sizes, values = ", ".join(f"{point[0]:g}" for point in points), ", ".join(f"{point[1]:.2f}" for point in points)
            axes = [f'  x-axis "{curve.x_label}" [{sizes}]', f'  y-axis "{curve.y_label}" 0 --> {max(point[1] for point in points):.2f}']
            found += ["```mermaid", "xychart-beta", f'  title "{label}"', *axes, f"  line [{values}]", "```", ""]
    return found


def said(change: Change) -> str:
    """One line of what moved, for the end of the run."""
    now, saved = change.now, change.saved
    return (
        f"{change.verdict}: {now.name}: {amount(now.value, now.unit)}, was {amount(saved.value, saved.unit)} "
        f"(noise may move it by {amount(change.margin, now.unit)})"
    )


def verdicts(sections: Sequence[Section], comparisons: Mapping[str, Comparison]) -> list[str]:
    """What a reader has to know of the run, the worst first; empty for nothing."""
    found = [f"failed: {section.name}: {section.failed}" for section in sections if section.failed]
    for section in sections:
        found += [f"goal missed: {figure.name}: {amount(figure.value, figure.unit)}, goal {goal(figure)}" for figure in section.missed]
    for verdict in ("worse", "better"):
        for comparison in comparisons.values():
            found += [said(change) for change in comparison.of(verdict)]
    return found


def _table(title: str, headings: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    found = Table(title=title, title_justify="left")
    for heading in headings:
        found.add_column(heading, justify="left" if heading in _WORDS else "right", no_wrap=heading not in _WORDS)
    for row in rows:
        found.add_row(*map(escape, row))
    return found


def _grid(headings: Sequence[str], rule: str, rows: Iterable[Sequence[str]]) -> list[str]:
    cells = [headings, *rows]
    head, *rest = (f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in cells)
    return [head, rule, *rest]


def _figure_cells(figure: Figure) -> tuple[str, str, str, str]:
    reached = {None: "", True: "yes", False: "no"}[figure.reached]
    noise = f"±{amount(figure.noise, figure.unit)}" if len(figure.samples) > 1 else "one sample"
    return amount(figure.value, figure.unit), noise, goal(figure), reached


def _result_cells(each: Result) -> tuple[str, ...]:
    gap = "" if each.longest_gap is None else f"{each.longest_gap:.1f} s"
    return each.event, str(each.tried), str(each.survived), each.lost_text, gap, each.recovery
