"""A container's environment and command line, as the kubelet puts them together.

Pure functions: the caller gives them the pod and a way to read Secrets. What no pod of a stack uses is left out, and
`check_known` and `container_variables` refuse it: init containers, deadlines, readiness gates, postStart hooks, variables
from ConfigMaps, resources, labels or annotations.
"""

import base64
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

Object = dict[str, Any]

#: (namespace, name) -> the object, or None when there is none.
Lookup = Callable[[str, str], Object | None]

_REFERENCE = re.compile(r"\$(?:\$|\(([^()]*)\))")

#: What a `fieldRef` may name.
_FIELDS = ("metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "status.hostIP", "status.podIP")

#: What would change how a pod runs, and does nothing here.
_UNKNOWN_IN_POD = ("initContainers", "activeDeadlineSeconds", "readinessGates")
_UNKNOWN_IN_CONTAINER = ("envFrom",)
_UNKNOWN_IN_LIFECYCLE = ("postStart", "stopSignal")


class ContainerConfigError(Exception):
    """The container cannot be put together; the message is the kubelet's for CreateContainerConfigError."""


def check_known(pod_spec: Object, container: Object) -> None:
    """Raises `ContainerConfigError` on a field that the sandbox's nodes would ignore."""
    lifecycle = container.get("lifecycle") or {}
    unknown = [f"spec.{each}" for each in _UNKNOWN_IN_POD if pod_spec.get(each)]
    unknown += [f"spec.containers[{container['name']}].{each}" for each in _UNKNOWN_IN_CONTAINER if container.get(each)]
    unknown += [f"spec.containers[{container['name']}].lifecycle.{each}" for each in _UNKNOWN_IN_LIFECYCLE if lifecycle.get(each)]
    if unknown:
        raise ContainerConfigError(f"{', '.join(unknown)}: the sandbox's nodes do not have it; leave it out to run the pod here")


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Replaces `$(NAME)` by its value; `$$` is a dollar sign, and a reference to nothing stays as it is."""

    def replacement(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        return variables.get(match[1], match[0])

    return _REFERENCE.sub(replacement, text)


def command_line(container: Object, *, entrypoint: Sequence[str], cmd: Sequence[str], variables: Mapping[str, str]) -> list[str]:
    """`command` replaces ENTRYPOINT and with it CMD, `args` replaces CMD; references in both are expanded."""
    command = [expand(word, variables) for word in container.get("command") or []]
    args = [expand(word, variables) for word in container.get("args") or []]
    if command:
        return command + args
    return [*entrypoint, *(args or cmd)]


def field_value(pod: Object, path: str) -> str:
    """What a `fieldRef` of this path gives. Raises `ContainerConfigError`."""
    section, _, name = path.partition(".")
    if path not in _FIELDS:
        raise ContainerConfigError(f"unsupported fieldPath: {path}; the sandbox's nodes have {', '.join(_FIELDS)}")
    return str(pod[section].get(name, ""))


def service_variables(services: Iterable[Object]) -> dict[str, str]:
    """The variables of service links: VLLM_SERVICE_SERVICE_HOST and so on, for services that have an address."""
    variables: dict[str, str] = {}
    for service in services:
        spec = service["spec"]
        address = spec.get("clusterIP")
        if not address or address == "None" or not spec.get("ports"):
            continue
        name = service["metadata"]["name"].upper().replace("-", "_")
        first = spec["ports"][0]
        variables[f"{name}_SERVICE_HOST"] = address
        variables[f"{name}_SERVICE_PORT"] = str(first["port"])
        for port in spec["ports"]:
            if port.get("name"):
                variables[f"{name}_SERVICE_PORT_{port['name'].upper().replace('-', '_')}"] = str(port["port"])
        for position, port in enumerate(spec["ports"]):
            protocol = port.get("protocol", "TCP")
            url = f"{protocol.lower()}://{address}:{port['port']}"
            prefix = f"{name}_PORT_{port['port']}_{protocol}"
            if position == 0:
                variables[f"{name}_PORT"] = url
            variables |= {prefix: url, f"{prefix}_PROTO": protocol.lower(), f"{prefix}_PORT": str(port["port"]), f"{prefix}_ADDR": address}
    return variables


def container_variables(pod: Object, container: Object, *, services: Mapping[str, str], secret: Lookup) -> dict[str, str]:
    """The variables that the pod gives a container: service links, then `env`, the later ones win.

    Raises `ContainerConfigError` on a Secret or a key that is missing and not optional.
    """
    result: dict[str, str] = {}
    for variable in container.get("env") or []:
        name, origin = variable["name"], variable.get("valueFrom")
        value: str | None
        if not origin:
            value = expand(variable.get("value") or "", {**services, **result})
        elif reference := origin.get("fieldRef"):
            value = field_value(pod, reference["fieldPath"])
        elif reference := origin.get("secretKeyRef"):
            value = _key(reference, pod["metadata"]["namespace"], secret)
        else:
            raise ContainerConfigError(f"environment variable {name}: the sandbox's nodes do not have {', '.join(origin)}")
        if value is not None:
            result[name] = value
    return {**services, **result}


def _key(reference: Object, namespace: str, secret: Lookup) -> str | None:
    name, key, optional = reference["name"], reference["key"], bool(reference.get("optional"))
    found = secret(namespace, name)
    if found is None and not optional:
        raise ContainerConfigError(f'secret "{name}" not found')
    value = ((found or {}).get("data") or {}).get(key)
    if value is None and not optional:
        raise ContainerConfigError(f"couldn't find key {key} in Secret {namespace}/{name}")
    return None if value is None else base64.b64decode(value).decode(errors="surrogateescape")
