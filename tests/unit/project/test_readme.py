"""What the README says of outputs is what the program has."""

from __future__ import annotations

import re

from tests.unit.program import ROOT

README = (ROOT / "README.md").read_text()


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
