"""docs/outputs.md and the program say the same of the outputs: names, types, and what is secret."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.unit.program import ROOT, Run, run_program

DOCS = (ROOT / "docs" / "outputs.md").read_text()

ROWS = {match[1]: (match[2], match[3]) for match in re.finditer(r"^\| `(\w+)` \| ([a-z ]+) \| (yes|no) \| .+ \|$", DOCS, re.MULTILINE)}


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


_TYPES: dict[str, Any] = {
    "text": _is_text,
    "list of text": lambda value: isinstance(value, list) and value != [] and all(map(_is_text, value)),
    "list of mapping": lambda value: isinstance(value, list) and value != [] and all(map(_TYPES["mapping of text"], value)),
    "mapping of text": lambda value: isinstance(value, dict) and value != {} and all(map(_is_text, value.values())),
}


@pytest.fixture(scope="module")
def dev() -> Run:
    # With everything that has an output.
    gateway = {"class": "gke-l7-rilb", "hostName": "llm.example.com", "certificate": {"dnsAuthorization": True}}
    return run_program({"gateway": gateway})


def test_every_output_is_promised_and_nothing_else(dev: Run) -> None:
    assert set(ROWS) == set(dev.outputs)


@pytest.mark.parametrize("name", sorted(ROWS))
def test_output_has_the_promised_type_and_is_secret_as_promised(dev: Run, name: str) -> None:
    kind, secret = ROWS[name]
    assert _TYPES[kind](dev.outputs[name]), dev.outputs[name]
    assert (name in dev.secret_outputs) == (secret == "yes")
