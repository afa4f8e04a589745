"""A container's environment and command line, as the kubelet puts them together.

Pure functions: whoever calls gives them the pod, the node and a way to read Secrets and ConfigMaps. Left out:
`fileKeyRef`, and ConfigMaps or Secrets as volumes (there are no volumes).
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sandbox.node_agent.quantities import divided

Object = dict[str, Any]

#: (namespace, name) -> the object, or None when there is none.
Lookup = Callable[[str, str], Object | None]

_REFERENCE = re.compile(r"\$(?:\$|\(([^()]*)\))")
_SUBSCRIPT = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]")


class ContainerConfigError(Exception):
    """The container cannot be put together; the message is the kubelet's for CreateContainerConfigError."""


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
    """What a `fieldRef` of this path gives; empty for a label or annotation that is not there."""
    metadata, spec, status = pod["metadata"], pod["spec"], pod.get("status") or {}
    if match := _SUBSCRIPT.fullmatch(path):
        return str((metadata.get(match[1]) or {}).get(match[2], ""))
    values: dict[str, Callable[[], Any]] = {
        "metadata.name": lambda: metadata["name"],
        "metadata.namespace": lambda: metadata["namespace"],
        "metadata.uid": lambda: metadata["uid"],
        "metadata.labels": lambda: _as_lines(metadata.get("labels") or {}),
        "metadata.annotations": lambda: _as_lines(metadata.get("annotations") or {}),
        "spec.nodeName": lambda: spec.get("nodeName", ""),
        "spec.serviceAccountName": lambda: spec.get("serviceAccountName", ""),
        "status.hostIP": lambda: status.get("hostIP", ""),
        "status.hostIPs": lambda: ",".join(each["ip"] for each in status.get("hostIPs") or []),
        "status.podIP": lambda: status.get("podIP", ""),
        "status.podIPs": lambda: ",".join(each["ip"] for each in status.get("podIPs") or []),
    }
    if path not in values:
        raise ContainerConfigError(f"unsupported fieldPath: {path}")
    return str(values[path]())


def resource_value(pod: Object, own: Object, reference: Object, allocatable: Mapping[str, str]) -> str:
    """What a `resourceFieldRef` gives; a limit that is not set is what the node has."""
    container = own
    if name := reference.get("containerName"):
        everyone = [*pod["spec"].get("containers", []), *(pod["spec"].get("initContainers") or [])]
        container = next((each for each in everyone if each["name"] == name), {})
        if not container:
            raise ContainerConfigError(f"container {name} not found")
    which, _, resource = str(reference["resource"]).partition(".")
    resources = container.get("resources") or {}
    quantity = (resources.get(which) or {}).get(resource)
    if quantity is None:
        quantity = allocatable.get(resource, "0") if which == "limits" else "0"
    return divided(quantity, reference.get("divisor"))


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
            variables |= {
                prefix: url,
                f"{prefix}_PROTO": protocol.lower(),
                f"{prefix}_PORT": str(port["port"]),
                f"{prefix}_ADDR": address,
            }
    return variables


def container_variables(
    pod: Object,
    container: Object,
    *,
    services: Mapping[str, str],
    secret: Lookup,
    config_map: Lookup,
    allocatable: Mapping[str, str],
) -> dict[str, str]:
    """The variables that the pod gives a container: service links, then `envFrom`, then `env`, the later ones win.

    Raises `ContainerConfigError` on a Secret, a ConfigMap or a key that is missing and not optional.
    """
    namespace = pod["metadata"]["namespace"]
    result: dict[str, str] = {}
    for source in container.get("envFrom") or []:
        data = _source_data(source, namespace, secret=secret, config_map=config_map)
        result |= {f"{source.get('prefix') or ''}{key}": value for key, value in data.items()}
    for variable in container.get("env") or []:
        name, origin = variable["name"], variable.get("valueFrom")
        value: str | None
        if not origin:
            value = expand(variable.get("value") or "", {**services, **result})
        elif reference := origin.get("fieldRef"):
            value = field_value(pod, reference["fieldPath"])
        elif reference := origin.get("resourceFieldRef"):
            value = resource_value(pod, container, reference, allocatable)
        elif reference := origin.get("secretKeyRef"):
            value = _key(reference, namespace, "Secret", secret)
        elif reference := origin.get("configMapKeyRef"):
            value = _key(reference, namespace, "ConfigMap", config_map)
        else:
            raise ContainerConfigError(f"environment variable {name}: the sandbox does not know {sorted(origin)}")
        if value is not None:
            result[name] = value
    return {**services, **result}


def _source_data(source: Object, namespace: str, *, secret: Lookup, config_map: Lookup) -> dict[str, str]:
    for field, kind, lookup in (("secretRef", "Secret", secret), ("configMapRef", "ConfigMap", config_map)):
        if reference := source.get(field):
            found = lookup(namespace, reference["name"])
            if found is not None:
                return _data(kind, found)
            if not reference.get("optional"):
                raise ContainerConfigError(f'{kind.lower()} "{reference["name"]}" not found')
    return {}


def _key(reference: Object, namespace: str, kind: str, lookup: Lookup) -> str | None:
    name, key, optional = reference["name"], reference["key"], bool(reference.get("optional"))
    found = lookup(namespace, name)
    if found is None:
        if optional:
            return None
        raise ContainerConfigError(f'{kind.lower()} "{name}" not found')
    data = _data(kind, found)
    if key not in data and not optional:
        raise ContainerConfigError(f"couldn't find key {key} in {kind} {namespace}/{name}")
    return data.get(key)


def _data(kind: str, obj: Object) -> dict[str, str]:
    data = obj.get("data") or {}
    if kind == "ConfigMap":
        return dict(data)
    return {key: base64.b64decode(value).decode(errors="surrogateescape") for key, value in data.items()}


def _as_lines(values: Mapping[str, str]) -> str:
    return "\n".join(f'{key}="{value}"' for key, value in sorted(values.items()))
