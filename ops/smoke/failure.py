"""What a check found wrong."""

from __future__ import annotations


class Failure(Exception):
    """`str` is the cause, as a statement about the service; `fix` is what a person can do about it."""

    def __init__(self, cause: str, fix: str) -> None:
        super().__init__(cause)
        self.fix = fix


class NotYet(Failure):
    """A failure that is usual while a service comes up, so that waiting may cure it."""
