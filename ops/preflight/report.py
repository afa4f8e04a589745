"""What a check found, and the two shapes in which a run is shown: lines for a person and a document for a program."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

Status = Literal["ok", "warning", "failed", "skipped"]
STATUSES: tuple[Status, ...] = get_args(Status)

_SIGNS = {"ok": "ok", "warning": "WARNING", "failed": "FAILED", "skipped": "skipped"}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of the table. `cause` and `cure` are empty when all is well; a cure is a command or a page."""

    status: Status
    #: What was looked at, such as `NVIDIA_L4_GPUS in asia-northeast1`.
    what: str
    finding: str
    cause: str = ""
    cure: str = ""


def ok(what: str, finding: str) -> Finding:
    return Finding(status="ok", what=what, finding=finding)


def warning(what: str, finding: str, *, cause: str, cure: str) -> Finding:
    return Finding(status="warning", what=what, finding=finding, cause=cause, cure=cure)


def failed(what: str, finding: str, *, cause: str, cure: str) -> Finding:
    return Finding(status="failed", what=what, finding=finding, cause=cause, cure=cure)


def skipped(what: str, *, cause: str, cure: str = "") -> Finding:
    return Finding(status="skipped", what=what, finding="not checked", cause=cause, cure=cure)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Everything that one check found."""

    check: str
    findings: tuple[Finding, ...]
    #: Wall clock of the check itself.
    seconds: float

    @property
    def status(self) -> Status:
        """The worst of its findings; `skipped` only where nothing was checked at all."""
        found = {each.status for each in self.findings}
        if "failed" in found:
            return "failed"
        if "warning" in found:
            return "warning"
        return "skipped" if found == {"skipped"} else "ok"


@dataclass(frozen=True, kw_only=True)
class Report:
    """A whole run."""

    stack: str
    project: str
    region: str
    outcomes: tuple[Outcome, ...]
    seconds: float

    @property
    def counts(self) -> dict[Status, int]:
        """Findings by status."""
        found = Counter(finding.status for outcome in self.outcomes for finding in outcome.findings)
        return {status: found[status] for status in STATUSES}

    def passed(self, *, strict: bool = False) -> bool:
        """`strict`: a warning counts as a failure."""
        return not self.counts["failed"] and not (strict and self.counts["warning"])

    def document(self, *, strict: bool = False) -> dict[str, Any]:
        """The shape of `--json`; docs/preflight.md describes it."""
        return {
            "stack": self.stack,
            "project": self.project,
            "region": self.region,
            "ok": self.passed(strict=strict),
            "counts": dict(self.counts),
            "seconds": round(self.seconds, 3),
            "findings": [
                {
                    "check": outcome.check,
                    "status": finding.status,
                    "what": finding.what,
                    "finding": finding.finding,
                    "cause": finding.cause,
                    "cure": finding.cure,
                }
                for outcome in self.outcomes
                for finding in outcome.findings
            ],
        }

    def text(self, *, width: int = 120) -> str:
        """A line a finding; below one that is not well its cause, and its cure unbroken, so that it can be copied."""
        rows = [(outcome.check, finding) for outcome in self.outcomes for finding in outcome.findings]
        check_width = max((len(check) for check, _ in rows), default=0)
        lines = [f"preflight of stack {self.stack}: project {self.project}, region {self.region}", ""]
        indent = " " * (9 + check_width + 2)
        for check, finding in rows:
            start = f"{_SIGNS[finding.status]:<9}{check:<{check_width}}  "
            lines += _wrapped(start, f"{finding.what}: {finding.finding}", indent, width)
            if finding.cause:
                lines += _wrapped(f"{indent}cause: ", finding.cause, f"{indent}       ", width)
            if finding.cure:
                lines.append(f"{indent}cure:  {finding.cure}")
        counts = ", ".join(f"{count} {status}" for status, count in self.counts.items() if count)
        return "\n".join([*lines, "", f"{counts or 'nothing to check'} in {self.seconds:.1f} s"])


def _wrapped(start: str, text: str, indent: str, width: int) -> Sequence[str]:
    return textwrap.wrap(
        text,
        width=max(width, len(indent) + 40),
        initial_indent=start,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
