"""What differs between two sets of properties, value by value, in the terms of Pulumi's detailed diff."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sandbox.providers.wire import Secret

#: Keys of maps and indexes of lists, from the resource's properties down.
Path = tuple[str | int, ...]
Kind = Literal["add", "update", "delete"]


@dataclass(frozen=True)
class PropertyChange:
    """`replaces`: the resource has to be made anew for it."""

    path: Path
    kind: Kind
    replaces: bool = False

    @property
    def property_path(self) -> str:
        return property_path(self.path)


@dataclass(frozen=True)
class Difference:
    """The answer to a diff; no change at all is one without `changes`."""

    changes: tuple[PropertyChange, ...] = ()
    #: Whether a replaced resource goes before its successor comes, as two of one name cannot be at once.
    delete_before_replace: bool = False


def property_path(path: Path) -> str:
    """`nodeConfig.taints[0].effect`; keys with dots or the like of their own are quoted as Pulumi does."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif any(character in '.[]"' for character in step):
            escaped = step.replace("\\", "\\\\").replace('"', '\\"')
            text += f'["{escaped}"]'
        else:
            text += f".{step}" if text else step
    return text


def compare(old: Any, new: Any, path: Path = ()) -> Iterator[PropertyChange]:
    """Every leaf that differs. None counts as absent, and an unknown value as one that will differ."""
    old, new = _bare(old), _bare(new)
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in dict.fromkeys([*old, *new]):
            yield from compare(old.get(key), new.get(key), (*path, key))
    elif isinstance(old, list) and isinstance(new, list):
        for index in range(max(len(old), len(new))):
            before = old[index] if index < len(old) else None
            after = new[index] if index < len(new) else None
            yield from compare(before, after, (*path, index))
    elif old is None and new is not None:
        yield PropertyChange(path, "add")
    elif old is not None and new is None:
        yield PropertyChange(path, "delete")
    elif old != new or (type(old) is not type(new) and bool in (type(old), type(new))):
        yield PropertyChange(path, "update")


def _bare(value: Any) -> Any:
    return value.value if isinstance(value, Secret) else value
