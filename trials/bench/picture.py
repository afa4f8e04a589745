"""Results as one SVG: what has a goal against it, and the curves of growth with their noise.

Written by hand, so that it stays small and needs no library. It carries its own background and follows the reader's light or dark
theme. Left out: figures without a goal, which the table has.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from xml.sax.saxutils import escape, quoteattr

from trials.bench.figures import Curve, Figure
from trials.bench.report import amount, goal
from trials.bench.results import Section

_WIDTH = 800
_MARGIN = 24
_LINE = 17

#: Of the bars: the goal stands in the middle, so that a figure of twice its goal fills the row.
_BAR_WIDTH = 430
_BAR_HEIGHT = 12
_MOST = 2.0

_PANEL_WIDTH = (_WIDTH - 3 * _MARGIN) // 2
_PANEL_HEIGHT = 230
#: Of a panel, for its ticks and labels.
_LEFT, _BOTTOM = 46, 40
_TICKS = 4

#: The least distance of two labels on an axis.
_LABEL_ROOM = 26.0

#: Series in the order of their colours; more repeat them, with another dash.
_COLOURS = 4

_STYLE = """
  svg { color-scheme: light dark; }
  .ground { fill: #ffffff } .text { fill: #1f2328 } .muted { fill: #59636e } .grid { stroke: #d1d9e0 } .goal { stroke: #1f2328 }
  .good { fill: #1a7f37 } .bad { fill: #cf222e } .noise { stroke: #59636e }
  .f0 { fill: #0969da } .f1 { fill: #bc4c00 } .f2 { fill: #8250df } .f3 { fill: #1a7f37 }
  .s0 { stroke: #0969da } .s1 { stroke: #bc4c00 } .s2 { stroke: #8250df } .s3 { stroke: #1a7f37 }
  @media (prefers-color-scheme: dark) {
    .ground { fill: #0d1117 } .text { fill: #e6edf3 } .muted { fill: #9198a1 } .grid { stroke: #3d444d } .goal { stroke: #e6edf3 }
    .good { fill: #3fb950 } .bad { fill: #f85149 } .noise { stroke: #9198a1 }
    .f0 { fill: #58a6ff } .f1 { fill: #f0883e } .f2 { fill: #bc8cff } .f3 { fill: #3fb950 }
    .s0 { stroke: #58a6ff } .s1 { stroke: #f0883e } .s2 { stroke: #bc8cff } .s3 { stroke: #3fb950 }
  }
  text { font: 12px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif } .head { font-size: 15px; font-weight: 600 }
  .small { font-size: 11px } .line { fill: none; stroke-width: 2 } .thin { stroke-width: 1 }
"""


def svg(sections: Sequence[Section]) -> str:
    """Of everything that there is; without goals and curves it says so."""
    figures = [figure for section in sections for figure in section.figures if figure.goal is not None]
    curves = [curve for section in sections for curve in section.curves]
    parts: list[str] = []
    y = _MARGIN + 10
    if figures:
        parts.append(_text(_MARGIN, y, "Against the goal", "text head"))
        parts.append(
            _text(
                _MARGIN,
                y + _LINE,
                "A bar that ends left of the line reaches its goal; the thin line is the noise.",
                "muted",
            )
        )
        y += 2 * _LINE + 8
        for figure in figures:
            rows, y = _bar(figure, y)
            parts += rows
        y += 14
    if curves:
        parts.append(_text(_MARGIN, y, "Growth", "text head"))
        parts.append(
            _text(
                _MARGIN,
                y + _LINE,
                "Both axes are linear: what grows with the number of things is a straight line.",
                "muted",
            )
        )
        y += 2 * _LINE
        for index, curve in enumerate(curves):
            x = _MARGIN + (index % 2) * (_PANEL_WIDTH + _MARGIN)
            parts += _panel(curve, x, y)
            if index % 2 or index == len(curves) - 1:
                y += _PANEL_HEIGHT + 76
    if not parts:
        parts.append(_text(_MARGIN, y, "Nothing with a goal, and no curve, was measured.", "text"))
        y += _LINE
    for machine in dict.fromkeys(str(section.measured.machine) for section in sections):
        for line in textwrap.wrap(f"Measured on: {machine}", 120):
            parts.append(_text(_MARGIN, y, line, "muted small"))
            y += _LINE
    body = "\n".join(parts)
    description = "; ".join(
        [
            *(f"{figure.name}: {amount(figure.value, figure.unit)}" for figure in figures),
            *(curve.name for curve in curves),
        ]
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {y}" width="{_WIDTH}" height="{y}" role="img">\n'
        f"<title>Results of make bench</title>\n<desc>{escape(description)}</desc>\n<style>{_STYLE}</style>\n"
        f'<rect class="ground" width="{_WIDTH}" height="{y}"/>\n{body}\n</svg>\n'
    )


# --- bars


def _bar(figure: Figure, y: int) -> tuple[list[str], int]:
    """A figure's row, and where the next one begins."""
    parts = []
    for line in textwrap.wrap(figure.name.replace("`", ""), 110):
        parts.append(_text(_MARGIN, y, line, "text"))
        y += _LINE
    value = _share(figure, figure.value)
    low, high = sorted(_share(figure, figure.value + way * figure.noise) for way in (-1, 1))
    top, middle = y - 10, y - 10 + _BAR_HEIGHT / 2
    tone = "good" if figure.reached else "bad"
    parts += [
        f'<rect class="{tone}" x="{_MARGIN}" y="{top}" width="{max(_at(value), 1.5):.1f}" height="{_BAR_HEIGHT}" rx="2"/>',
        _line(_MARGIN + _at(low), middle, _MARGIN + _at(high), middle, "noise", width=2.5),
        _line(_MARGIN + _at(1), top - 3, _MARGIN + _at(1), top + _BAR_HEIGHT + 3, "goal", width=1.5),
        _text(
            _MARGIN + _BAR_WIDTH + 12,
            y,
            f"{amount(figure.value, figure.unit)}, goal {goal(figure)}" + ("" if figure.reached else ": missed"),
            "text",
        ),
    ]
    return parts, y + 26


def _share(figure: Figure, value: float) -> float:
    """How far along to its goal; above 1 is past it, whichever way is better."""
    assert figure.goal is not None
    over, under = (figure.goal, value) if figure.higher_is_better else (value, figure.goal)
    if under <= 0:
        return 0.0 if over <= 0 else _MOST
    return min(max(over / under, 0.0), _MOST)


def _at(share: float) -> float:
    return share / _MOST * _BAR_WIDTH


# --- curves


def _panel(curve: Curve, x: int, y: int) -> list[str]:
    points = [point for series in curve.series.values() for point in series]
    title = [_text(x, y + 14 + _LINE * index, line, "text") for index, line in enumerate(textwrap.wrap(curve.name.replace("`", ""), 60))]
    if not points:
        return [*title, _text(x, y + 2 * _LINE + 14, "not measured", "muted")]
    top = y + 14 + _LINE * len(title) + 4 + _LINE * len(curve.series)
    bottom, left, right = y + _PANEL_HEIGHT, x + _LEFT, x + _PANEL_WIDTH - 6
    ticks = _ticks(max(value + noise for _, value, noise in points))
    most_x, most_y = max(point[0] for point in points), ticks[-1]

    def place(px: float, py: float) -> tuple[float, float]:
        return left + px / (most_x or 1) * (right - left), bottom - max(py, 0.0) / most_y * (bottom - top)

    parts = [*title]
    for tick in ticks:
        _, at = place(0, tick)
        parts.append(_line(left, at, right, at, "grid", width=1))
        parts.append(_text(left - 6, at + 4, f"{tick:g}", "muted small", anchor="end"))
    groups: list[list[float]] = []
    for value in sorted({point[0] for point in points}):
        # Those that stand too close share a label.
        if groups and place(value, 0)[0] - place(groups[-1][0], 0)[0] < _LABEL_ROOM:
            groups[-1].append(value)
        else:
            groups.append([value])
    for group in groups:
        at, _ = place(sum(group) / len(group), 0)
        parts.append(_text(at, bottom + 15, ", ".join(f"{value:g}" for value in group), "muted small", anchor="middle"))
    parts.append(_text((left + right) / 2, bottom + 32, curve.x_label, "muted small", anchor="middle"))
    parts.append(_text(left, bottom + 48, f"upwards: {curve.y_label}", "muted small"))
    for index, (label, series) in enumerate(curve.series.items()):
        colour, dash = index % _COLOURS, ' stroke-dasharray="5 3"' if index >= _COLOURS else ""
        places = [place(px, py) for px, py, _ in series]
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py in places)
        parts.append(f'<polyline class="line s{colour}"{dash} points={quoteattr(path)}/>')
        for (px, py, noise), (at, height) in zip(series, places, strict=True):
            ends = [place(px, py + way * noise)[1] for way in (-1, 1)]
            parts.append(_line(at, ends[0], at, ends[1], f"s{colour}", width=1.5))
            parts.append(f'<circle class="f{colour}" cx="{at:.1f}" cy="{height:.1f}" r="3.2"/>')
        label_y = y + 14 + _LINE * (len(title) + index)
        parts.append(f'<circle class="f{colour}" cx="{left + 4:.1f}" cy="{label_y - 4:.1f}" r="4"/>')
        parts.append(_text(left + 13, label_y, label, "text small"))
    return parts


def _ticks(most: float) -> list[float]:
    """From 0 to at least `most`, at round distances."""
    rough = max(most, 1e-9) / _TICKS
    step = 10 ** math.floor(math.log10(rough))
    step *= next(factor for factor in (1, 2, 2.5, 5, 10) if step * factor >= rough * 0.999)
    return [round(step * index, 10) for index in range(math.ceil(most / step - 1e-9) + 1)] or [0.0, 1.0]


# --- shapes


def _text(x: float, y: float, text: str, style: str, *, anchor: str = "start") -> str:
    place = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}"{place}>{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, style: str, *, width: float) -> str:
    return f'<line class="{style}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke-width="{width:g}"/>'
