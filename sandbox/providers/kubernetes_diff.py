"""What changes between a Kubernetes object's known state and new inputs, as values: no API server, no Pulumi protocol.

The rules follow pulumi-kubernetes 4.34: the last known live object, cut down to the fields that the program set, is
compared with the new inputs, so that neither server defaults nor fields of other managers show. Instead of that
provider's conversion to Go types, which makes equal quantities equal, the answer of a dry run tells which differences
the API server does not see (`without_invisible`).

Left out: patch resources, `replaceUnready`, and the fields that replace objects of kinds that the program does not make.
"""

import base64
import copy
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from sandbox.providers.differences import Path, PropertyChange, compare, property_path

_MISSING: Final = object()

_READ_ONLY_METADATA: Final = (
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "generation",
    "managedFields",
    "resourceVersion",
    "uid",
)


# --- shapes


def prune(source: Any, shape: Any) -> Any:
    """`source` without what `shape` does not have: of maps the keys, of lists the length, all the way down."""
    if isinstance(source, Mapping) and isinstance(shape, Mapping):
        return {key: prune(value, shape[key]) for key, value in source.items() if key in shape}
    if isinstance(source, list) and isinstance(shape, list):
        return [prune(value, each) for value, each in zip(source, shape, strict=False)]
    return source


