"""What a stack's state says of operations that never ended, what is to be done about each, and the state after that.

The state is the document that `pulumi stack export` prints, secrets encrypted. A pending create gets its place among the
resources with its import id and no outputs: to the engine that is a resource that is to be refreshed, to the provider one that is
to be imported, so that what is in the cloud decides. (`pulumi refresh --import-pending-creates`, which is meant for this, drops
the operation and imports nothing, seen with 3.250; `pulumi import` would know no dependencies, and so no order for `pulumi
destroy`.)
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ops.recovery import identifiers, monitoring

#: One of a resource's type and inputs: ids of everything in the cloud that it may be. Raises `monitoring.ListingError`.
Listing = Callable[[str, Mapping[str, Any], str], list[str]]


@dataclass(frozen=True, kw_only=True)
class Operation:
    """`kind`: creating, updating, deleting, ...; `resource`: as the state has it."""

    kind: str
    resource: Mapping[str, Any]

    @property
    def urn(self) -> str:
        return str(self.resource["urn"])

    @property
    def type_token(self) -> str:
        return str(self.resource["type"])

    @property
    def name(self) -> str:
        """As pulumi's own screen says it."""
        return f"{self.type_token} {self.urn.rpartition('::')[2]}"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to do about the pending creates of a state."""

    #: URN -> what the resource would be called.
    look_for: Mapping[str, str] = field(default_factory=dict)
    #: URN -> why it can go.
    drop: Mapping[str, str] = field(default_factory=dict)
    #: URN -> why only a person can say.
    undecided: Mapping[str, str] = field(default_factory=dict)


def operations(document: Mapping[str, Any]) -> list[Operation]:
    pending = document["deployment"].get("pending_operations") or []
    return [Operation(kind=str(each["type"]), resource=each["resource"]) for each in pending]


def resources(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    return list(document["deployment"].get("resources") or [])


def plan(document: Mapping[str, Any], listing: Listing, given: Mapping[str, str]) -> Plan:
    """`given`: ids that a person has named, by URN; an empty one for what was never made."""
    look_for: dict[str, str] = {}
    drop: dict[str, str] = {}
    undecided: dict[str, str] = {}
    for operation in operations(document):
        urn = operation.urn
        if operation.kind != "creating":
            continue
        if urn in given:
            if given[urn]:
                look_for[urn] = given[urn]
            else:
                drop[urn] = "was never made, as you say"
        elif not operation.resource.get("custom") or operation.type_token.startswith("pulumi:"):
            drop[urn] = "is Pulumi's alone and nothing in the cloud"
        elif operation.type_token in identifiers.REPEATABLE:
            drop[urn] = "comes out the same when it is made again"
        else:
            try:
                id, why = _identify(operation, document, listing)
            except monitoring.ListingError as error:
                id, why = None, str(error)
            if id:
                look_for[urn] = id
            elif why:
                undecided[urn] = why
            else:
                drop[urn] = "was not made"
    return Plan(look_for=look_for, drop=drop, undecided=undecided)


def _identify(operation: Operation, document: Mapping[str, Any], listing: Listing) -> tuple[str | None, str]:
    """The id, or why there is none; neither for what is not there."""
    inputs = operation.resource.get("inputs") or {}
    defaults = _defaults(operation, document)
    if operation.type_token not in monitoring.TYPES:
        id = identifiers.import_id(operation.type_token, inputs, defaults)
        return id, "" if id else "nothing here knows what its provider calls it"
    project = str(inputs.get("project") or defaults.get("project") or "")
    known = {each.get("id") for each in resources(document)}
    found = [id for id in listing(operation.type_token, inputs, project) if id not in known]
    if len(found) > 1:
        return None, f"there are {len(found)} that look the same and are not this stack's yet: {', '.join(found)}"
    return (found[0], "") if found else (None, "")


def _defaults(operation: Operation, document: Mapping[str, Any]) -> dict[str, Any]:
    """The project, region and zone that the resource's provider is configured with."""
    urn = str(operation.resource.get("provider", "")).rpartition("::")[0]
    inputs = next((each.get("inputs") or {} for each in resources(document) if each["urn"] == urn), {})
    return {key: inputs[key] for key in ("project", "region", "zone") if inputs.get(key)}


