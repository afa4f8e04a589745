"""What a user got wrong: one line a problem, each with the field, the value, the reason and the fix."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi


@dataclass(frozen=True)
class Problem:
    """`value` None: the value is missing, or is a secret that may not be shown."""

    field: str
    value: Any
    reason: str
    fix: str

    def __str__(self) -> str:
        shown = "" if self.value is None else f" {json.dumps(self.value, default=str)}"
        return f"{self.field}:{shown} {self.reason}. Fix: {self.fix}."


class SettingsError(pulumi.RunError):
    """The settings of a stack are wrong; the message lists every problem of them, and Pulumi shows it without a traceback."""

    def __init__(self, stack: str, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        count = "one problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__(
            f"The settings of stack {stack} have {count}; nothing was created or changed.\n"
            + "\n".join(f"  - {problem}" for problem in problems)
        )


def nearest(name: str, known: Iterable[str]) -> str:
    """A fix for an unknown name: the nearest known one, or all of them."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"did you mean {close[0]}?" if close else f"use one of {', '.join(known)}"
