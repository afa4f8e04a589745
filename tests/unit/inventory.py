"""What a run of the program makes, as lines that a person reads in a diff: one of each input that fits in a line, by resource.

PARENT$TYPE::NAME (after DEPENDENCY, ...; ignores INPUT, ...; secret PATH; protected)
  PATH: JSON
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from sandbox.providers.computed_fields import computed_fields
from tests.unit.program import Resource, Run

_WIDTH = 140


def inventory(run: Run) -> list[str]:
    """Every custom resource of a run, in the order of their URNs."""
    return [line for _, resource in sorted(run.resources.items()) if resource.custom for line in _lines(resource)]


def difference(lines: list[str], base: list[str]) -> list[str]:
    """What makes `lines` of `base`: under each resource that differs `- ` before what goes and `+ ` before what comes."""
    ours, theirs = _by_resource(lines), _by_resource(base)
    found = []
    for name in sorted({*ours, *theirs}):
        one, other = theirs.get(name, []), ours.get(name, [])
        changes = [("-", line) for line in one if line not in other] + [("+", line) for line in other if line not in one]
        if not changes:
            continue
        if one and other:
            found.append(f"@ {name}")
            changes.sort(key=lambda change: (change[1].partition(": ")[0], change[0] == "+"))
        found += [" ".join(change) for change in changes]
    return found


def left_on(before: Run, after: Run) -> list[str]:
    """Fields of Google's resources that an update from `before` to `after` no longer names, and that the provider would therefore keep.

    pulumi-gcp drops a field that is no longer named from its request only if the provider's schema does not compute that field.
    """
    both = [
        (each, after.resources[urn]) for urn, each in before.resources.items() if each.type.startswith("gcp:") and urn in after.resources
    ]
    return [f"{old.name}: {each}" for old, new in both for each in _vanished(old.inputs, new.inputs) if _is_kept(old.type, each)]


def _vanished(before: Any, after: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    if isinstance(before, dict) and isinstance(after, dict):
        for key, value in before.items():
            if key in after:
                yield from _vanished(value, after[key], (*path, key))
            else:
                yield ".".join((*path, key))
    elif isinstance(before, list) and isinstance(after, list):
        for old, new in zip(before, after, strict=False):
            yield from _vanished(old, new, path)


def _is_kept(type_token: str, field: str) -> bool:
    # The cluster's own ranges and network go with the cluster, which another network replaces; by name its addresses count for nothing.
    replaced = ("subnetwork", "networkingMode", "ipAllocationPolicy", "masterAuthorizedNetworksConfig")
    if type_token == "gcp:container/cluster:Cluster" and field.startswith(replaced):
        return False
    return field in computed_fields(type_token)


def _by_resource(lines: list[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    name = ""
    for line in lines:
        if not line.startswith(" "):
            name = line.partition(" (")[0]
        found.setdefault(name, []).append(line)
    return found


def _lines(resource: Resource) -> Iterator[str]:
    marks = {
        "after": [urn.rpartition("::")[2] for urn in resource.dependencies],
        "ignores": resource.ignore_changes,
        "secret": resource.secrets,
    }
    said = [f"{mark} {', '.join(what)}" for mark, what in marks.items() if what] + ["protected"] * resource.protect
    yield resource.urn.split("::", 2)[2] + (f" ({'; '.join(said)})" if said else "")
    for key, value in sorted(resource.inputs.items()):
        yield from _values(f"  {key}", value)


def _values(path: str, value: Any) -> Iterator[str]:
    """One line, or where that is too long the lines of its parts; the part of a list is known by its `name` or place, if it has parts."""
    line = f"{path}: {json.dumps(value, sort_keys=True)}"
    if len(line) <= _WIDTH or not isinstance(value, dict | list):
        yield line
    elif isinstance(value, dict):
        for key, each in sorted(value.items()):
            yield from _values(f"{path}.{key}", each)
    else:
        for index, each in enumerate(value):
            name = each.get("name", index) if isinstance(each, dict) else ""
            yield from _values(f"{path}[{name}]", each)
