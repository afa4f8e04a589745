"""What a user got wrong: one line a problem, each with the field, the value, the reason and the fix."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi

#: As many names are still read by a person who looks for one.
_MANY = 10


@dataclass(frozen=True)
class Problem:
    """`value` None: the value is missing, or is a secret that may not be shown."""

    field: str
    value: Any
    reason: str
    fix: str

    def __str__(self) -> str:
        value = "" if self.value is None else f" {shown(self.value)}"
        return f"{self.field}:{value} {self.reason}. Fix: {self.fix}{'' if self.fix.endswith('?') else '.'}"


class SettingsError(pulumi.RunError):
    """The settings of a stack are wrong; the message lists every problem of them, and Pulumi shows it without a traceback."""

    def __init__(self, stack: str, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        count = "one problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__(
            f"The settings of stack {stack} have {count}; nothing was created or changed.\n"
            + "\n".join(f"  - {problem}" for problem in problems)
        )


def shown(value: Any) -> str:
    """A value as JSON has it."""
    return json.dumps(value, default=str)


def nearest(name: object, known: Iterable[str], listed: str = "") -> str:
    """A fix for an unknown name: the nearest known one, or all of them; of many a few, and where they are `listed`."""
    known = list(known)
    if isinstance(name, str) and (close := difflib.get_close_matches(name, known, n=1, cutoff=0.6)):
        return f"did you mean {close[0]}?"
    if len(known) > _MANY:
        return f"use one such as {', '.join(known[:2])}" + (f"; {listed} lists all" if listed else "")
    return f"use one of {', '.join(known)}"


def counted(number: float, what: str) -> str:
    """`1 hour`, `2 hours`."""
    return f"{number:g} {what}{'' if number == 1 else 's'}"
