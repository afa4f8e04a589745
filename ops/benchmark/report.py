"""What was measured, rung by rung: as a table with what follows from it, as JSON, and as a picture. Left out: measuring (`generator`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from html import escape
from typing import Any

from components.catalog.prices import Price
from ops.benchmark.generator import Load, Stage

_HEADER = ("rung", "clients", "tokens/s", "first token (p95)", "time per token", "requests/s", "within the goal", "USD a million tokens")
_TEXT_COLUMNS = 1
_BAR, _ROW, _LEFT = 360, 26, 150


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One pool, in the ladder's order; `skipped` says why nothing was measured."""

    pool: str
    machine: str = ""
    price: Price | None = None
    stages: Sequence[Stage] = ()
    skipped: str = ""

    @property
    def fastest(self) -> Stage | None:
        """With the most tokens in a second."""
        return max(self.stages, key=lambda stage: stage.output_tokens, default=None)

    @property
    def good_requests(self) -> float:
        """The most requests in a second that were within the latency goal."""
        return max((stage.good_requests for stage in self.stages), default=0.0)

    @property
    def usd(self) -> float | None:
        """For a million tokens of answers, by a node that makes as many as it can."""
        return self.cost_of(self.fastest) if self.fastest else None

    def cost_of(self, stage: Stage) -> float | None:
        if self.price is None or not stage.output_tokens:
            return None
        return self.price.usd / (stage.output_tokens * 3600) * 1e6


def document(stack: str, model: str, load: Load, rungs: Sequence[Rung]) -> dict[str, Any]:
    """What `--json` has."""

    def of(rung: Rung) -> dict[str, Any]:
        return {
            "pool": rung.pool,
            "machine": rung.machine,
            "usd_per_hour": rung.price.usd if rung.price else None,
            "usd_per_million_tokens": rung.usd,
            "good_requests_per_second": rung.good_requests,
            "stages": [asdict(stage) for stage in rung.stages],
            "skipped": rung.skipped or None,
        }

    return {
        "stack": stack,
        "model": model,
        "load": {**asdict(load), "concurrencies": list(load.concurrencies)},
        "rungs": [of(rung) for rung in rungs],
        "verdict": verdict(rungs),
    }


def text(stack: str, model: str, load: Load, rungs: Sequence[Rung]) -> str:
    rows = [_HEADER, *(_cells(rung, stage) for rung in rungs for stage in rung.stages)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADER))]
    lines = [
        "  ".join(
            cell.ljust(width) if column < _TEXT_COLUMNS else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    head = (
        f"Stack {stack}, model {model}: {load.input_tokens} tokens in and {load.output_tokens} out; the goal is a first token within "
        f"{load.first_token:g} s and {load.token:g} s for each one after it"
    )
    skipped = [f"{rung.pool}: not measured: {rung.skipped}" for rung in rungs if rung.skipped]
    return "\n".join([head, "", *lines, "", *skipped, *verdict(rungs)])


def verdict(rungs: Sequence[Rung]) -> list[str]:
    """Whether the ladder's order is that of cost, and that of speed."""
    measured = [rung for rung in rungs if rung.stages]
    if len(measured) < 2:
        return ["fewer than two rungs were measured, so their order cannot be judged"]
    priced = [rung for rung in measured if rung.usd is not None]
    return [
        _order("cheapest", priced, lambda rung: rung.usd or 0.0, lambda rung: f"{rung.usd or 0:.2f} USD a million tokens"),
        _order("fastest", measured, lambda rung: -rung.good_requests, lambda rung: f"{rung.good_requests:.2f} requests/s within the goal"),
    ]


def _order(name: str, rungs: Sequence[Rung], key: Callable[[Rung], float], said: Callable[[Rung], str]) -> str:
    wanted = sorted(rungs, key=key)
    listing = ", ".join(f"{rung.pool} ({said(rung)})" for rung in wanted)
    if wanted == list(rungs):
        return f"the ladder's order is the {name} first: {listing}"
    return f"the ladder's order is not the {name} first, which would be: {listing}"


def picture(stack: str, rungs: Sequence[Rung]) -> str:
    """An SVG with two bars a rung: requests in a second within the goal, and the price of a million tokens."""
    charts: list[tuple[str, Callable[[Rung], float], str]] = [
        ("requests a second within the latency goal", lambda rung: rung.good_requests, "#1a73e8"),
        ("USD a million tokens", lambda rung: rung.usd or 0.0, "#e8710a"),
    ]
    parts, y = [f'<text x="10" y="24" font-size="16">Stack {escape(stack)}, rung by rung</text>'], 50
    for title, value, color in charts:
        most = max(map(value, rungs), default=0.0) or 1.0
        parts.append(f'<text x="10" y="{y}">{title}</text>')
        for rung in rungs:
            y += _ROW
            parts.append(f'<text x="10" y="{y}">{escape(rung.pool)}</text>')
            parts.append(f'<rect x="{_LEFT}" y="{y - 13}" width="{value(rung) / most * _BAR:.1f}" height="16" fill="{color}"/>')
            shown = f"{value(rung):.2f}" if value(rung) else "unknown"
            parts.append(f'<text x="{_LEFT + value(rung) / most * _BAR + 6:.1f}" y="{y}">{shown}</text>')
        y += 2 * _ROW
    size = f'width="{_LEFT + _BAR + 90}" height="{y}"'
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="13">', *parts, "</svg>", ""])


def _cells(rung: Rung, stage: Stage) -> tuple[str, ...]:
    cost = rung.cost_of(stage)
    failed = f" ({stage.failed} of {stage.requests} failed)" if stage.failed else ""
    return (
        f"{rung.pool} ({rung.machine})",
        str(stage.concurrency),
        f"{stage.output_tokens:.0f}",
        f"{stage.first_token_median:.2f} s ({stage.first_token_p95:.2f})",
        f"{1000 * stage.token_median:.0f} ms",
        f"{stage.requests_per_second:.2f}{failed}",
        f"{stage.good_requests:.2f}",
        "unknown" if cost is None else f"{cost:.2f}",
    )
