"""Checks a resource's inputs against the type hints of its own Pulumi SDK, at any depth.

The Python SDKs pass nested dictionaries on unchecked, so a misspelt key inside `node_config={...}` reaches the provider; real
providers know their schema and refuse it, and what stands in for them has to as well. The hints are those of the `...Args`
classes: names, required arguments, primitive types, lists, maps, enums and literals.

Left out: rules that no type says (ranges, patterns, keys that exclude each other), which are the API's to check, and types
of single custom resources of Kubernetes beyond apiVersion, kind and metadata, which only the cluster knows.
"""

import collections.abc
import difflib
import enum
import functools
import importlib
import inspect
import pkgutil
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
from pulumi.runtime.rpc import UNKNOWN

from sandbox.providers.differences import Path, property_path
from sandbox.providers.wire import OUTPUT_SIGNATURE, SECRET_SIGNATURE, SIGNATURE_KEY

_PACKAGES = {"gcp": "pulumi_gcp", "kubernetes": "pulumi_kubernetes", "docker": "pulumi_docker"}

_PRIMITIVES = {str: "a string", bool: "a boolean", int: "an integer", float: "a number"}


@dataclass(frozen=True)
class Problem:
    """One thing that the SDK's hints do not allow."""

    #: Keys and list positions from the resource's inputs down to the culprit; empty for the resource as a whole.
    path: Path
    reason: str
    #: The nearest known key or value, for a misspelt one.
    nearest: str | None = None
    #: Whether the key itself is what is not known.
    unknown_key: bool = False

    @property
    def property_path(self) -> str:
        """`nodeConfig.taints[0].effect`, as Pulumi writes it."""
        return property_path(self.path)

    def __str__(self) -> str:
        hint = f"; did you mean {self.nearest}?" if self.nearest else ""
        return f"{self.property_path}: {self.reason}{hint}" if self.path else f"{self.reason}{hint}"


def find_problems(type_token: str, inputs: Mapping[str, Any]) -> list[Problem]:
    """What is wrong with a resource's inputs; as text each is like `nodeConfig.machineTyp: unknown key; did you mean machineType?`.

    `inputs` are in wire form: camelCase keys, plain values. Unknown values match every type; secrets count as what is in
    them. An unknown type is a problem as well.
    """
    if type_token.startswith("pulumi:providers:"):
        return _provider_problems(type_token, inputs)
    try:
        known = args_class(type_token)
    except UnknownTypeError as error:
        return [Problem((), str(error), error.nearest)]
    if known is None:
        # A custom resource: `spec` and whatever else it has are free.
        fields = _fields(_custom_resource_args())
        named = {key: value for key, value in inputs.items() if key in fields}
        return list(_check_object(_custom_resource_args(), named, ()))
    return list(_check_object(known, inputs, ()))


def _provider_problems(type_token: str, inputs: Mapping[str, Any]) -> list[Problem]:
    """Unknown keys only: the values of a provider's arguments travel as texts, nested ones as JSON."""
    package = type_token.rpartition(":")[2]
    if package not in _PACKAGES:
        return [Problem((), f"unknown type {type_token}: its package is none of {', '.join(_PACKAGES)}")]
    fields = _fields(importlib.import_module(_PACKAGES[package]).ProviderArgs)
    known = {*fields, "version", "pluginDownloadURL"}
    return [
        Problem((key,), "unknown key", _nearest(key, known), unknown_key=True)
        for key in inputs
        if key not in known and not key.startswith("__")
    ]


class UnknownTypeError(Exception):
    """A type token that the installed SDK does not have."""

    def __init__(self, message: str, nearest: str | None) -> None:
        super().__init__(message)
        self.nearest = nearest


@functools.cache
def args_class(type_token: str) -> type | None:
    """The SDK's class of a resource's arguments; None for a Kubernetes custom resource.

    `gcp:container/nodePool:NodePool` -> pulumi_gcp.container.NodePoolArgs. Imports only the module that holds it.
    """
    package, _, rest = type_token.partition(":")
    module_path, _, name = rest.rpartition(":")
    if package not in _PACKAGES or not module_path:
        raise UnknownTypeError(f"unknown type {type_token}: its package is none of {', '.join(_PACKAGES)}", None)
    module = _module(package, module_path)
    if module is None:
        if package == "kubernetes" and "." in module_path:
            return None
        nearest = _nearest(module_path.split("/")[0], _module_names(package))
        raise UnknownTypeError(f"unknown type {type_token}: {_PACKAGES[package]} has no such module", nearest)
    for candidate in (f"{name}Args", f"{name}InitArgs"):
        found = getattr(module, candidate, None)
        resource = getattr(module, name, None)
        if inspect.isclass(found) and inspect.isclass(resource):
            return found
    resources = [each for each, value in vars(module).items() if _is_resource(value)]
    raise UnknownTypeError(f"unknown type {type_token}", _nearest(name, resources))


