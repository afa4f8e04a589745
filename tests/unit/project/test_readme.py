"""What the README says of settings and outputs is what the program has."""

from __future__ import annotations

import re

from tests.unit.program import ROOT, schema

README = (ROOT / "README.md").read_text()


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
    section = README.split("## Settings")[1].split("An element of")[0]
    table = [line for line in section.splitlines() if line.startswith("| `")]
    assert table == expected, "README.md, Settings, should read:\n" + "\n".join(expected)


def test_outputs_table_is_what_the_program_exports() -> None:
    exported = re.findall(r'pulumi\.export\("(\w+)"', (ROOT / "__main__.py").read_text())
    section = README.split("## Outputs")[1].split("## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == exported


def test_every_make_target_that_the_readme_names_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", README, re.MULTILINE))
    assert named
    for target in named:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
