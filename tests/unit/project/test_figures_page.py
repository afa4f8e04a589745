"""The generated pages are up to date with the results that are kept in docs/figures, and the command says so where they are not."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from ops.pages import __main__ as command
from ops.pages import page as page_module
from ops.pages.__main__ import PAGES
from ops.pages.page import Page, between
from tests.unit.program import ROOT
from trials.bench.machine import Machine
from trials.drills import results as drill_results
from trials.drills.results import Found, Result, Section

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


def test_results_are_written_one_a_line(tmp_path: Path) -> None:
    file = tmp_path / "drills.json"
    section = _section("load", 1, Machine.here())
    drill_results.write(file, [replace(section, results=[*section.results, *section.results])])
    assert len([line for line in file.read_text().splitlines() if '"event"' in line]) == 2


@pytest.mark.parametrize("file", ["bench.json", "drills.json", "bench.svg"])
def test_kept_results_name_no_folder_of_the_machine_that_they_are_of(file: str) -> None:
    assert not re.findall(r"(?:/root|/home|/tmp|/var|/work)/\S*", (FOLDER / file).read_text())


def _section(name: str, survived: int, machine: Machine) -> Section:
    found = Found(date="2026-01-01T00:00:00+00:00", commit="abc", share=0.5, seed=3, machine=machine)
    result = Result(event="an | event", tried=2, survived=survived, recovery="by itself", longest_gap=1.25, failed=1, cut=0)
    return Section(name=name, title=name.title(), results=[result], found=found)


def test_drills_that_did_not_run_keep_their_results(tmp_path: Path) -> None:
    file, machine = tmp_path / "drills.json", Machine.here()
    load, kills = _section("load", 1, machine), _section("kills", 2, machine)
    drill_results.write(file, [load, kills])
    again = replace(load, results=[replace(load.results[0], survived=2)])
    drill_results.write(file, [again])
    assert drill_results.read(file) == [again, kills]


def test_a_drill_s_page_says_what_was_lost_and_when_and_where_it_was_found() -> None:
    machine = Machine.here()
    page = _section("load", 1, machine).markdown().splitlines()
    assert "| an / event | 2 | 1 | 1 (1 failed, 0 cut) | 1.2 s | by itself |" in page
    assert page[-1] == f"Found 2026-01-01T00:00:00+00:00 at commit abc, 50% of it, seed 3, on: {machine}."


def test_a_page_of_drills_begins_with_what_each_lost_of_all_that_it_tried() -> None:
    machine = Machine.here()
    page = drill_results.page([_section("load", 1, machine), _section("kills", 2, machine)])
    assert "| `load` | Load | 2 | 1 | 1 |\n| `kills` | Kills | 2 | 2 | 0 |" in page
    assert page.count("<details>") == page.count("</details>") == 2
