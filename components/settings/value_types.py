"""What kinds of values settings take, each with its check.

Every text that the engine hands over may come from a value of any YAML type. Left out: the formats of single settings (`formats`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from components.settings.problems import Problem, nearest
from components.settings.reader import Notes, ValueType

#: Notes what else is wrong with a text.
Rule = Callable[[str, Notes], None]

_QUANTITY = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)(m|k|Ki|M|Mi|G|Gi|T|Ti)?")
_FACTORS = {"m": 1e-3, "": 1.0, "k": 1e3, "Ki": 2.0**10, "M": 1e6, "Mi": 2.0**20, "G": 1e9, "Gi": 2.0**30, "T": 1e12, "Ti": 2.0**40}


def is_quantity(text: str) -> bool:
    return _QUANTITY.fullmatch(text) is not None


def parse_quantity(text: str) -> float:
    """A Kubernetes quantity as a number of its unit: `1500m` -> 1.5, `5Gi` -> 5368709120.0."""
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a quantity")
    return float(match[1]) * _FACTORS[match[2] or ""]


@dataclass(frozen=True)
class Boolean(ValueType):
    #: Whether the texts of true and false count as well.
    texts: bool = True
    name = "boolean"

    def read(self, value: Any, notes: Notes) -> bool:
        if value is not None and not isinstance(value, bool) and not (self.texts and value in ("true", "false")):
            notes.refuse("is neither true nor false", "give true or false")
        return value in ("true", True)


@dataclass(frozen=True)
class Whole(ValueType):
    """A whole number from `low` to `high`."""

    low: int
    high: int
    #: What it is, and what to give, where more is to be said than its limits.
    what: str = ""
    numbers: str = "one"
    #: Why no number from 0 on that is below the lowest will do.
    too_low: str = ""
    #: Whether the text of a number counts as well.
    texts: bool = True
    name = "whole number"

    def read(self, value: Any, notes: Notes) -> int:
        if value is None:
            return self.low
        # ASCII digits, and few enough that Python takes them for a number.
        is_whole = re.fullmatch(r"-?[0-9]{1,18}", str(value)) is not None and (self.texts or not isinstance(value, str))
        if is_whole and self.low <= int(value) <= self.high:
            return int(value)
        reason = f"is not {self.what or f'a whole number from {self.low} to {self.high}'}"
        notes.refuse(self.too_low if self.too_low and is_whole and 0 <= int(value) < self.low else reason, self.how_to_give())
        return self.low

    def how_to_give(self) -> str:
        return f"give {self.numbers} from {self.low} to {self.high}"


@dataclass(frozen=True)
class Choice(ValueType):
    """One of a few words; `reason` where more is to be said than which they are, `listed`: where many are."""

    options: tuple[str, ...]
    reason: str = ""
    listed: str = ""
    name = "text"

    def read(self, value: Any, notes: Notes) -> str:
        if value is not None and value not in self.options:
            reason = self.reason or f"is not one of {', '.join(self.options)}"
            notes.refuse(reason, nearest(value, self.options, self.listed))
        return str(value or "")

    def how_to_give(self) -> str:
        return nearest(None, self.options, self.listed)


@dataclass(frozen=True)
class Text(ValueType):
    """A text that the pattern matches as a whole and that `rule` has nothing against."""

    pattern: re.Pattern[str]
    what: str
    fix: str
    rule: Rule | None = None
    takes_empty: bool = False
    name = "text"

    def read(self, value: Any, notes: Notes) -> str:
        text = "" if value is None else str(value)
        if value is None or (self.takes_empty and not value):
            return text
        if not self.pattern.fullmatch(text):
            notes.refuse(f"is not {self.what}", self.fix)
        elif self.rule is not None:
            self.rule(text, notes)
        return text

    def how_to_give(self) -> str:
        return self.fix


@dataclass(frozen=True)
class Secret(ValueType):
    """A text that goes into an HTTP header; never shown."""

    pattern: re.Pattern[str]
    reason: str
    fix: str
    takes_empty: bool = True
    name = "text"

    def read(self, value: Any, notes: Notes) -> str:
        text = "" if value is None else str(value)
        if text and not self.pattern.fullmatch(text):
            notes.refuse(self.reason, self.fix)
        return text


@dataclass(frozen=True)
class Quantity(ValueType):
    """A Kubernetes quantity above zero; of `bytes` one with which something runs."""

    bytes: bool = False
    name = "text"

    def read(self, value: Any, notes: Notes) -> str:
        text = str(value or "")
        if value is not None and (not is_quantity(text) or parse_quantity(text) <= 0):
            notes.refuse("is not a Kubernetes quantity above zero", "give one such as 1500m, 5Gi or 43Gi")
        elif text and self.bytes and parse_quantity(text) < 2**20:
            # A server has not started in less; `5` and `512m` are typing mistakes for 5Gi and 512Mi.
            notes.refuse(f"is {parse_quantity(text):g} bytes, with which nothing runs", "give one such as 5Gi or 512Mi")
        return text


@dataclass(frozen=True)
class Texts(ValueType):
    """A list of texts, each of one type and none twice, or a list that `rule` judges as a whole."""

    element: ValueType | None = None
    most: int | None = None
    rule: Callable[[tuple[str, ...], Notes], None] | None = None
    name = "list of texts"

    def read(self, value: Any, notes: Notes) -> tuple[str, ...]:
        value = read_json(value, "list", notes)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            fix = "give a list, each element in quotes if it looks like a number or a date"
            notes.refuse("is not a list of texts", fix, value=value)
            return ()
        if self.most is not None and len(value) > self.most:
            notes.refuse(f"has {len(value)} elements, more than the {self.most} that are allowed", "remove some", value=None)
        if self.rule is not None:
            self.rule(tuple(value), notes)
        if self.element is None:
            return tuple(value)
        for index, each in enumerate(value):
            part = notes.part(each)
            self.element.read(each, part)
            if each in value[:index] and not part.problems:
                part.refuse("is listed twice", "remove one of the two")
            notes.problems += part.problems
        return tuple(value)


@dataclass(frozen=True)
class Structure(ValueType):
    """A mapping or a list of a form of its own; `parse` gets it with its field and the settings that are known already."""

    parse: Callable[[Any, str, Mapping[str, Any]], tuple[Any, Iterable[Problem]]]
    #: What stands for it after a problem.
    nothing: Any = None
    name: str = "mapping"

    def read(self, value: Any, notes: Notes) -> Any:
        value = read_json(value, self.name, notes)
        if value is None:
            return self.nothing
        found, problems = self.parse(value, notes.key, notes.known)
        notes.problems += problems
        return found


def read_json(value: Any, what: str, notes: Notes) -> Any:
    """A structure, which the engine hands over as JSON; None after a problem."""
    if not isinstance(value, str):
        return value
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        found = None
    if found is None:
        notes.refuse(f"is not a {what}", f"give a YAML {what} in the stack's file, or JSON")
    return found
