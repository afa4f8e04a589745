"""What a rule is, what it checks, and what it can find. Nothing here uses Pulumi's policy SDK.

A rule checks the inputs of one resource before the resource is made, or of all resources at the end of a preview or an update.
In a preview, values that depend on something that does not exist yet are `UNKNOWN`. A rule decides by the known values and
returns `Undecided` for the rest, which the update decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Literal

from components.settings.problems import Problem

Level = Literal["mandatory", "advisory"]


class _Unknown:
    """The type of `UNKNOWN`."""

    def __repr__(self) -> str:
        return "UNKNOWN"


#: Stands for a value that is known only in the update.
UNKNOWN: Final = _Unknown()


@dataclass(frozen=True, kw_only=True)
class Resource:
    """A resource of a stack; `properties` by their names on the wire (camelCase), as Pulumi's registry documents them."""

    urn: str
    type: str
    name: str
    properties: Mapping[str, Any]
    #: The resource option of that name.
    protect: bool = False

    @property
    def stack(self) -> str:
        """Name of the stack, without organisation and project."""
        return self.urn.removeprefix("urn:pulumi:").split("::")[0]

    def get(self, *path: str | int) -> Any:
        """The value at a path; None if there is none, UNKNOWN if it or something above it is not known yet."""
        return get(self.properties, *path)


def get(value: Any, *path: str | int) -> Any:
    """See `Resource.get`."""
    for key in path:
        if isinstance(value, _Unknown):
            return UNKNOWN
        if isinstance(value, Mapping):
            value = value.get(key)
        elif isinstance(value, Sequence) and not isinstance(value, str) and isinstance(key, int) and key < len(value):
            value = value[key]
        else:
            return None
    return value


@dataclass(frozen=True, kw_only=True)
class Violation(Problem):
    """A broken rule. `field` is a property of the resource; `value` None where there is none. It never holds one that could be secret."""

    value: Any = None
    #: None for what all resources are together.
    resource: Resource | None

    def __str__(self) -> str:
        return f"{self.resource.name}: {super().__str__()}" if self.resource else super().__str__()


@dataclass(frozen=True, kw_only=True)
class Undecided:
    """A property that a preview does not know and the update decides."""

    resource: Resource
    field: str

    def __str__(self) -> str:
        return f"{self.resource.name}: {self.field} is known only in the update, which decides it"


Finding = Violation | Undecided
Options = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Option:
    """One key of a rule's configuration."""

    type: Literal["array", "number"]
    default: Any
    description: str


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A policy. `level` applies if the stack's configuration sets none, so it is production's."""

    name: str
    description: str
    level: Level
    #: Why the policy has that level; the end of a sentence.
    because: str
    options: Mapping[str, Option] = field(default_factory=lambda: MappingProxyType({}))

    def defaults(self) -> dict[str, Any]:
        return {name: option.default for name, option in self.options.items()}


@dataclass(frozen=True, kw_only=True)
class ResourceRule(Rule):
    """Checks each resource before it is made or changed: an update does not touch a resource that violates it."""

    check: Callable[[Resource, Options], Iterable[Finding]]


@dataclass(frozen=True, kw_only=True)
class StackRule(Rule):
    """Checks all resources together; an update does so only after they were made, so the preview is what counts."""

    check: Callable[[Sequence[Resource], Options], Iterable[Finding]]
