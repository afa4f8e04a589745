"""The one reader of declared settings: dataclasses whose fields say what a setting is, filled from a stack's configuration.

A declaration is a field of a frozen dataclass: `replicas: int = setting(Whole(1, 100), default=1, description="...")`. Its key is the
field's name in camel case unless it names another. Sections nest by `section(Class)`; the keys in a stack's file stay flat. Left out:
rules between settings (`checks`), and where configuration comes from.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from components.settings.problems import Problem, nearest, shown
from components.settings.stack_files import ENCRYPTED

T = TypeVar("T")

_OWN: Any = object()

#: What a setting without a default has in its place: the stack's file must give it.
REQUIRED: Any = object()

#: Where all settings are listed.
PAGE = "docs/settings.md"

#: Stands for a secret that is set and that only the engine reads.
UNREAD = "(known-to-the-engine-alone)"


class Notes:
    """Where the problems of one setting go."""

    def __init__(self, setting: Setting, value: Any, known: Mapping[str, Any]) -> None:
        self._setting = setting
        self.key = setting.key
        #: Settings that were declared earlier, by key.
        self.known = known
        self.problems: list[Problem] = []
        # A list or a mapping comes as JSON.
        self._shown = None if setting.secret else _parsed(value) if isinstance(value, str) and value[:1] in ("[", "{") else value

    def refuse(self, reason: str, fix: str, *, value: Any = _OWN) -> None:
        """`value`: the part that is wrong, when it is not the whole."""
        self.problems.append(Problem(self.key, self._shown if value is _OWN else value, reason, fix))

    def part(self, value: Any) -> Notes:
        """Notes about a part of the value."""
        return Notes(self._setting, value, self.known)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


class ValueType:
    """What values a setting takes."""

    #: As pages call it.
    name: str
    #: Whether an empty text is a value, and does not count as missing.
    takes_empty = False

    def read(self, value: Any, notes: Notes) -> Any:
        """The typed value; after a problem one that does no harm. None is a value that has a problem already."""
        raise NotImplementedError

    def how_to_give(self) -> str:
        """The fix where an element of a list lacks this key."""
        return "give it"


@dataclass(frozen=True)
class Derived:
    """A default that earlier settings decide. No type reads it."""

    #: As a page shows it.
    shown: str
    #: From settings that were declared earlier, by key.
    of: Callable[[Mapping[str, Any]], Any]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One declaration."""

    key: str
    type: ValueType
    default: Any
    description: str
    secret: bool

    @property
    def required(self) -> bool:
        return self.default is REQUIRED


def setting(type: ValueType, *, default: Any = REQUIRED, description: str, key: str = "", secret: bool = False) -> Any:
    """Declares a field as a setting. A secret's value is never shown."""
    facts = {"type": type, "default": default, "description": description, "secret": secret}
    return dataclasses.field(metadata={"setting": {"key": key, **facts}})


def section(of: type) -> Any:
    """Declares a field as a dataclass of settings."""
    return dataclasses.field(metadata={"section": of})


def sections(of: type) -> Iterator[tuple[str, type]]:
    """Name of the field and class of each section."""
    for field in dataclasses.fields(of):
        if "section" in field.metadata:
            yield field.name, field.metadata["section"]


def declared(of: type) -> list[Setting]:
    """All settings of a class and of its sections, in their order."""
    found: list[Setting] = []
    for field in dataclasses.fields(of):
        found += declared(field.metadata["section"]) if "section" in field.metadata else [_declaration(field)]
    return found


@functools.cache
def _declaration(field: dataclasses.Field[Any]) -> Setting:
    facts = dict(field.metadata["setting"])
    first, *rest = field.name.split("_")
    facts["key"] = facts["key"] or first + "".join(word.capitalize() for word in rest)
    return Setting(**facts)


