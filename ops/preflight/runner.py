"""Runs the checks side by side within one bound; whatever one of them does, the others report."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Sequence

from ops.findings import Finding, failed, skipped
from ops.preflight.calls import CallFailed
from ops.preflight.context import Check, Context, explain
from ops.preflight.report import Outcome


def run_checks(checks: Sequence[Check], context: Context, *, seconds: float) -> tuple[Outcome, ...]:
    """The outcome of each check, in their order. None takes longer than `seconds` from now."""
    deadline = time.monotonic() + seconds
    settled: dict[str, Outcome] = {}
    done = threading.Condition()
    finished: queue.SimpleQueue[Outcome] = queue.SimpleQueue()

    def settle(outcome: Outcome) -> None:
        with done:
            settled.setdefault(outcome.check, outcome)
            done.notify_all()
        finished.put(outcome)

    def work(check: Check) -> None:
        with done:
            done.wait_for(lambda: all(need in settled for need in check.needs), timeout=max(0.0, deadline - time.monotonic()))
            missing = [need for need in check.needs if need not in settled or settled[need].status in ("failed", "skipped")]
        if missing:
            why = f"it needs {', '.join(missing)}, which did not pass"
            settle(Outcome(check=check.name, findings=(skipped(check.title, reason=why),), seconds=0.0))
            return
        start = time.monotonic()
        findings = tuple(_findings(check, context))
        settle(Outcome(check=check.name, findings=findings, seconds=time.monotonic() - start))

    for check in checks:
        # A daemon: one that hangs must not keep the report, or the end of the process, waiting.
        threading.Thread(target=work, args=(check,), name=f"preflight-{check.name}", daemon=True).start()
    for _ in checks:
        try:
            finished.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            break
    with done:
        return tuple(settled.get(check.name) or _late(check, seconds) for check in checks)


def _findings(check: Check, context: Context) -> list[Finding]:
    try:
        return check.run(context) or [skipped(check.title, reason="there is nothing of the kind in this stack")]
    except CallFailed as failure:
        return [explain(failure, check.title, context)]
    except Exception as error:  # noqa: BLE001  # one check's fault must not hide what the others found
        return [
            failed(
                check.title,
                f"not checked: {type(error).__name__}",
                reason=f"an answer of an unexpected shape, or a fault of preflight: {' '.join(str(error).split())[:200]}",
                fix="run preflight again; if it stays, report it with the output of --json",
            )
        ]


def _late(check: Check, seconds: float) -> Outcome:
    finding = failed(
        check.title,
        f"not checked: no answer within {seconds:g} s",
        reason="it was still waiting for a server",
        fix="run preflight again, or give it longer with --timeout SECONDS",
    )
    return Outcome(check=check.name, findings=(finding,), seconds=seconds)
