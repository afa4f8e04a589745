"""The generated pages are up to date with their sources, and the command reports those that are not."""

import re
from pathlib import Path

import pytest

from ops.pages import __main__ as command
from ops.pages import figures
from ops.pages import page as page_module
from ops.pages.__main__ import PAGES
from ops.pages.page import Page, between
from tests.unit.program import ROOT

FOLDER = ROOT / "docs" / "figures"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.file)
def test_a_generated_page_is_up_to_date(page: Page) -> None:
    present, wanted = page.texts()
    assert present == wanted, f"{page.file}: run `make pages`"


def test_the_command_writes_what_is_out_of_date_and_the_check_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(page_module, "PROJECT_DIR", tmp_path)
    monkeypatch.setattr(command, "PAGES", (Page("results.md", lambda _: "new\n"),))
    (tmp_path / "results.md").write_text("old\n")
    assert command.main(["--check"]) == 1
    assert capsys.readouterr().err.startswith("results.md is out of date: run `make pages`")
    assert (tmp_path / "results.md").read_text() == "old\n"
    assert command.main([]) == 0
    assert (tmp_path / "results.md").read_text() == "new\n"
    assert command.main(["--check"]) == 0


def test_a_page_without_its_markers_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(page_module, "PROJECT_DIR", tmp_path)
    monkeypatch.setattr(command, "PAGES", (Page("README.md", lambda text: between("figures", text, "x")),))
    assert command.main([]) == 2
    assert "README.md: figures: the page has no line `<!-- generated: figures -->`" in capsys.readouterr().err


def test_only_what_stands_between_the_markers_is_replaced() -> None:
    text = "a\n<!-- generated: b -->\nold\n<!-- end: b -->\nc\n"
    assert between("b", text, "new") == text.replace("old", "new")


def test_the_planned_events_on_real_vllm_have_their_own_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "_DRILLS_ON_VLLM", tmp_path / "none.json")
    without = figures.results("")
    monkeypatch.setattr(figures, "_DRILLS_ON_VLLM", FOLDER / "drills.json")
    assert figures.results("").startswith(without.rstrip())
    assert "## Planned events on real vLLM" in figures.results("")


@pytest.mark.parametrize("file", [each.name for each in FOLDER.glob("*.json")])
def test_kept_results_name_no_folder_of_the_machine_that_they_are_of(file: str) -> None:
    assert not re.findall(r"(?:/root|/home|/tmp|/var|/work)/\S*", (FOLDER / file).read_text())
