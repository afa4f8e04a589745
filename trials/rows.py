"""JSON of results with one result a line, so that a file of them and its diffs can be read. Left out: reading it, which `json` does."""

from __future__ import annotations

import json
from typing import Any

#: Down to here every object has lines of its own: the document and its sections. Deeper, only lists do.
_OBJECTS = 3


def dumps(document: Any) -> str:
    return _written(document, 0) + "\n"


def _written(value: Any, depth: int) -> str:
    inside, outside = "  " * (depth + 1), "  " * depth
    if isinstance(value, dict) and value and depth < _OBJECTS:
        rows = [f"{inside}{json.dumps(key)}: {_written(each, depth + 1)}" for key, each in value.items()]
        return "{\n" + ",\n".join(rows) + f"\n{outside}}}"
    if isinstance(value, list) and value and depth <= _OBJECTS:
        return "[\n" + ",\n".join(inside + _written(each, depth + 1) for each in value) + f"\n{outside}]"
    return json.dumps(value)
