"""What GKE's gateway controller reports of Gateways and HTTPRoutes: conditions with their reasons and messages.

The shape of the conditions is that of `kubectl describe gateway` outputs which users of GKE published; reasons are the Gateway API's
(https://gateway-api.sigs.k8s.io/reference/spec/). Left out: conditions that GKE keeps for older clients (Scheduled, Ready, Detached).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

Object = dict[str, Any]

CONTROLLER = "networking.gke.io/gateway"

#: Compute Engine's, which GKE passes on in `Programmed` and in an Event; many public notes show it.
NO_PROXY_SUBNET = "An active proxy-only subnetwork is required in the same region and VPC as the forwarding rule."


def condition(kind: str, reason: str, message: str = "", *, holds: bool = True, generation: int = 1) -> Object:
    """Its time is set by `with_times`."""
    status = "True" if holds else "False"
    return {"type": kind, "status": status, "reason": reason, "message": message, "observedGeneration": generation}


def gateway(body: Object, problems: Sequence[str], listeners: Sequence[tuple[str, int, str]], address: str | None) -> Object:
    """`status` of a Gateway; `listeners`: name, routes and, where a reference leads nowhere, why. No address: nothing is programmed."""
    generation = body["metadata"]["generation"]
    trouble = " ".join([*problems, *filter(None, (why for _, _, why in listeners))])
    if trouble:
        programmed = condition("Programmed", "Invalid", trouble, holds=False, generation=generation)
        healthy = condition("networking.gke.io/GatewayHealthy", "Error", trouble, holds=False, generation=generation)
    elif address is None:
        programmed = condition("Programmed", "Pending", "Waiting for the load balancer.", holds=False, generation=generation)
        healthy = condition("networking.gke.io/GatewayHealthy", "Pending", holds=False, generation=generation)
    else:
        programmed = condition("Programmed", "Programmed", generation=generation)
        healthy = condition("networking.gke.io/GatewayHealthy", "Healthy", generation=generation)
    kinds = [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute"}]
    return {
        "addresses": [{"type": "IPAddress", "value": address}] if address and not trouble else [],
        "conditions": [condition("Accepted", "Accepted", generation=generation), programmed, healthy],
        "listeners": [
            {
                "name": name,
                "attachedRoutes": routes,
                "supportedKinds": kinds,
                "conditions": [
                    condition("Accepted", "Accepted", generation=generation),
                    condition("Programmed", programmed["reason"], holds=programmed["status"] == "True", generation=generation),
                    condition("Conflicted", "NoConflicts", holds=False, generation=generation),
                    condition(
                        "ResolvedRefs", "InvalidCertificateRef" if why else "ResolvedRefs", why, holds=not why, generation=generation
                    ),
                ],
            }
            for name, routes, why in listeners
        ],
    }


def route(body: Object, parents: Sequence[tuple[Object, str, str]], missing: str) -> Object:
    """`status` of an HTTPRoute; `parents`: the reference, and reason and message of a refusal. `missing`: a backend that is not there."""
    generation = body["metadata"]["generation"]
    resolved = condition(
        "ResolvedRefs", "BackendNotFound" if missing else "ResolvedRefs", missing, holds=not missing, generation=generation
    )
    return {
        "parents": [
            {
                "parentRef": reference,
                "controllerName": CONTROLLER,
                "conditions": [
                    condition("Accepted", reason or "Accepted", message, holds=not reason, generation=generation),
                    resolved,
                    condition("Reconciled", "Reconciled", holds=not (reason or missing), generation=generation),
                ],
            }
            for reference, reason, message in parents
        ]
    }


def with_times(status: Any, before: Any) -> Any:
    """The status, each condition with the time of its last change; what is in `before` alone goes."""
    if isinstance(status, list):
        known = {_identity(each): each for each in before or [] if isinstance(each, Mapping)}
        return [with_times(each, known.get(_identity(each))) for each in status]
    if not isinstance(status, Mapping):
        return status
    old = before if isinstance(before, Mapping) else {}
    found = {key: with_times(value, old.get(key)) for key, value in status.items()}
    if {"type", "status", "reason"} <= found.keys():
        same = old.get("status") == found["status"] and "lastTransitionTime" in old
        found["lastTransitionTime"] = old["lastTransitionTime"] if same else datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return found


def _identity(each: Any) -> Any:
    if not isinstance(each, Mapping):
        return each
    reference = each.get("parentRef") or {}
    return each.get("type") or each.get("name") or (reference.get("name"), reference.get("sectionName"))
