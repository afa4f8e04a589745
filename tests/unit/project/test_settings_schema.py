"""The settings' declarations and what Pulumi's engine reads in Pulumi.yaml say the same."""

import yaml

from components.settings.schema import schema_settings
from components.settings.stack_files import PROJECT_DIR


def test_engine_gets_the_defaults_of_the_declarations_and_no_types() -> None:
    found = yaml.safe_load((PROJECT_DIR / "Pulumi.yaml").read_text())["config"]
    # A mapping would be taken for a declaration of a setting, so a default that is one stands below `default`.
    expected = {each.key: {"default": each.default} if isinstance(each.default, dict) else each.default for each in schema_settings()}
    assert found == {each.key: expected[each.key] for each in schema_settings() if not each.required}
