"""What changes between a Kubernetes object's known state and new inputs, as values: no API server, no Pulumi protocol.

The rules follow pulumi-kubernetes 4.34: the last known live object, cut down to the fields that the program set, is
compared with the new inputs, so that neither server defaults nor fields of other managers show. Instead of that
provider's conversion to Go types, which makes equal quantities equal, the answer of a dry run tells which differences
the API server does not see (`without_invisible`).

Left out: patch resources, `replaceUnready`, and the force-new fields of API versions that no longer exist.
"""

from __future__ import annotations

import base64
import binascii
import copy
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from sandbox.providers.differences import Path, PropertyChange

#: Matches every index of a list in a path of `force_new_paths` or `parse_path`.
ANY_INDEX: Final = -1

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
    Secret's `stringData` becomes `data`. Strings that are not base64 stay, for the API server to refuse.
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
    plain = secret.get("stringData")
    data = secret.get("data")
    if isinstance(plain, dict) and all(isinstance(value, str) for value in plain.values()):
        if data is None or isinstance(data, dict):
            encoded = {key: base64.b64encode(value.encode()).decode() for key, value in plain.items()}
            del secret["stringData"]
            if encoded or data is not None:
                secret["data"] = {**(data or {}), **encoded}
    elif isinstance(data, dict):
        # The server decodes and encodes: line breaks inside an encoded value do not last.
        for key, value in data.items():
            if isinstance(value, str):
                try:
                    data[key] = base64.b64encode(base64.b64decode("".join(value.split()), validate=True)).decode()
                except (binascii.Error, ValueError):
                    continue


# --- differences


def differences(old: Mapping[str, Any], new: Mapping[str, Any], force_new: Iterable[Path] = ()) -> list[PropertyChange]:
    """What to do to `old` (already pruned) to get `new`: the highest changed property of each branch, in key order."""
    changes: list[PropertyChange] = []
    _compare((), old, new, changes)
    patterns = tuple(force_new)
    return [replace(change, replaces=_forces(change, new, patterns)) for change in changes]


def _compare(path: Path, old: Any, new: Any, changes: list[PropertyChange]) -> None:
    if old is _MISSING:
        changes.append(PropertyChange(path, "add"))
    elif new is _MISSING:
        changes.append(PropertyChange(path, "delete"))
    elif isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}):
            _compare((*path, key), old.get(key, _MISSING), new.get(key, _MISSING), changes)
    elif isinstance(old, list) and isinstance(new, list):
        for index in range(max(len(old), len(new))):
            _compare(
                (*path, index),
                old[index] if index < len(old) else _MISSING,
                new[index] if index < len(new) else _MISSING,
                changes,
            )
    elif not equal(old, new):
        changes.append(PropertyChange(path, "update"))