@functools.cache
def property_names(type_token: str) -> frozenset[str]:
    """Wire names of what a resource of this type has once it is made: its inputs and computed outputs.

    Raises `UnknownTypeError`. Empty for a Kubernetes custom resource, whose properties only the cluster knows.
    """
    args = args_class(type_token)
    if args is None:
        return frozenset()
    resource = getattr(importlib.import_module(args.__module__), type_token.rpartition(":")[2])
    members = inspect.getmembers_static(resource, lambda member: isinstance(member, property))
    return frozenset(getattr(member.fget, "_pulumi_name", "") for _, member in members) - {""}


def _module(package: str, module_path: str) -> types.ModuleType | None:
    if package == "kubernetes":
        # `rbac.authorization.k8s.io/v1` is pulumi_kubernetes.rbac.v1.
        group, _, version = module_path.partition("/")
        if "." in group and not group.endswith(".k8s.io"):
            # `networking.gke.io` is another group than the SDK's `networking`.
            return None
        path = [group.split(".")[0], version]
    else:
        # `container/nodePool`: the part after the slash is the file, which the module exports.
        group = module_path.split("/")[0]
        path = [] if group == "index" else [group]
    dotted = ".".join([_PACKAGES[package], *path])
    try:
        return importlib.import_module(dotted)
    except ModuleNotFoundError as error:
        if error.name is not None and dotted.startswith(error.name):
            return None
        raise


def _module_names(package: str) -> list[str]:
    found = importlib.import_module(_PACKAGES[package])
    return [each.name for each in pkgutil.iter_modules(found.__path__) if each.ispkg]


def _is_resource(value: Any) -> bool:
    return inspect.isclass(value) and issubclass(value, pulumi.CustomResource)


def _custom_resource_args() -> type:
    found = importlib.import_module("pulumi_kubernetes.apiextensions").CustomResourceArgs
    assert inspect.isclass(found)
    return found


@dataclass(frozen=True)
class _Field:
    hint: Any
    required: bool


@functools.cache
def _fields(args: type) -> Mapping[str, _Field]:
    """The arguments of an `...Args` class by wire name."""
    parameters = inspect.signature(args.__init__).parameters  # type: ignore[misc]
    fields = {}
    for name, value in inspect.getmembers_static(args, lambda member: isinstance(member, property)):
        getter = value.fget
        # Where `pulumi.getter` keeps the wire name; the SDK offers no public way of reading it.
        wire_name = getattr(getter, "_pulumi_name", None)
        if wire_name is None:
            continue
        # `pulumi.Input[X]` names its output by these two, which an SDK module need not have.
        hint = typing.get_type_hints(getter, localns={"Output": pulumi.Output, "T": Any}).get("return", Any)
        parameter = parameters.get(name)
        required = parameter is not None and parameter.default is inspect.Parameter.empty
        fields[wire_name] = _Field(hint, required)
    return fields


def _check_object(args: type, inputs: Mapping[str, Any], path: Path) -> Iterable[Problem]:
    fields = _fields(args)
    for key, value in inputs.items():
        if key in fields:
            yield from _check(fields[key].hint, value, (*path, key))
        elif not key.startswith("__"):
            # Keys that begin so are the engine's and the providers' own (`__defaults`).
            yield Problem((*path, key), "unknown key", _nearest(key, fields), unknown_key=True)
    for key, field in fields.items():
        if field.required and inputs.get(key) is None:
            yield Problem((*path, key), "missing, and it is required")


def _check(hint: Any, value: Any, path: Path) -> list[Problem]:
    value = _plain(value)
    if value is None or _is_unknown(value):
        return []
    alternatives = _alternatives(hint)
    if not alternatives:
        return []
    found = [_check_one(alternative, value, path) for alternative in alternatives]
    # What fits best, which for a dictionary with one bad key is the object and not the string beside it in the hint.
    best = min(found, key=lambda each: (len(each) > 0, -_depth(each), len(each)))
    if best and len(found) > 1 and all(each and _depth(each) == len(path) for each in found):
        expected = " or ".join(dict.fromkeys(_describe(alternative) for alternative in alternatives))
        return [Problem(path, f"{_show(value)} is not {expected}")]
    return best


def _depth(found: Sequence[Problem]) -> int:
    return max((len(problem.path) for problem in found), default=0)


