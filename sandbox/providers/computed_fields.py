"""Fields that the real gcp provider computes unless a program gives them, and so keeps when a program gives them no more.

`computed_fields.json` lists those that this program uses, as the provider's own schema has them: Optional and Computed. Left out: what
the real provider suppresses beyond its schema, but for Binary Authorization (`BinaryAuthorizationDiffSuppress`), whose block it
keeps as if it were computed.
"""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

_DATA = Path(__file__).with_suffix(".json")


@cache
def computed_fields(type_token: str) -> frozenset[str]:
    """Wire paths without list indexes; empty for a kind of which nothing is known."""
    return frozenset(json.loads(_DATA.read_text())["fields"].get(type_token, ()))


def with_kept(fields: frozenset[str], before: Mapping[str, Any], now: Mapping[str, Any], path: tuple[str, ...] = ()) -> dict[str, Any]:
    """`now`, and at computed fields that it leaves out what was there `before`."""
    result = dict(now)
    for key, value in before.items():
        where = (*path, key)
        if key not in now:
            if ".".join(where) in fields:
                result[key] = value
        elif isinstance(value, Mapping) and isinstance(now[key], Mapping):
            result[key] = with_kept(fields, value, now[key], where)
        elif _are_blocks(value, now[key]):
            result[key] = [with_kept(fields, old, new, where) for old, new in zip(value, now[key], strict=True)]
    return result


def with_known(
    fields: frozenset[str], outputs: Mapping[str, Any], before: Mapping[str, Any], now: Mapping[str, Any], path: tuple[str, ...] = ()
) -> dict[str, Any]:
    """`before`, and at computed fields that only `now` has what the state's outputs say of them: the real provider compares with these."""
    result = dict(before)
    for key, value in now.items():
        where = (*path, key)
        if key not in outputs:
            continue
        if key not in before:
            if ".".join(where) in fields:
                result[key] = _projected(outputs[key], value)
        elif isinstance(value, Mapping) and isinstance(before[key], Mapping) and isinstance(outputs[key], Mapping):
            result[key] = with_known(fields, outputs[key], before[key], value, where)
    return result


def _projected(found: Any, wanted: Any) -> Any:
    """The part of an output that a program's value speaks of."""
    if isinstance(found, Mapping) and isinstance(wanted, Mapping):
        return {key: _projected(found[key], value) for key, value in wanted.items() if key in found}
    return found


def _are_blocks(one: Any, other: Any) -> bool:
    return (
        isinstance(one, list)
        and isinstance(other, list)
        and len(one) == len(other)
        and all(isinstance(each, Mapping) for each in (*one, *other))
    )