class Reader:
    """Reads classes of settings from `NAMESPACE:key` -> text as the engine hands it over, and keeps every problem."""

    def __init__(self, values: Mapping[str, Any], namespace: str) -> None:
        self._values = values
        self._namespace = namespace
        #: Field of the element of a list that this reads; empty for a stack's configuration.
        self._within = ""
        self._known: dict[str, Any] = {}
        self.problems: list[Problem] = []

    @classmethod
    def of_element(cls, field: str, values: Mapping[str, Any], known: Mapping[str, Any]) -> Reader:
        """Reads one element of a list, key -> JSON value; a key without a value counts as left out. `known`: the settings around it."""
        reader = cls({f"{field}:{key}": value for key, value in values.items()}, field)
        reader._within, reader._known = f"{field}.", dict(known)
        return reader

    def read_element(self, of: type[T], what: str) -> T:
        """As `read`; it also refuses keys that the class does not declare. `what`: "a setting of a pool"."""
        keys = [each.key for each in declared(of)]
        for full_key, value in self._values.items():
            key = full_key.removeprefix(f"{self._namespace}:")
            if key not in keys:
                self.refuse(key, value, f"is not {what}", nearest(key, keys))
        return self.read(of)

    def read(self, of: type[T]) -> T:
        """An instance of a class of settings, harmless values in the place of wrong ones."""
        return of(
            **{
                field.name: self.read(field.metadata["section"]) if "section" in field.metadata else self._read_one(_declaration(field))
                for field in dataclasses.fields(of)  # type: ignore[arg-type]
            }
        )

    def _read_one(self, declaration: Setting) -> Any:
        key, default = declaration.key, declaration.default
        value = self._values.get(key if ":" in key else f"{self._namespace}:{key}", default)
        if value is None and self._within:
            value = default
        if value is ENCRYPTED and declaration.secret:
            value = UNREAD
        named = dataclasses.replace(declaration, key=self._within + key) if self._within else declaration
        notes = Notes(named, value, self._known)
        if value is ENCRYPTED:
            reason = "is encrypted, in whole or in part, so that only the engine can read it"
            notes.refuse(reason, f"it is not a secret: give it in the clear, as `pulumi config set {key} VALUE` does", value=None)
        elif value is REQUIRED or (value == "" and declaration.required):
            notes.refuse("is missing", self._how_to_give(declaration), value=None)
        elif value == "" and not declaration.type.takes_empty:
            instead = "" if isinstance(default, Derived) else f" for the default {shown(default)}"
            notes.refuse("is empty", f"give a value, or remove the key{instead}")
        if isinstance(value, Derived):
            self._known[key] = value.of(self._known)
        else:
            self._known[key] = declaration.type.read(None if notes.problems else value, notes)
        self.problems += notes.problems
        return self._known[key]

    def _how_to_give(self, declaration: Setting) -> str:
        if self._within:
            return declaration.type.how_to_give()
        if declaration.type.name in ("text", "whole number", "boolean"):
            return f"`pulumi config set {declaration.key} VALUE`"
        return f"give the {declaration.type.name} in the stack's file"

    def refused(self, key: str) -> bool:
        """Whether a setting has a problem of its own."""
        field = self._within + key
        return any(each.field == field or each.field.startswith((f"{field}.", f"{field}[")) for each in self.problems)

    def refuse(self, key: str, value: Any, reason: str, fix: str) -> None:
        """Notes what is wrong between this setting and others."""
        self.problems.append(Problem(self._within + key, value, reason, fix))

    def check_unknown_keys(self, instead: Mapping[str, str]) -> None:
        """Refuses keys that no read class declares; `instead`: what to do in place of a provider's own key, by key.

        Not shown are their values: each may be a secret under a wrong name. The engine's own keys (`pulumi:`) are let be.
        """
        own = [each for each in self._known if ":" not in each]
        for full_key in self._values:
            namespace, _, name = full_key.rpartition(":")
            if namespace == self._namespace and name not in self._known:
                self.problems.append(Problem(name, None, "is not a setting of this program", nearest(name, own, PAGE)))
            elif namespace not in (self._namespace, "pulumi") and full_key not in self._known:
                remove = f"`pulumi config rm {full_key}`"
                meant = difflib.get_close_matches(namespace, [self._namespace], cutoff=0.7)
                fix = f"did you mean {meant[0]}:{name}? Else {remove}" if meant else remove
                if full_key in instead:
                    fix = f"{instead[full_key]}, then {remove}"
                self.problems.append(Problem(full_key, None, "is not read by this program", fix))
