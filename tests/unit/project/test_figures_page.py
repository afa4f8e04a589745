"""The README's figures are those of the results that are kept in docs/figures, and of no other run."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.program import ROOT
from trials.bench import picture, report
from trials.bench import results as bench_results
from trials.bench.machine import Machine
from trials.drills import results as drill_results
from trials.drills.results import Found, Result, Section

FOLDER = ROOT / "docs" / "figures"
README = ROOT / "README.md"
UPDATE = "UPDATE_GOLDEN=1 .venv/bin/pytest tests/unit/project/test_figures_page.py"


def _of_benches() -> str:
    return report.markdown(bench_results.read(FOLDER / "bench.json")).strip()


def _of_drills() -> str:
    return drill_results.page(drill_results.read(FOLDER / "drills.json"))


@pytest.mark.parametrize(("name", "made"), [("bench", _of_benches), ("drills", _of_drills)])
def test_the_readme_shows_the_kept_results(name: str, made: Callable[[], str]) -> None:
    begin, end = f"<!-- results: docs/figures/{name}.json -->", f"<!-- end of docs/figures/{name}.json -->"
    shown = re.compile(f"{re.escape(begin)}\n(.*?)\n{re.escape(end)}", re.DOTALL)
    text = README.read_text()
    found = shown.search(text)
    assert found is not None, f"README.md has no {begin} ... {end}"
    if os.environ.get("UPDATE_GOLDEN"):
        README.write_text(shown.sub(lambda _: f"{begin}\n{made()}\n{end}", text))
        return
    assert found[1] == made(), f"of other results than {name}.json; if the results are meant: {UPDATE}"


def test_the_readme_s_picture_is_the_one_of_the_kept_results() -> None:
    drawn = picture.svg(bench_results.read(FOLDER / "bench.json"))
    if os.environ.get("UPDATE_GOLDEN"):
        (FOLDER / "bench.svg").write_text(drawn)
    assert (FOLDER / "bench.svg").read_text() == drawn, f"of other results; if they are meant: {UPDATE}"
    assert "docs/figures/bench.svg" in README.read_text()


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