def _check_one(hint: Any, value: Any, path: Path) -> list[Problem]:
    """One alternative of a hint, with nothing left to take apart but containers."""
    origin = typing.get_origin(hint)
    if hint is Any or hint is object:
        return []
    if origin is typing.Literal:
        allowed = typing.get_args(hint)
        return [] if value in allowed else [_not_allowed(value, allowed, path)]
    if origin in (collections.abc.Sequence, list):
        if not isinstance(value, Sequence) or isinstance(value, str):
            return [Problem(path, f"{_show(value)} is not a list")]
        (item,) = typing.get_args(hint)
        return [problem for index, each in enumerate(value) for problem in _check(item, each, (*path, index))]
    if origin in (collections.abc.Mapping, dict):
        if not isinstance(value, Mapping):
            return [Problem(path, f"{_show(value)} is not a map")]
        _, item = typing.get_args(hint)
        return [problem for key, each in value.items() for problem in _check(item, each, (*path, key))]
    if not inspect.isclass(hint):
        return []
    if issubclass(hint, enum.Enum):
        members: list[Any] = [member.value for member in hint]
        return [] if value in members else [_not_allowed(value, members, path)]
    if hint in _PRIMITIVES:
        return [] if _fits(hint, value) else [Problem(path, f"{_show(value)} is not {_PRIMITIVES[hint]}")]
    if issubclass(hint, pulumi.Resource | pulumi.Asset | pulumi.Archive):
        special = isinstance(value, hint) or (isinstance(value, Mapping) and SIGNATURE_KEY in value)
        return [] if special else [Problem(path, f"{_show(value)} is not {_describe(hint)}")]
    if not isinstance(value, Mapping):
        return [Problem(path, f"{_show(value)} is not {_describe(hint)}")]
    return list(_check_object(hint, value, path))


def _fits(primitive: type, value: Any) -> bool:
    if primitive is bool:
        return isinstance(value, bool)
    if primitive is str:
        return isinstance(value, str)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    # Every number is a double on the wire.
    return primitive is float or float(value).is_integer()


@functools.lru_cache(maxsize=4096)
def _alternatives(hint: Any) -> tuple[Any, ...]:
    """What an Input may be once it is known; `Input[T]` is a union of T, an awaitable and an output."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return tuple(dict.fromkeys(part for each in typing.get_args(hint) for part in _alternatives(each)))
    if hint is type(None) or typing.get_origin(hint) in (collections.abc.Awaitable, pulumi.Output):
        return ()
    return (hint,)


def _plain(value: Any) -> Any:
    """A value without its marks as secret or output."""
    while isinstance(value, Mapping) and value.get(SIGNATURE_KEY) in (SECRET_SIGNATURE, OUTPUT_SIGNATURE):
        value = value.get("value", UNKNOWN)
    return value


def _is_unknown(value: Any) -> bool:
    """Unknowns come as the protocol's marker, or as an output or object of a caller's own."""
    if value == UNKNOWN:
        return True
    return not isinstance(value, str | bool | int | float | Mapping | Sequence | pulumi.Asset | pulumi.Archive)


def _describe(hint: Any) -> str:
    origin = typing.get_origin(hint)
    if origin is typing.Literal:
        return " or ".join(map(repr, typing.get_args(hint)))
    if origin in (collections.abc.Sequence, list):
        return "a list"
    if origin in (collections.abc.Mapping, dict):
        return "a map"
    if hint in _PRIMITIVES:
        return _PRIMITIVES[hint]
    if inspect.isclass(hint) and issubclass(hint, enum.Enum):
        return " or ".join(repr(member.value) for member in hint)
    name = getattr(hint, "__name__", str(hint))
    return f"an object ({name.removesuffix('Args')})"


def _show(value: Any) -> str:
    """The value's kind, and the value where it cannot be long or secret."""
    if isinstance(value, Mapping):
        return "a map"
    if isinstance(value, str):
        # Any string may be a secret whose mark was lost on the way here.
        return "a string"
    if isinstance(value, Sequence):
        return "a list"
    return f"{value!r}".lower() if isinstance(value, bool) else repr(value)


def _not_allowed(value: Any, allowed: Sequence[Any], path: Path) -> Problem:
    listed = ", ".join(map(repr, allowed))
    return Problem(path, f"{value!r} is not one of {listed}", _nearest(str(value), map(str, allowed)))


def _nearest(key: str, known: Iterable[str]) -> str | None:
    found = difflib.get_close_matches(key, list(known), n=1, cutoff=0.6)
    return found[0] if found else None
