"""Takes secret values out of what is said about a request: refusals and logs quote what they refuse."""

import base64
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sandbox.providers.wire import Secret

#: A secret that is shorter than this would garble messages more than they could tell of it.
_SHORTEST = 4


def hiding(values: Iterable[Any]) -> Callable[[object], str]:
    """A function that turns anything into text without the secrets in `values`, plain or base64."""
    found: set[str] = set()
    for value in values:
        _collect(value, False, found)
    found |= {base64.b64encode(each.encode()).decode() for each in found}

    def hide(said: object) -> str:
        text = str(said)
        for secret in sorted(found, key=len, reverse=True):
            text = text.replace(secret, "[secret]")
        return text

    return hide


def _collect(value: Any, inside: bool, found: set[str]) -> None:
    if isinstance(value, Secret):
        _collect(value.value, True, found)
    elif isinstance(value, Mapping):
        for each in value.values():
            _collect(each, inside, found)
    elif isinstance(value, list):
        for each in value:
            _collect(each, inside, found)
    elif inside and isinstance(value, str) and len(value) >= _SHORTEST:
        found.add(value)
