"""The settings' declarations and the schema that Pulumi's engine reads say the same."""

from __future__ import annotations

from components.settings import stack_files
from components.settings.schema import schema_settings


def test_engine_gets_the_defaults_of_the_declarations() -> None:
    schema = stack_files.schema()
    assert {each.key for each in schema_settings()} == set(schema)
    for each in schema_settings():
        assert each.required == ("default" not in schema[each.key])
        assert each.required or schema[each.key]["default"] == each.default, each.key
