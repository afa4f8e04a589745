"""Numbers of a command line, each refused with what is wanted. Left out: what a command does with them."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable
from typing import TypeVar

_Number = TypeVar("_Number", int, float)


def number(kind: Callable[[str], _Number], accepts: Callable[[_Number], bool], what: str, give: str) -> Callable[[str], _Number]:
    """A type of argparse's; `what` and `give` end "is not ..." and "give ..." of its message."""

    def read(text: str) -> _Number:
        with contextlib.suppress(ValueError):
            if accepts(value := kind(text)):
                return value
        raise argparse.ArgumentTypeError(f"{text!r} is not {what}: give {give}")

    return read
