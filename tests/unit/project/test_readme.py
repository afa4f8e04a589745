"""The README is short, and the page of settings says what the program has."""

from __future__ import annotations

import re

from tests.unit.program import ROOT, schema

README = (ROOT / "README.md").read_text()
SETTINGS = (ROOT / "docs" / "settings.md").read_text()

#: What a stranger still reads to the end.
_MOST_LINES = 200


def _row(key: str, field: dict[str, object]) -> str:
    default = field.get("default")
    if "default" not in field:
        shown = "required"
    elif default == "":
        shown = '`""`'
    else:
        shown = f"`{str(default).lower() if isinstance(default, bool) else default}`"
    return f"| `{key}` | {field['type']} | {shown} | {field['description']} |"


def test_settings_table_is_the_schema() -> None:
    expected = [_row(key, field) for key, field in schema().items()]
    section = SETTINGS.split("## Keys of an accelerator pool")[0]
    table = [line for line in section.splitlines() if line.startswith("| `")]
    assert table == expected, "docs/settings.md should read:\n" + "\n".join(expected)


def test_the_readme_is_short() -> None:
    lines = README.splitlines()
    assert len(lines) <= _MOST_LINES
    assert max(len(line) for line in lines if not line.startswith(("|", "<!--"))) <= 140


def test_settings_that_the_readme_names_exist() -> None:
    section = README.split("## Settings")[1].split("## ")[0]
    named = {name for row in re.findall(r"^\| (`.*?) \|", section, re.MULTILINE) for name in re.findall(r"`([\w:]+)`", row)}
    assert len(named) > 12
    assert named - set(schema()) == {"gcp:project"}
