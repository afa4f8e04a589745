"""What Google's own description of an API says against a JSON value, in the words of its servers.

The description is the discovery document that google-api-python-client brings along. Left out: what no schema says (which
fields exclude each other, ranges), and required fields, which these documents do not mark.
"""

import importlib.util
import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

_DURATION = re.compile(r"-?\d+(\.\d{1,9})?s")


@cache
def schemas(api: str) -> dict[str, Any]:
    """By name, of an API such as `monitoring.v1`. Raises `FileNotFoundError` for an API that there is not."""
    package = importlib.util.find_spec("googleapiclient")
    if package is None or not package.submodule_search_locations:
        raise FileNotFoundError("google-api-python-client is not installed: make .venv/.installed")
    folder = Path(package.submodule_search_locations[0]) / "discovery_cache" / "documents"
    return dict(json.loads((folder / f"{api}.json").read_text())["schemas"])


def problems(api: str, schema: str, value: Any, path: str) -> list[str]:
    """What a server says that gets `value` as a message of type `schema`; `path` is what it calls it."""
    return list(_problems(schemas(api), {"$ref": schema}, value, path))


def snake_case(name: str) -> str:
    return re.sub(r"(?<!^)([A-Z])", lambda match: f"_{match[1].lower()}", name)


def _problems(known: Mapping[str, Any], schema: Mapping[str, Any], value: Any, path: str) -> Iterator[str]:
    if "$ref" in schema:
        schema = known[schema["$ref"]]
    kind = schema.get("type")
    if kind == "object":
        if not isinstance(value, Mapping):
            yield _invalid(path, schema.get("id", "object"), value)
            return
        properties, others = schema.get("properties", {}), schema.get("additionalProperties")
        for key, each in value.items():
            if key in properties:
                yield from _problems(known, properties[key], each, f"{path}.{snake_case(key)}")
            elif others is not None:
                yield from _problems(known, others, each, f"{path}.{key}")
            else:
                yield f"Invalid JSON payload received. Unknown name \"{key}\" at '{path}': Cannot find field."
    elif kind == "array":
        if not isinstance(value, list):
            yield f"Invalid JSON payload received. Unknown name \"\" at '{path}': Proto field is repeating, cannot start list."
            return
        for index, each in enumerate(value):
            yield from _problems(known, schema["items"], each, f"{path}[{index}]")
    elif not _is_of(kind, schema, value):
        yield _invalid(path, schema.get("format") or ("enum" if "enum" in schema else kind), value)


def _is_of(kind: str | None, schema: Mapping[str, Any], value: Any) -> bool:
    if kind == "boolean":
        return isinstance(value, bool)
    if kind in ("integer", "number") or (kind == "string" and schema.get("format") in ("int64", "uint64")):
        return _is_number(value, whole=kind != "number")
    if kind == "string":
        if not isinstance(value, str):
            return False
        if schema.get("format") == "google-duration":
            return _DURATION.fullmatch(value) is not None
        return value in schema.get("enum", (value,))
    return True


def _is_number(value: Any, *, whole: bool) -> bool:
    """JSON for protocol buffers takes numbers in quotes as well."""
    if isinstance(value, bool):
        return False
    try:
        number = float(value)
    except (TypeError, ValueError):
        return False
    return number.is_integer() if whole else True


def _invalid(path: str, kind: Any, value: Any) -> str:
    return f"Invalid value at '{path}' ({kind}), {json.dumps(value)}"
