"""What crosses the internet is encrypted, and an external gateway has its clients listed or its servers a key. Left out: certificates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from policies.load_balancer import SERVICE, is_internal, keyless_servers
from policies.rule import UNKNOWN, Finding, Options, Resource, StackRule, Undecided, Violation, get

_API = "kubernetes:gateway.networking.k8s.io/v1"
GATEWAY, ROUTE = f"{_API}:Gateway", f"{_API}:HTTPRoute"
BACKEND_POLICY = "kubernetes:networking.gke.io/v1:GCPBackendPolicy"

_FIX = "give gateway a hostName and a certificate, or keep it inside the VPC (gateway.class gke-l7-rilb, internalLoadBalancer)"


def clear_text(resources: Sequence[Resource], options: Options) -> Iterable[Finding]:
    for each in resources:
        if each.type == SERVICE and each.get("spec", "type") in ("LoadBalancer", UNKNOWN):
            yield from _of_service(each)
        elif each.type == GATEWAY:
            yield from _of_gateway(each, resources)


def _of_service(service: Resource) -> Iterable[Finding]:
    internal = is_internal(service)
    if UNKNOWN in (internal, service.get("spec", "type")):
        yield Undecided(resource=service, field="metadata.annotations" if internal is UNKNOWN else "spec.type")
    elif not internal:
        reason = "passes packets from the internet to servers that speak HTTP, so that keys and prompts can be read on the way"
        yield Violation(resource=service, field="spec.type", value="LoadBalancer", reason=reason, fix=_FIX)


def _of_gateway(gateway: Resource, resources: Sequence[Resource]) -> Iterable[Finding]:
    external, listeners = _external(gateway), gateway.get("spec", "listeners")
    if not external:
        return
    if UNKNOWN in (external, listeners):
        yield Undecided(resource=gateway, field="spec.gatewayClassName" if external is UNKNOWN else "spec.listeners")
        return
    clear = [str(get(each, "name")) for each in listeners or () if get(each, "protocol") == "HTTP"]
    for route in _routes(gateway, resources):
        parents = [get(each, "sectionName") for each in route.get("spec", "parentRefs") or ()]
        rules = route.get("spec", "rules")
        if rules is UNKNOWN or UNKNOWN in parents:
            yield Undecided(resource=route, field="spec.rules")
        elif any(get(each, "backendRefs") for each in rules or ()) and any(
            parent is None or parent in clear for parent in parents if clear
        ):
            reason = "brings requests from the internet to servers without TLS, so that keys and prompts can be read on the way"
            yield Violation(resource=route, field="spec.parentRefs", value=", ".join(clear), reason=reason, fix=_FIX)


def open_gateway(resources: Sequence[Resource], options: Options) -> Iterable[Finding]:
    restricted = {_target(each) for each in resources if each.type == BACKEND_POLICY and each.get("spec", "default", "securityPolicy")}
    for gateway in resources:
        if gateway.type != GATEWAY or not (external := _external(gateway)):
            continue
        backends = {str(get(each, "name")) for route in _routes(gateway, resources) for each in _backends(route)} - restricted
        for service in resources:
            if service.type == SERVICE and service.get("metadata", "name") in backends:
                keyless, undecided = keyless_servers(service, resources)
                yield from undecided
                if keyless and external is UNKNOWN:
                    yield Undecided(resource=gateway, field="spec.gatewayClassName")
                elif keyless:
                    reason = f"lets everyone use the accelerators, and no API key keeps them out ({'; '.join(keyless)})"
                    fix = (
                        "name the ranges of its clients (setting gateway.sourceRanges), or give the servers a key (apiKeySecret or apiKey)"
                    )
                    value = gateway.get("spec", "gatewayClassName")
                    yield Violation(resource=gateway, field="spec.gatewayClassName", value=value, reason=reason, fix=fix)


def _external(gateway: Resource) -> Any:
    """True, False, or UNKNOWN."""
    name = gateway.get("spec", "gatewayClassName")
    return name if name is UNKNOWN else not any(part in str(name) for part in ("rilb", "internal"))


def _routes(gateway: Resource, resources: Sequence[Resource]) -> list[Resource]:
    name = gateway.get("metadata", "name")
    return [
        each
        for each in resources
        if each.type == ROUTE and any(get(parent, "name") == name for parent in _known(each.get("spec", "parentRefs")))
    ]


def _backends(route: Resource) -> list[Any]:
    return [backend for rule in _known(route.get("spec", "rules")) for backend in _known(get(rule, "backendRefs"))]


def _known(values: Any) -> Sequence[Any]:
    return () if values is UNKNOWN or not values else values


def _target(policy: Resource) -> str:
    return str(policy.get("spec", "targetRef", "name"))


RULES = (
    StackRule(
        name="no-open-gateway",
        description="A gateway that the internet reaches has a Cloud Armor policy, or its servers require an API key.",
        level="mandatory",
        because="anyone could run prompts on the accelerators",
        check=open_gateway,
    ),
    StackRule(
        name="no-clear-text",
        description="What the internet reaches is reached by TLS.",
        level="mandatory",
        because="API keys and prompts could be read on the way; dev.json lowers it, since the walkthrough's service has no name to certify",
        check=clear_text,
    ),
)
