"""The one reader of declared settings: dataclasses whose fields say what a setting is, filled from a stack's configuration.

A declaration is a field of a frozen dataclass: `replicas: int = setting(Whole(1, 100), default=1, description="...")`. Its key is the
field's name in camel case unless it names another. Sections nest by `section(Class)`; the keys in a stack's file stay flat. Left out:
rules between settings (`checks`), and where configuration comes from.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from components.settings.problems import Problem, nearest

T = TypeVar("T")

_OWN: Any = object()

#: What a setting without a default has in its place: the stack's file must give it.
REQUIRED: Any = object()


class Notes:
    """Where the problems of one setting go."""

    def __init__(self, setting: Setting, value: Any, known: Mapping[str, Any]) -> None:
        self.key = setting.key
        #: Settings that were declared earlier, by key.
        self.known = known
        self.problems: list[Problem] = []
        self._shown = None if setting.secret else value

    def refuse(self, reason: str, fix: str, *, value: Any = _OWN, below: str = "") -> None:
        """`value`: the part that is wrong, when it is not the whole; `below`: its name within the setting."""
        field = f"{self.key}.{below}" if below else self.key
        self.problems.append(Problem(field, self._shown if value is _OWN else value, reason, fix))


class ValueType(Protocol):
    """What values a setting takes."""

    @property
    def schema(self) -> Mapping[str, Any]:
        """`type` of Pulumi's configuration schema, with `items` of an array."""

    def read(self, value: Any, notes: Notes) -> Any:
        """The typed value; after a problem one that does no harm. None is a value that is missing."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One declaration."""

    key: str
    type: ValueType
    default: Any
    description: str
    secret: bool
    #: Whether an empty text counts as missing.
    filled: bool

    @property
    def required(self) -> bool:
        return self.default is REQUIRED


def setting(
    type: ValueType,
    *,
    default: Any = REQUIRED,
    description: str,
    key: str = "",
    secret: bool = False,
    filled: bool = False,
) -> Any:
    """Declares a field as a setting. A secret's value is never shown; `filled` refuses an empty text as missing."""
    facts = {"type": type, "default": default, "description": description, "secret": secret, "filled": filled}
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
        self._known: dict[str, Any] = {}
        self.problems: list[Problem] = []

    def read(self, of: type[T]) -> T:
        """An instance of a class of settings, harmless values in the place of wrong ones."""
        return of(
            **{
                field.name: self.read(field.metadata["section"]) if "section" in field.metadata else self._read_one(_declaration(field))
                for field in dataclasses.fields(of)  # type: ignore[arg-type]
            }
        )

    def _read_one(self, declaration: Setting) -> Any:
        key = declaration.key
        value = self._values.get(self._full(key))
        if value is None and declaration.secret:
            # Not everybody who reads settings can decrypt them.
            value = declaration.default
        if value == "" and declaration.filled:
            value = None
        notes = Notes(declaration, value, self._known)
        if value is None:
            notes.refuse("is missing", f"`pulumi config set {key} VALUE`")
        self._known[key] = declaration.type.read(value, notes)
        self.problems += notes.problems
        return self._known[key]

    def _full(self, key: str) -> str:
        return key if ":" in key else f"{self._namespace}:{key}"

    def refused(self, key: str) -> bool:
        """Whether a setting has a problem of its own."""
        return any(each.field == key or each.field.startswith((f"{key}.", f"{key}[")) for each in self.problems)

    def check_unknown_keys(self) -> None:
        """Refuses keys of the namespace that no read class declares."""
        prefix = f"{self._namespace}:"
        for key in self._values:
            name = key.removeprefix(prefix)
            if key.startswith(prefix) and name not in self._known:
                # The value may be a secret under a misspelt name.
                fix = nearest(name, [each for each in self._known if ":" not in each])
                self.problems.append(Problem(name, None, "is not a setting of this program", fix))
