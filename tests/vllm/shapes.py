"""What is compared of two servers' answers: everything but the values that differ from run to run."""

import json
from collections.abc import Iterator
from typing import Any

import requests

#: Values that programs act on.
_COMPARED_VALUES = frozenset({"object", "role", "type", "param", "code", "owned_by", "error"})


def shape_of(response: requests.Response) -> dict[str, Any]:
    """Status, content type, and the body's shape: of JSON its keys and types, of a stream that of each kind of event."""
    content_type = response.headers.get("content-type")
    return {"status": response.status_code, "content-type": content_type, "body": _body(response, content_type or "")}


def differences(real: Any, standin: Any, path: str = "") -> list[str]:
    """One line for each place where two shapes differ."""
    if isinstance(real, dict) and isinstance(standin, dict):
        found = []
        for key in sorted({*real, *standin}):
            place = f"{path}.{key}".lstrip(".")
            if key not in standin:
                found.append(f"{place}: only vLLM has it ({_words(real[key])})")
            elif key not in real:
                found.append(f"{place}: only the stand-in has it ({_words(standin[key])})")
            else:
                found += differences(real[key], standin[key], place)
        return found
    if real == standin:
        return []
    return [f"{path}: vLLM {_words(real)}, stand-in {_words(standin)}"]


def _body(response: requests.Response, content_type: str) -> Any:
    if content_type.startswith("application/json"):
        return _json(response.json())
    if content_type.startswith("text/event-stream"):
        return _events(response.text)
    if content_type.startswith("text/plain; version"):
        return "metrics"
    return f"{len(response.content)} bytes"


def _events(text: str) -> dict[str, Any]:
    """First event, those in between as one, the event with a finish reason, that with the usage, and the end."""
    kinds: dict[str, Any] = {}
    lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    kinds["last line"] = lines[-1]
    for number, line in enumerate(lines[:-1]):
        event = json.loads(line)
        choices = event.get("choices") or []
        if not choices:
            kind = "event without choices"
        elif any(each.get("finish_reason") for each in choices):
            kind = "event with a finish reason"
        else:
            kind = "event in between" if number else "first event"
        kinds[kind] = _merged(kinds.get(kind), _json(event))
    return kinds


def _json(value: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        return {name: _json(each, name) for name, each in value.items()}
    if isinstance(value, list):
        merged = None
        for each in value:
            merged = _merged(merged, _json(each))
        return {"[]": merged} if value else "empty list"
    if key in _COMPARED_VALUES and isinstance(value, (str, int)):
        return repr(value)
    return "null" if value is None else type(value).__name__


def _merged(one: Any, other: Any) -> Any:
    if one is None or one == other:
        return other
    if isinstance(one, dict) and isinstance(other, dict):
        return {key: _merged(one.get(key, "absent"), other.get(key, "absent")) for key in {**one, **other}}
    return " or ".join(sorted({*str(one).split(" or "), *str(other).split(" or ")}))


def _words(shape: Any) -> str:
    return ", ".join(_leaves(shape)) if isinstance(shape, dict) else str(shape)


def _leaves(shape: dict[str, Any]) -> Iterator[str]:
    for key, value in shape.items():
        yield f"{key}: {{{_words(value)}}}" if isinstance(value, dict) else f"{key}: {value}"