def normalized(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Inputs as the API server keeps them, where that is known without asking: read-only metadata goes, nulls go, and a
    Secret's `stringData` becomes `data`.
    """
    result: dict[str, Any] = _without_nulls(inputs)
    metadata = result.get("metadata")
    if isinstance(metadata, dict):
        for key in _READ_ONLY_METADATA:
            metadata.pop(key, None)
    if is_secret(result):
        _encode_string_data(result)
    return result


def is_secret(value: Mapping[str, Any]) -> bool:
    return value.get("apiVersion") in ("v1", None) and value.get("kind") == "Secret"


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nulls(each) for key, each in value.items() if each is not None}
    if isinstance(value, list):
        return [_without_nulls(each) for each in value]
    return value


def _encode_string_data(secret: dict[str, Any]) -> None:
    texts, data = secret.get("stringData"), secret.get("data") or {}
    if isinstance(texts, dict) and all(isinstance(value, str) for value in texts.values()) and isinstance(data, dict):
        del secret["stringData"]
        secret["data"] = {**data, **{key: base64.b64encode(value.encode()).decode() for key, value in texts.items()}}


# --- differences


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[PropertyChange]:
    """What to do to `old` (already pruned) to get `new`: the highest changed property of each branch."""
    fixed = force_new_paths(new)
    return [replacing(change, _forces(change, new, fixed)) for change in compare(old, new)]


def replacing(change: PropertyChange, replaces: bool) -> PropertyChange:
    return replace(change, replaces=replaces)


def _equal(one: Any, other: Any) -> bool:
    return not any(compare(one, other))


def without_invisible(changes: Iterable[PropertyChange], live: Any, predicted: Any) -> list[PropertyChange]:
    """Drops changes that the API server does not see: values that it writes in another way ("0.5" and "500m" of a CPU),
    and fields that it drops (an empty list).

    `live`: the known object; `predicted`: what a dry run made of the new inputs. A deletion stays even where the server
    fills the field in again: the program gives the field up, and others may own it then. An element of a list stays where the dry run
    made the list longer or shorter: an entry under another key (a Service's port) comes beside the one that the update will take away.
    """

    def invisible(change: PropertyChange) -> bool:
        before, after = _at(live, change.path), _at(predicted, change.path)
        same_place = all(_length(live, change.path[:end]) == _length(predicted, change.path[:end]) for end in range(len(change.path)))
        return same_place and change.kind != "delete" and (before is _MISSING) == (change.kind == "add") and _equal(before, after)

    return [change for change in changes if not invisible(change)]


def without_unchanged_inputs(changes: Iterable[PropertyChange], old_inputs: Any, new_inputs: Any) -> list[PropertyChange]:
    """Drops changes of properties that the program gives as it did before: all that is known without a cluster."""
    return [change for change in changes if not _equal(_at(old_inputs, change.path), _at(new_inputs, change.path))]


def without_ignored(changes: Iterable[PropertyChange], ignored: Iterable[Path]) -> list[PropertyChange]:
    """Drops what `ignoreChanges` names, and everything below."""
    paths = tuple(ignored)
    return [change for change in changes if not any(change.path[: len(path)] == path for path in paths)]


def _at(value: Any, path: Path) -> Any:
    for part in path:
        if isinstance(part, str):
            value = value.get(part, _MISSING) if isinstance(value, Mapping) else _MISSING
        else:
            value = value[part] if isinstance(value, list) and 0 <= part < len(value) else _MISSING
        if value is _MISSING:
            break
    return value


def _length(value: Any, path: Path) -> int:
    """0 for what is not a list."""
    found = _at(value, path)
    return len(found) if isinstance(found, list) else 0


# --- replacement

#: (kind, API group) -> what replaces an object. Source: `forceNew` in pulumi-kubernetes' provider/pkg/provider/diff.go.
_FORCE_NEW: Final[Mapping[tuple[str, str], tuple[Path, ...]]] = {
    ("ConfigMap", "v1"): (("binaryData",), ("data",)),
    ("Secret", "v1"): (("type",), ("stringData",), ("data",)),
    ("Service", "v1"): (("spec", "clusterIP"),),
    ("Deployment", "apps/v1"): (("spec", "selector"),),
    ("ClusterRoleBinding", "rbac.authorization.k8s.io/v1"): (("roleRef",),),
    ("RoleBinding", "rbac.authorization.k8s.io/v1"): (("roleRef",),),
}


def force_new_paths(inputs: Mapping[str, Any]) -> tuple[Path, ...]:
    """The properties of an object's kind that cannot be changed in place, as pulumi-kubernetes has them."""
    kind = str(inputs.get("kind")), str(inputs.get("apiVersion"))
    return (("metadata", "name"), ("metadata", "namespace"), *_FORCE_NEW.get(kind, ()))


def _forces(change: PropertyChange, new: Any, fixed: Sequence[Path]) -> bool:
    if change.path == ("metadata",) and change.kind == "delete":
        return True
    for path in fixed:
        if change.path[: len(path)] == path:
            return True
        # A whole branch that comes new, the fixed property in it.
        around = change.kind != "delete" and path[: len(change.path)] == change.path
        if around and _at(new, path) is not _MISSING:
            return True
    return False


# --- property paths

_PART = re.compile(r'\[(\d+)\]|\["([^"]+)"\]|([^.\[\]"]+)')


def parse_path(text: str) -> Path:
    """Reads a property path as `ignoreChanges` has them: `spec.containers[0].image`, `metadata.labels["a.b/c"]`.

    Raises `ValueError` for what is not one, `[*]` included.
    """
    path: Path = tuple(int(index) if index else quoted or name for index, quoted, name in _PART.findall(text))
    if not path or property_path(path) != text:
        raise ValueError(f"{text!r} is not a property path that this stand-in reads: write names and indexes as in a.b[0].c")
    return path


# --- managed fields


def with_ignored(inputs: Mapping[str, Any], live: Mapping[str, Any], ignored: Iterable[Path], manager: str) -> Any:
    """Inputs to apply when `ignored` properties are to keep their live values.

    A property that only others manage is left out, so that applying neither conflicts nor shares it; any other takes
    the live value, since leaving it out would remove it.
    """
    result = copy.deepcopy(dict(inputs))
    entries = live.get("metadata", {}).get("managedFields", [])
    for path in ignored:
        mine = any(_owns(entry["fieldsV1"], path) for entry in entries if entry.get("manager") == manager)
        theirs = any(_owns(entry["fieldsV1"], path) for entry in entries if entry.get("manager") != manager)
        parent, value = _at(result, path[:-1]), _at(live, path)
        if not isinstance(parent, dict):
            # Inside a list, which is applied as a whole.
            continue
        if theirs and not mine:
            parent.pop(path[-1], None)
        elif value is not _MISSING:
            parent[path[-1]] = copy.deepcopy(value)
    return result


def _owns(fields: Mapping[str, Any], path: Path) -> bool:
    """Whether a manager's field set has the property or something in it. Below a list the keys are not followed: having
    the list counts."""
    for part in path:
        if isinstance(part, int):
            return True
        key = f"f:{part}"
        if key not in fields:
            return False
        fields = fields[key]
    return True