def equal(one: Any, other: Any) -> bool:
    """Equality of JSON values: 1 and 1.0 are the same number, and neither is `true`."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(equal, one, other))
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    return bool(one == other)


def without_invisible(changes: Iterable[PropertyChange], live: Any, predicted: Any) -> list[PropertyChange]:
    """Drops changes that the API server does not see: values that it writes in another way ("0.5" and "500m" of a CPU),
    and fields that it drops (an empty list).

    `live`: the known object; `predicted`: what a dry run made of the new inputs. A deletion stays even where the server
    fills the field in again: the program gives the field up, and others may own it then.
    """
    kept: list[PropertyChange] = []
    for change in changes:
        before, after = _at(live, change.path), _at(predicted, change.path)
        if change.kind == "update" and before is not _MISSING and after is not _MISSING and equal(before, after):
            continue
        if change.kind == "add" and before is _MISSING and after is _MISSING:
            continue
        kept.append(change)
    return kept


def without_unchanged_inputs(changes: Iterable[PropertyChange], old_inputs: Any, new_inputs: Any) -> list[PropertyChange]:
    """Drops changes of properties that the program gives as it did before: all that is known without a cluster."""
    kept: list[PropertyChange] = []
    for change in changes:
        before, after = _at(old_inputs, change.path), _at(new_inputs, change.path)
        if before is not _MISSING and after is not _MISSING and equal(before, after):
            continue
        kept.append(change)
    return kept


def without_ignored(changes: Iterable[PropertyChange], ignored: Iterable[Path]) -> list[PropertyChange]:
    """Drops what `ignoreChanges` names, and everything below."""
    paths = tuple(ignored)
    return [change for change in changes if not any(_starts_with(change.path, path) for path in paths)]


def _at(value: Any, path: Path) -> Any:
    for part in path:
        if isinstance(part, str):
            value = value.get(part, _MISSING) if isinstance(value, Mapping) else _MISSING
        else:
            value = value[part] if isinstance(value, list) and 0 <= part < len(value) else _MISSING
        if value is _MISSING:
            break
    return value


def _starts_with(path: Path, prefix: Path) -> bool:
    return len(path) >= len(prefix) and all(map(_part_matches, path, prefix))


def _part_matches(part: str | int, pattern: str | int) -> bool:
    return part == pattern or (pattern == ANY_INDEX and isinstance(part, int))


# --- replacement


def force_new_paths(inputs: Mapping[str, Any], *, secrets_mutable: bool = False, config_maps_mutable: bool = False) -> tuple[Path, ...]:
    """The properties of an object's kind that cannot be changed in place, as pulumi-kubernetes has them.

    A Secret's and a ConfigMap's contents are among them unless the provider's `enableSecretMutable` or
    `enableConfigMapMutable` is set, which does not help an object that is itself `immutable`.
    """
    group, _, version = str(inputs.get("apiVersion", "")).rpartition("/")
    kind = str(inputs.get("kind", ""))
    paths: tuple[Path, ...] = (("metadata", "name"), ("metadata", "namespace"))
    immutable = inputs.get("immutable") is True
    if (group, version, kind) == ("", "v1", "Secret"):
        contents: tuple[Path, ...] = (("type",), ("stringData",), ("data",))
        return paths + (contents if immutable or not secrets_mutable else (("type",),))
    if (group, version, kind) == ("", "v1", "ConfigMap"):
        return paths + ((("binaryData",), ("data",)) if immutable or not config_maps_mutable else ())
    return paths + _FORCE_NEW.get((group, version, kind), ())


def _spec(*fields: str) -> tuple[Path, ...]:
    return tuple(("spec", *field.split(".")) for field in fields)


_POD_SPEC = [
    "affinity",
    "automountServiceAccountToken",
    "dnsConfig",
    "dnsPolicy",
    "enableServiceLinks",
    "hostAliases",
    "hostIPC",
    "hostNetwork",
    "hostPID",
    "hostname",
    "imagePullSecrets",
    "nodeName",
    "nodeSelector",
    "overhead",
    "preemptionPolicy",
    "priority",
    "priorityClassName",
    "readinessGates",
    "restartPolicy",
    "runtimeClassName",
    "schedulerName",
    "securityContext",
    "serviceAccount",
    "serviceAccountName",
    "shareProcessNamespace",
    "subdomain",
    "terminationGracePeriodSeconds",
    "volumes",
]
_CONTAINER = [
    "args",
    "command",
    "env",
    "image",
    "imagePullPolicy",
    "lifecycle",
    "livenessProbe",
    "ports",
    "readinessProbe",
    "resources",
    "securityContext",
    "stdin",
    "stdinOnce",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "tty",
    "volumeDevices",
    "volumeMounts",
    "workingDir",
]
_VOLUME_SOURCES = [
    "awsElasticBlockStore",
    "azureDisk",
    "azureFile",
    "cephfs",
    "cinder",
    "csi",
    "fc",
    "flexVolume",
    "flocker",
    "gcePersistentDisk",
    "glusterfs",
    "hostPath",
    "iscsi",
    "local",
    "nfs",
    "photonPersistentDisk",
    "portworxVolume",
    "quobyte",
    "rbd",
    "scaleIO",
    "storageos",
    "vsphereVolume",
]

#: Source: `forceNew` in pulumi-kubernetes' provider/pkg/provider/diff.go.
_FORCE_NEW: Final[Mapping[tuple[str, str, str], tuple[Path, ...]]] = {
    ("apps", "v1", "DaemonSet"): _spec("selector"),
    ("apps", "v1", "Deployment"): _spec("selector"),
    ("apps", "v1", "StatefulSet"): _spec("podManagementPolicy", "revisionHistoryLimit", "selector", "serviceName", "volumeClaimTemplates"),
    ("batch", "v1", "Job"): _spec("completions", "parallelism", "selector", "template"),
    ("", "v1", "PersistentVolume"): _spec(*_VOLUME_SOURCES),
    ("", "v1", "PersistentVolumeClaim"): _spec("accessModes", "selector", "storageClassName", "volumeName"),
    ("", "v1", "Pod"): (
        *_spec(*_POD_SPEC),
        *(("spec", which, ANY_INDEX, name) for which in ("containers", "initContainers") for name in _CONTAINER),
    ),
    ("", "v1", "ResourceQuota"): _spec("scopes"),
    ("", "v1", "Service"): _spec("clusterIP"),
    ("rbac.authorization.k8s.io", "v1", "ClusterRoleBinding"): (("roleRef",),),
    ("rbac.authorization.k8s.io", "v1", "RoleBinding"): (("roleRef",),),
    ("storage.k8s.io", "v1", "StorageClass"): (("parameters",), ("provisioner",)),
}


def _forces(change: PropertyChange, new: Any, patterns: Sequence[Path]) -> bool:
    if change.path == ("metadata",) and change.kind == "delete":
        return True
    for pattern in patterns:
        if _starts_with(change.path, pattern):
            return True
        # A whole branch that comes new, the fixed property in it.
        deeper = pattern[len(change.path) :]
        around = change.kind != "delete" and deeper and all(map(_part_matches, change.path, pattern))
        if around and _any_at(_at(new, change.path), deeper):
            return True
    return False


def _any_at(value: Any, pattern: Path) -> bool:
    if not pattern:
        return value is not _MISSING
    if pattern[0] == ANY_INDEX:
        return isinstance(value, list) and any(_any_at(each, pattern[1:]) for each in value)
    return isinstance(value, Mapping) and pattern[0] in value and _any_at(value[pattern[0]], pattern[1:])


# --- property paths

_PART = re.compile(r'\[(?P<index>\d+|\*)\]|\["(?P<quoted>(?:[^"\\]|\\.)*)"\]|(?P<name>[^.\[\]]+)|(?P<dot>\.)')


def parse_path(text: str) -> Path:
    """Reads a property path as `ignoreChanges` has them: `spec.containers[0].image`, `metadata.labels["a.b/c"]`; `[*]`
    becomes `ANY_INDEX`. Raises `ValueError` for what is no path.
    """
    path: list[str | int] = []
    position = 0
    while position < len(text):
        match = _PART.match(text, position)
        if match is None:
            raise ValueError(f"{text!r} is not a property path: cannot read it from {text[position:]!r} on")
        position = match.end()
        if (index := match["index"]) is not None:
            path.append(ANY_INDEX if index == "*" else int(index))
        elif (quoted := match["quoted"]) is not None:
            path.append(quoted.replace('\\"', '"'))
        elif (name := match["name"]) is not None:
            path.append(name)
    if not path:
        raise ValueError("a property path is empty")
    return tuple(path)


# --- managed fields


#: Managers whose plain updates the applying manager takes over before its first apply: earlier tools of the same owner,
#: and the POST that made the object.
_PREDECESSORS: Final = frozenset({"kubectl", "before-first-apply", "pulumi-kubernetes", "pulumi-resource-kubernetes"})


def taken_over(managed_fields: Sequence[Mapping[str, Any]], manager: str) -> list[dict[str, Any]] | None:
    """Managed fields in which `manager` has applied what its predecessors had set; None when there is nothing to take.

    Without this, a field set at creation would stay after the program gave it up, since no apply ever owned it.
    """

    def inherits(entry: Mapping[str, Any]) -> bool:
        name, operation = entry.get("manager"), entry.get("operation")
        if entry.get("subresource"):
            return False
        return (operation == "Update" and name in _PREDECESSORS) or (operation == "Apply" and name == "kubectl")

    heirs = [entry for entry in managed_fields if inherits(entry)]
    if not heirs:
        return None
    own = [entry for entry in managed_fields if _is_apply_of(entry, manager)]
    fields: dict[str, Any] = {}
    for entry in [*own, *heirs]:
        fields = _united(fields, entry.get("fieldsV1", {}))
    applied = {**(own or heirs)[0], "manager": manager, "operation": "Apply", "fieldsV1": fields}
    rest = [dict(entry) for entry in managed_fields if not inherits(entry) and not _is_apply_of(entry, manager)]
    return [applied, *rest]


def _is_apply_of(entry: Mapping[str, Any], manager: str) -> bool:
    return entry.get("manager") == manager and entry.get("operation") == "Apply" and not entry.get("subresource")


def _united(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _united(one.get(key, {}), other.get(key, {})) if key != "." else {} for key in dict.fromkeys([*one, *other])}


def with_ignored(inputs: Mapping[str, Any], live: Mapping[str, Any], ignored: Iterable[Path], manager: str) -> Any:
    """Inputs to apply when `ignored` properties are to keep their live values.

    A property that only others manage is left out, so that applying neither conflicts nor shares it; any other takes
    the live value, since leaving it out would remove it.
    """
    result = copy.deepcopy(dict(inputs))
    entries = live.get("metadata", {}).get("managedFields", [])
    for pattern in ignored:
        for path in _expand(pattern, live, result):
            mine = any(_owns(entry["fieldsV1"], path) for entry in entries if entry.get("manager") == manager)
            theirs = any(_owns(entry["fieldsV1"], path) for entry in entries if entry.get("manager") != manager)
            value = _at(live, path)
            if theirs and not mine:
                _remove(result, path)
            elif value is not _MISSING:
                _put(result, path, copy.deepcopy(value))
    return result


def _expand(pattern: Path, *values: Any) -> list[Path]:
    """The paths that a pattern with `ANY_INDEX` stands for, in any of the values."""
    if ANY_INDEX not in pattern:
        return [pattern]
    at = pattern.index(ANY_INDEX)
    lists = [each for each in (_at(value, pattern[:at]) for value in values) if isinstance(each, list)]
    count = max((len(each) for each in lists), default=0)
    return [path for i in range(count) for path in _expand((*pattern[:at], i, *pattern[at + 1 :]), *values)]


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


def _remove(value: Any, path: Path) -> None:
    parent = _at(value, path[:-1])
    if isinstance(parent, dict):
        parent.pop(path[-1], None)


def _put(value: Any, path: Path, new: Any) -> None:
    for part in path[:-1]:
        if isinstance(value, dict) and isinstance(part, str):
            value = value.setdefault(part, {})
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            value = value[part]
        else:
            return
    last = path[-1]
    in_list = isinstance(value, list) and isinstance(last, int) and last < len(value)
    if isinstance(value, dict) or in_list:
        value[last] = new
