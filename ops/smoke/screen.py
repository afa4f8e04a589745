"""A report as a table for people."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ops.smoke.checks import Report, Status

_STYLES: dict[Status, str] = {"ok": "green", "failed": "bold red", "skipped": "yellow", "unknown": "yellow"}


def table(report: Report) -> Table:
    """One line a check; under a failure its cure."""
    shown = Table(title_justify="left", expand=False)
    for column in ("check", "result", "seconds", "what"):
        shown.add_column(column, overflow="fold", justify="right" if column == "seconds" else "left")
    for check in report.checks:
        what = Text(check.detail)
        if check.fix:
            what.append(f"\nFix: {check.fix}")
        seconds = "" if check.seconds is None else f"{check.seconds:.2f}"
        shown.add_row(check.name, Text(check.status, style=_STYLES[check.status]), seconds, what)
    return shown


def show(report: Report, console: Console) -> None:
    """The table, and the verdict in one line."""
    target = report.target
    of_stack = f"stack {target.stack}, " if target.stack else ""
    console.print(Text(f"Smoke test of {of_stack}{target.service_url}, model {target.model}"))
    console.print(table(report))
    failed = [each.name for each in report.checks if each.status == "failed"]
    console.print(Text(f"failed: {', '.join(failed)}", "bold red") if failed else Text("good", "green"))
