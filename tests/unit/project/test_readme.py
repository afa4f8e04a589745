"""The README is short, and the settings that it names exist."""

import re

from components.settings.schema import schema_settings
from tests.unit.program import ROOT

README = (ROOT / "README.md").read_text()

#: The most lines that a stranger reads to the end.
_MOST_LINES = 200


def test_the_readme_is_short() -> None:
    lines = README.splitlines()
    assert len(lines) <= _MOST_LINES
    assert max(len(line) for line in lines if not line.startswith(("|", "<!--"))) <= 140


def test_settings_that_the_readme_names_exist() -> None:
    section = README.split("## Settings")[1].split("## ")[0]
    named = {name for row in re.findall(r"^\| (`.*?) \|", section, re.MULTILINE) for name in re.findall(r"`([\w:]+)`", row)}
    assert len(named) > 12
    assert named - {each.key for each in schema_settings()} == {"gcp:project"}
