"""Property values between the provider protocol's form (protobuf structs with signature keys) and plain Python.

Plain means dict, list, str, bool, int, float and None; beside these, `UNKNOWN` stands for what is not known before an update,
and `Secret` wraps what must stay encrypted. Assets, archives and resource references stay dictionaries with their signature.
The SDK's own PropertyValue is not used: at 3.250.0 it neither reads nor writes unknown values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf import struct_pb2

#: Keys and marks of the protocol: pulumi/sdk/go/common/resource/sig and .../resource/plugin/rpc.go.
SIGNATURE_KEY: Final = "4dabf18193072939515e22adb298388d"
_SECRET: Final = "1b47061264138c4ac30d75fd1eb44270"  # noqa: S105 - a constant of the protocol
_OUTPUT: Final = "d0e6a833031e9bbcd3f4e8bde6ca49a4"
_UNKNOWN_STRING: Final = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
_UNKNOWNS: Final = frozenset(
    {
        _UNKNOWN_STRING,
        "1c4a061d-8072-4f0a-a4cb-0ff528b18fe7",  # boolean
        "3eeb2bf0-c639-47a8-9e75-3b44932eb421",  # number
        "6a19a0b0-7e62-4c92-b797-7f8e31da9cc2",  # list
        "030794c1-ac77-496b-92df-f27374a8bd58",  # asset
        "e48ece36-62e2-4504-bad9-02848725956a",  # archive
        "dd056dcd-154b-4c76-9bd3-c8f88648b5ff",  # object
    }
)


class Unknown:
    """A value that is known only after the update that makes it."""

    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN: Final = Unknown()


@dataclass(frozen=True)
class Secret:
    """A value that is stored and shown encrypted; its representation never has it."""

    value: Any

    def __repr__(self) -> str:
        return "Secret(...)"


def decode(struct: struct_pb2.Struct) -> dict[str, Any]:
    """A protobuf struct as plain values."""
    return {key: _decode(value) for key, value in struct.fields.items()}


def _decode(value: struct_pb2.Value) -> Any:
    match value.WhichOneof("kind"):
        case "string_value":
            return UNKNOWN if value.string_value in _UNKNOWNS else value.string_value
        case "number_value":
            number = value.number_value
            return int(number) if number.is_integer() else number
        case "bool_value":
            return value.bool_value
        case "list_value":
            return [_decode(each) for each in value.list_value.values]
        case "struct_value":
            fields = decode(value.struct_value)
            if fields.get(SIGNATURE_KEY) == _SECRET:
                return Secret(fields.get("value"))
            if fields.get(SIGNATURE_KEY) == _OUTPUT:
                inner = fields.get("value", UNKNOWN)
                return Secret(inner) if fields.get("secret") else inner
            return fields
        case _:
            return None


def encode(values: Mapping[str, Any]) -> struct_pb2.Struct:
    """Plain values as a protobuf struct; keys whose value is None are left out."""
    return struct_pb2.Struct(fields={key: _encode(value) for key, value in values.items() if value is not None})


def _encode(value: Any) -> struct_pb2.Value:
    if value is None:
        return struct_pb2.Value(null_value=struct_pb2.NULL_VALUE)
    if isinstance(value, Unknown):
        return struct_pb2.Value(string_value=_UNKNOWN_STRING)
    if isinstance(value, Secret):
        fields = {SIGNATURE_KEY: struct_pb2.Value(string_value=_SECRET), "value": _encode(value.value)}
        return struct_pb2.Value(struct_value=struct_pb2.Struct(fields=fields))
    if isinstance(value, bool):
        return struct_pb2.Value(bool_value=value)
    if isinstance(value, int | float):
        return struct_pb2.Value(number_value=value)
    if isinstance(value, str):
        return struct_pb2.Value(string_value=value)
    if isinstance(value, Mapping):
        return struct_pb2.Value(struct_value=encode(value))
    return struct_pb2.Value(list_value=struct_pb2.ListValue(values=[_encode(each) for each in value]))


def reveal(value: Any) -> Any:
    """A copy without the marks of secrets, and without keys whose value is None."""
    if isinstance(value, Secret):
        return reveal(value.value)
    if isinstance(value, Mapping):
        return {key: reveal(each) for key, each in value.items() if each is not None}
    if isinstance(value, list):
        return [reveal(each) for each in value]
    return value


def has_unknown(value: Any) -> bool:
    return _any(value, lambda each: isinstance(each, Unknown))


def has_secret(value: Any) -> bool:
    return _any(value, lambda each: isinstance(each, Secret))


def _any(value: Any, test: Callable[[Any], bool]) -> bool:
    if test(value):
        return True
    if isinstance(value, Secret):
        return _any(value.value, test)
    if isinstance(value, Mapping):
        return any(_any(each, test) for each in value.values())
    return isinstance(value, list) and any(_any(each, test) for each in value)


def mark_secrets(values: Any, like: Any) -> Any:
    """`values` with Secret wherever `like` has one; a list in which any element differs in length or is secret as a whole."""
    if isinstance(like, Secret):
        return values if isinstance(values, Secret | None) else Secret(reveal(values))
    if isinstance(values, Secret):
        return values
    if isinstance(values, Mapping) and isinstance(like, Mapping):
        return {key: mark_secrets(each, like.get(key)) for key, each in values.items()}
    if isinstance(values, list) and isinstance(like, list) and has_secret(like):
        if len(values) != len(like):
            # Nobody knows which element moved where.
            return Secret(reveal(values))
        return [mark_secrets(each, other) for each, other in zip(values, like, strict=True)]
    return values


@dataclass(frozen=True)
class Change:
    """One difference between two trees of values."""

    #: Keys and list positions.
    path: tuple[str | int, ...]
    #: None on the side that lacks it.
    old: Any
    new: Any

    @property
    def kind(self) -> str:
        return "ADD" if self.old is None else "DELETE" if self.new is None else "UPDATE"


def changes(old: Any, new: Any, path: tuple[str | int, ...] = ()) -> list[Change]:
    """Every leaf in which two trees differ, secrets by what is in them; an unknown value differs from everything."""
    old, new = _unwrap(old), _unwrap(new)
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        keys = [*old, *(key for key in new if key not in old)]
        return [change for key in keys for change in changes(old.get(key), new.get(key), (*path, key))]
    if isinstance(old, list) and isinstance(new, list):
        found = []
        for index in range(max(len(old), len(new))):
            before = old[index] if index < len(old) else None
            after = new[index] if index < len(new) else None
            found += changes(before, after, (*path, index))
        return found
    if isinstance(old, Unknown) or isinstance(new, Unknown):
        return [Change(path, old, new)]
    if reveal(old) == reveal(new):
        return []
    return [Change(path, old, new)]


def _unwrap(value: Any) -> Any:
    while isinstance(value, Secret):
        value = value.value
    return value


def path_text(path: tuple[str | int, ...]) -> str:
    """`spec.containers[0].resources.limits["nvidia.com/gpu"]`, as the engine reads property paths."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif any(character in step for character in '.[]"'):
            escaped = step.replace('"', '\\"')
            text += f'["{escaped}"]'
        else:
            text += f".{step}" if text else step
    return text
