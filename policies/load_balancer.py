"""A server that the internet can reach requires a key. Left out: gateways and TLS (`gateway`), and who holds the key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from policies.control_plane import is_everywhere
from policies.pods import containers, pod_spec_path
from policies.rule import UNKNOWN, Finding, Options, Resource, StackRule, Undecided, Violation, get

SERVICE = "kubernetes:core/v1:Service"

#: The variable from which vLLM reads its key. https://docs.vllm.ai/en/stable/configuration/env_vars.html
KEY_VARIABLE = "VLLM_API_KEY"

_INTERNAL = ("networking.gke.io/load-balancer-type", "cloud.google.com/load-balancer-type")

#: Names of containers with a server begin with this.
_SERVER_NAMES = "vllm"


def open_server(resources: Sequence[Resource], options: Options) -> Iterable[Finding]:
    for service in resources:
        if service.type != SERVICE:
            continue
        kind = service.get("spec", "type")
        if kind is UNKNOWN:
            yield Undecided(resource=service, field="spec.type")
        open_by = _open_by(service) if kind == "LoadBalancer" else None
        if open_by is None:
            continue
        keyless, undecided = keyless_servers(service, resources)
        if keyless and isinstance(open_by, Undecided):
            yield open_by
        elif keyless and isinstance(open_by, _Open):
            yield Violation(
                resource=service,
                field=open_by.property,
                value=open_by.value,
                reason=f"{open_by.reason}, and no API key keeps them out ({'; '.join(keyless)})",
                fix=f"name the ranges of its clients (setting loadBalancerSourceRanges), keep it inside the VPC "
                f"(internalLoadBalancer), or give the servers {KEY_VARIABLE} from a Secret (apiKeySecret or apiKey)",
            )
        else:
            # A key is enough, whatever the ranges turn out to be.
            yield from undecided


@dataclass(frozen=True)
class _Open:
    """Why the internet reaches a Service."""

    property: str
    value: str | None
    reason: str


def is_internal(service: Resource) -> Any:
    """Whether its load balancer has an address of the VPC alone: True, False, or UNKNOWN."""
    found = [service.get("metadata", "annotations", key) for key in _INTERNAL]
    return "Internal" in found or (UNKNOWN if UNKNOWN in found else False)


def _open_by(service: Resource) -> _Open | Undecided | None:
    """Why the internet reaches the Service; None if it does not."""
    internal = is_internal(service)
    if internal is UNKNOWN:
        return Undecided(resource=service, field="metadata.annotations")
    if internal:
        return None
    where = "spec.loadBalancerSourceRanges"
    ranges = service.get("spec", "loadBalancerSourceRanges")
    if ranges is UNKNOWN:
        return Undecided(resource=service, field=where)
    if not ranges:
        return _Open(where, None, "is missing, so everyone may use the accelerators")
    every = [get(ranges, index) for index in range(len(ranges))]
    wide = next((str(each) for each in every if each is not UNKNOWN and is_everywhere(each)), None)
    if wide is not None:
        return _Open(where, wide, "lets everyone use the accelerators")
    return Undecided(resource=service, field=where) if UNKNOWN in every else None


def keyless_servers(service: Resource, resources: Sequence[Resource]) -> tuple[list[str], list[Undecided]]:
    """Which servers behind the Service require no key, as parts of a message, and what a preview cannot tell."""
    selector = service.get("spec", "selector")
    if selector is UNKNOWN:
        return [], [Undecided(resource=service, field="spec.selector")]
    servers = [each for each in resources if _selected(each, selector)]
    keyless = [] if servers else ["its selector selects no workload of this stack"]
    undecided = []
    for server in servers:
        for path, container in containers(server):
            name = get(container, "name")
            if ".initContainers" in path or (isinstance(name, str) and not name.startswith(_SERVER_NAMES)):
                # Helpers beside the servers answer no requests.
                continue
            key = _has_key(container)
            if key is UNKNOWN:
                undecided.append(Undecided(resource=server, field=f"{path}.env"))
            elif not key:
                keyless.append(f"{server.name}: {path}.env has no {KEY_VARIABLE} with valueFrom.secretKeyRef")
    return keyless, undecided


def _selected(workload: Resource, selector: Any) -> bool:
    path = pod_spec_path(workload)
    if path is None or not isinstance(selector, Mapping) or not selector:
        return False
    labels = workload.get(*path[:-1], "metadata", "labels")
    # Labels that are not known yet may be the selected ones.
    return labels is UNKNOWN or all(get(labels, key) in (selector[key], UNKNOWN) for key in selector)


def _has_key(container: Any) -> Any:
    """True, False, or UNKNOWN. A key written in the pod as text does not count: everyone who may list pods can read it."""
    variables = get(container, "env")
    if variables is UNKNOWN:
        return UNKNOWN
    for index in range(len(variables or ())):
        if get(variables, index, "name") == KEY_VARIABLE:
            source = get(variables, index, "valueFrom")
            return UNKNOWN if source is UNKNOWN else get(source, "secretKeyRef") is not None
    return UNKNOWN if any(UNKNOWN in (each, get(each, "name")) for each in variables or ()) else False


RULES = (
    StackRule(
        name="no-open-server",
        description="A load balancer that the internet reaches has source ranges, or its servers require an API key.",
        level="mandatory",
        because="anyone could run prompts on the accelerators; dev.json lowers it, since the walkthrough's commands call "
        "the server from anywhere without a key",
        check=open_server,
    ),
)
