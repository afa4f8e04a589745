"""What a check found, in the four parts of every message, and how findings are shown. Left out: what is checked."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from components.settings.problems import Problem

Status = Literal["ok", "warning", "failed", "skipped"]
STATUSES: tuple[Status, ...] = get_args(Status)

_SIGNS = {"ok": "ok", "warning": "WARNING", "failed": "FAILED", "skipped": "skipped"}


@dataclass(frozen=True, kw_only=True)
class Finding(Problem):
    """`field`: what was looked at; `value`: what was found. `reason` and `fix` (a command or a page) are empty when all is well."""

    value: str
    reason: str = ""
    fix: str = ""
    status: Status
    #: How long it took, where that matters.
    seconds: float | None = None


def ok(field: str, value: str, *, seconds: float | None = None) -> Finding:
    return Finding(field=field, value=value, status="ok", seconds=seconds)


def warning(field: str, value: str, *, reason: str, fix: str) -> Finding:
    return Finding(field=field, value=value, reason=reason, fix=fix, status="warning")


def failed(field: str, value: str, *, reason: str, fix: str, seconds: float | None = None) -> Finding:
    return Finding(field=field, value=value, reason=reason, fix=fix, status="failed", seconds=seconds)


def skipped(field: str, *, reason: str, fix: str = "") -> Finding:
    return Finding(field=field, value="not checked", reason=reason, fix=fix, status="skipped")


def lines(rows: Iterable[tuple[str, Finding]], *, width: int = 120) -> list[str]:
    """Check and finding, one a line; below it the reason, and the fix unbroken, so that it can be copied."""
    rows = list(rows)
    check_width = max((len(check) for check, _ in rows), default=0)
    indent = " " * (9 + check_width + 2)
    found: list[str] = []
    for check, finding in rows:
        start = f"{_SIGNS[finding.status]:<9}{check:<{check_width}}  "
        seconds = "" if finding.seconds is None else f" ({finding.seconds:.2f} s)"
        found += _wrapped(start, f"{finding.field}: {finding.value}{seconds}", indent, width)
        if finding.reason:
            found += _wrapped(f"{indent}reason: ", finding.reason, f"{indent}        ", width)
        if finding.fix:
            found.append(f"{indent}fix:    {finding.fix}")
    return found


def _wrapped(start: str, text: str, indent: str, width: int) -> Sequence[str]:
    return textwrap.wrap(
        text,
        width=max(width, len(indent) + 40),
        initial_indent=start,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
