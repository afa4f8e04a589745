"""A whole run of preflight, as lines for a person and as a document for a program."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from ops.findings import STATUSES, Finding, Status, lines


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
                {"check": check} | {key: getattr(finding, key) for key in ("status", "field", "value", "reason", "fix")}
                for check, finding in self._rows
            ],
        }

    @property
    def _rows(self) -> list[tuple[str, Finding]]:
        return [(outcome.check, finding) for outcome in self.outcomes for finding in outcome.findings]

    def text(self, *, width: int = 120) -> str:
        head = f"preflight of stack {self.stack}: project {self.project}, region {self.region}"
        counts = ", ".join(f"{count} {status}" for status, count in self.counts.items() if count)
        return "\n".join([head, "", *lines(self._rows, width=width), "", f"{counts or 'nothing to check'} in {self.seconds:.1f} s"])