def to_import(document: Mapping[str, Any], plan: Plan, unsettled: Sequence[str] = ()) -> dict[str, Any]:
    """The state in which what was looked for is to be imported, and `unsettled` resources are to be imported again."""
    changed = copy.deepcopy(dict(document))
    deployment = changed["deployment"]
    kept: list[dict[str, Any]] = []
    coming: dict[str, dict[str, Any]] = {}
    for operation in deployment.get("pending_operations") or []:
        urn = operation["resource"]["urn"]
        if operation["type"] != "creating" or urn in plan.undecided:
            kept.append(operation)
        elif urn in plan.look_for:
            coming[urn] = {**operation["resource"], "id": plan.look_for[urn], "outputs": {}}
    deployment["pending_operations"] = kept
    merged: list[dict[str, Any]] = []
    for resource in deployment.get("resources") or []:
        urn = resource["urn"]
        if urn in coming and not resource.get("delete"):
            if resource.get("pendingReplacement") or resource.get("id") == coming[urn]["id"]:
                # Its place in the order is its successor's.
                resource = coming.pop(urn)
            else:
                resource = {**resource, "delete": True}
        elif urn in unsettled and not resource.get("delete"):
            resource = {**resource, "outputs": {}}
        merged.append(resource)
    # What a resource depends on was there before it was begun.
    deployment["resources"] = [*merged, *coming.values()]
    return changed


def without(document: Mapping[str, Any], urns: Sequence[str]) -> dict[str, Any]:
    """The state without resources that have no outputs, since they turned out not to be there."""
    changed = copy.deepcopy(dict(document))
    changed["deployment"]["resources"] = [each for each in resources(document) if not (each["urn"] in urns and not each.get("outputs"))]
    return changed


def without_successors(document: Mapping[str, Any], plan: Plan, before: Mapping[str, Any]) -> dict[str, Any]:
    """With what made room for a successor that turned out not to be there as it was `before`: nothing of it is to be deleted."""
    changed = copy.deepcopy(dict(document))
    alone = not_made(document, plan, before)
    stayed = _live(before)
    for resource in changed["deployment"].get("resources") or []:
        if resource["urn"] in alone and (resource["urn"], resource.get("id")) in stayed:
            resource.pop("delete", None)
    return changed


def not_made(document: Mapping[str, Any], plan: Plan, before: Mapping[str, Any]) -> set[str]:
    """What was looked for and is not there: the state has nothing of its URN, or only what it had `before` under another id.

    What was found may have another id than it was asked for by (an IAM binding's parts come with slashes).
    """
    stayed = _live(before)
    found = {
        each["urn"]
        for each in resources(document)
        if not each.get("delete") and ((each["urn"], each.get("id")) not in stayed or each.get("id") == plan.look_for.get(each["urn"]))
    }
    return {urn for urn in plan.look_for if urn not in found}


def _live(document: Mapping[str, Any]) -> set[tuple[str, str | None]]:
    return {(each["urn"], each.get("id")) for each in resources(document) if not each.get("delete")}


def with_provider_s_own(document: Mapping[str, Any], before: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """With what an importer could only guess, taken from inputs by URN that are known from before."""
    changed = copy.deepcopy(dict(document))
    for resource in changed["deployment"].get("resources") or []:
        for key in identifiers.PROVIDER_S_OWN.get(resource["type"], ()) if resource["urn"] in before else ():
            known = before[resource["urn"]]
            for values in (resource["inputs"], resource["outputs"]):
                if key in known:
                    values[key] = known[key]
    return changed


def being_deleted(document: Mapping[str, Any], urns: Sequence[str]) -> list[str]:
    """The Kubernetes objects among these that are there only until their deletion is through."""
    return [
        each["urn"]
        for each in resources(document)
        if each["urn"] in urns
        and each["type"].startswith("kubernetes:")
        and ((each.get("outputs") or {}).get("metadata") or {}).get("deletionTimestamp")
    ]
