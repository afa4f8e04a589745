"""What is generated from the settings' declarations is up to date; `python -m components.settings` writes it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from components.settings import stack_files
from components.settings.schema import markdown, pulumi_yaml, schema_settings
from tests.unit.program import ROOT


@pytest.mark.parametrize(("path", "made"), [("docs/settings.md", lambda _: markdown()), ("Pulumi.yaml", pulumi_yaml)])
def test_page_is_what_the_declarations_say(path: str, made: Callable[[str], str]) -> None:
    text = (ROOT / path).read_text()
    assert made(text) == text, f"{path} is out of date; write it with `python -m components.settings`"


def test_engine_gets_the_defaults_of_the_declarations() -> None:
    schema = stack_files.schema()
    assert {each.key for each in schema_settings()} == set(schema)
    for each in schema_settings():
        assert each.required == ("default" not in schema[each.key])
        assert each.required or schema[each.key]["default"] == each.default, each.key
