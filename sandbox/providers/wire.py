"""Property values between Pulumi's wire format and plain Python, with nothing lost on the way.

On the wire a resource's properties are a protobuf Struct in which secrets, unknowns, assets and resources are marked by
reserved keys and strings. In Python they are dictionaries, lists, strings, booleans, integers (every whole number: the wire
has doubles only), floats and None, plus the two marks `Secret` and `UNKNOWN`. Assets, archives and resource references stay
the dictionaries that they are.

The constants are Pulumi's (sdk/go/common/resource/sig and sdk/go/common/resource/plugin/rpc.go). The SDK's own PropertyValue
is not used: at 3.250.0 it neither reads nor writes unknown values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from google.protobuf import struct_pb2

SIGNATURE_KEY: Final = "4dabf18193072939515e22adb298388d"
SECRET_SIGNATURE: Final = "1b47061264138c4ac30d75fd1eb44270"  # noqa: S105 - a constant of the protocol
OUTPUT_SIGNATURE: Final = "d0e6a833031e9bbcd3f4e8bde6ca49a4"
UNKNOWN_STRING: Final = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
_UNKNOWNS: Final = frozenset(
    {
        UNKNOWN_STRING,
        "1c4a061d-8072-4f0a-a4cb-0ff528b18fe7",  # boolean
        "3eeb2bf0-c639-47a8-9e75-3b44932eb421",  # number
        "6a19a0b0-7e62-4c92-b797-7f8e31da9cc2",  # list
        "030794c1-ac77-496b-92df-f27374a8bd58",  # asset
        "e48ece36-62e2-4504-bad9-02848725956a",  # archive
        "dd056dcd-154b-4c76-9bd3-c8f88648b5ff",  # object
    }
)


@dataclass(frozen=True)
class Secret:
    """A value that Pulumi encrypts in its state and masks on screen; so does its representation here."""

    value: Any = field(repr=False)


class Unknown:
    """What a preview cannot know yet. There is one, `UNKNOWN`."""

    def __repr__(self) -> str:
        return "UNKNOWN"

    def __copy__(self) -> Unknown:
        return self

    def __deepcopy__(self, memo: object) -> Unknown:
        return self


UNKNOWN: Final = Unknown()


def from_struct(struct: struct_pb2.Struct) -> dict[str, Any]:
    """A message's properties as Python values. Raises `ValueError` for a Struct that is itself a marked value."""
    value = _from_fields(struct.fields)
    if not isinstance(value, dict):
        raise ValueError("properties are an object, not a single secret or output")
    return value


def to_struct(values: Mapping[str, Any]) -> struct_pb2.Struct:
    """Python values as a message's properties. Raises `TypeError` for a value that no property can have."""
    struct = struct_pb2.Struct()
    for key, value in values.items():
        _set(struct.fields[key], value)
    return struct


def plain(value: Any) -> Any:
    """A copy without marks of secrecy, at any depth; `UNKNOWN` stays."""
    if isinstance(value, Secret):
        return plain(value.value)
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return value


def without_secrets(value: Any) -> Any:
    """A copy without the secret values, at any depth."""
    if isinstance(value, Mapping):
        return {key: without_secrets(each) for key, each in value.items() if not isinstance(each, Secret)}
    if isinstance(value, list):
        return [without_secrets(each) for each in value if not isinstance(each, Secret)]
    return value


def has_unknown(value: Any) -> bool:
    """Whether anything in it, at any depth, is unknown."""
    if isinstance(value, Secret):
        return has_unknown(value.value)
    if isinstance(value, Mapping):
        return any(map(has_unknown, value.values()))
    if isinstance(value, list | tuple):
        return any(map(has_unknown, value))
    return value is UNKNOWN


def has_secret(value: Any) -> bool:
    """Whether anything in it, at any depth, is secret."""
    if isinstance(value, Mapping):
        return any(map(has_secret, value.values()))
    if isinstance(value, list | tuple):
        return any(map(has_secret, value))
    return isinstance(value, Secret)


def keep_secrets(values: Any, like: Any) -> Any:
    """`values` with everything secret that is secret at the same place in `like`: outputs made from plain inputs."""
    if isinstance(values, Secret):
        return values
    if isinstance(like, Secret):
        return Secret(values)
    if isinstance(values, Mapping) and isinstance(like, Mapping):
        return {key: keep_secrets(each, like[key]) if key in like else each for key, each in values.items()}
    if isinstance(values, list) and isinstance(like, list):
        if len(values) != len(like) and has_secret(like):
            # Nobody knows which element went where.
            return Secret(values)
        return [keep_secrets(each, other) for each, other in zip(values, like, strict=False)] + values[len(like) :]
    return values


def _from_value(value: struct_pb2.Value) -> Any:
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return _from_fields(value.struct_value.fields)
    if kind == "list_value":
        return [_from_value(each) for each in value.list_value.values]
    if kind == "number_value":
        number = value.number_value
        return int(number) if number.is_integer() else number
    if kind == "string_value":
        return UNKNOWN if value.string_value in _UNKNOWNS else value.string_value
    if kind == "bool_value":
        return value.bool_value
    return None


def _from_fields(fields: Mapping[str, struct_pb2.Value]) -> Any:
    # A message's maps come in any order; what goes over these should do so in the same one each time.
    values = {key: _from_value(fields[key]) for key in sorted(fields)}
    signature = values.get(SIGNATURE_KEY)
    if signature == SECRET_SIGNATURE:
        return Secret(values.get("value"))
    if signature == OUTPUT_SIGNATURE:
        value = values.get("value", UNKNOWN)
        return Secret(value) if values.get("secret") else value
    return values


def _set(target: struct_pb2.Value, value: Any) -> None:
    if isinstance(value, Secret):
        _set(target, {SIGNATURE_KEY: SECRET_SIGNATURE, "value": value.value})
    elif value is UNKNOWN:
        target.string_value = UNKNOWN_STRING
    elif value is None:
        target.null_value = struct_pb2.NULL_VALUE
    elif isinstance(value, bool):
        target.bool_value = value
    elif isinstance(value, int | float):
        target.number_value = value
    elif isinstance(value, str):
        target.string_value = value
    elif isinstance(value, Mapping):
        # Also makes an empty object an object.
        target.struct_value.SetInParent()
        for key, each in value.items():
            _set(target.struct_value.fields[key], each)
    elif isinstance(value, list | tuple):
        target.list_value.SetInParent()
        for each in value:
            _set(target.list_value.values.add(), each)
    else:
        raise TypeError(f"a property cannot be a {type(value).__name__}")
