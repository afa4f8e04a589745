"""The JSON of `make bench`, its picture and its page: complete, well-formed, and with nobody's name in it."""

from __future__ import annotations

import getpass
import json
import os
import socket
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

from sandbox.host.paths import PROJECT_DIR
from tests.unit.bench_results import MACHINE, curve, figure, section
from trials.bench import picture, report, results
from trials.bench.machine import Machine, commit
from trials.bench.results import ResultsError

SVG = "{http://www.w3.org/2000/svg}"


def _goals() -> list[results.Section]:
    return [
        section(
            figure([1.4, 1.5, 1.6], name="reached & well", goal=2.0),
            figure([2.4, 2.5, 2.9], name="missed <by far>", goal=2.0),
            figure([1.6, 1.7, 1.8], name="higher", goal=1.5, higher_is_better=True),
            figure([0.0, 0.0, 0.0], name="nothing", goal=0.0, unit="bytes"),
            figure([500.0], name="watched", unit="MB"),
            curves=[curve()],
        )
    ]


# --- JSON


def test_json_read_back_is_what_was_written(tmp_path: Path) -> None:
    written = [*_goals(), section(bench="up", failed="CommandFailed", lines=["a line"])]
    file = tmp_path / "below" / "last.json"
    results.write(file, results.as_json(written))
    assert results.as_json(results.read(file)) == results.as_json(written)
    assert [each.name for each in file.parent.iterdir()] == ["last.json"]


def test_json_has_value_noise_samples_and_goal_of_each_figure_and_the_machine() -> None:
    document = json.loads(results.as_json(_goals()))
    (found,) = document["sections"]
    assert found["figures"][0] == {
        "name": "reached & well",
        "value": 1.5,
        "noise": pytest.approx(0.1),
        "samples": [1.4, 1.5, 1.6],
        "unit": "x",
        "goal": 2.0,
        "reached": True,
        "higher_is_better": False,
        "note": "",
    }
    assert [each["reached"] for each in found["figures"]] == [True, False, True, True, None]
    assert found["measured"] == {
        "date": "2026-11-25T12:00:00+00:00",
        "commit": "0123456789ab",
        "repeats": 5,
        "quick": False,
        "machine": MACHINE.as_document(),
    }
    assert found["curves"][0]["series"]["update"] == [[3.0, 1.0, 0.1], [10.0, 1.2, 0.05]]


def test_machine_is_described_without_names_of_hosts_users_and_folders() -> None:
    described = json.dumps(Machine.here().as_document())
    words = set(described.replace('"', " ").replace(",", " ").split())
    assert socket.gethostname() not in words
    assert getpass.getuser() not in words
    assert str(Path.home()) not in described
    assert str(PROJECT_DIR) not in described
    assert Machine.here().cores == len(os.sched_getaffinity(0))


def test_commit_is_one_or_unknown_and_says_when_there_are_changes() -> None:
    found = commit()
    assert found == "unknown" or (len(found.removesuffix("+")) == 12 and int(found.removesuffix("+"), 16) >= 0)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "is no file of results"),
        ("[]", "is no file of results"),
        ('{"form": 1, "sections": [{}]}', "KeyError: 'measured'"),
    ],
)
def test_a_file_that_is_none_of_results_is_refused_with_its_name_and_the_way_out(tmp_path: Path, text: str, reason: str) -> None:
    file = tmp_path / "broken.json"
    file.write_text(text)
    with pytest.raises(ResultsError) as refused:
        results.read(file)
    assert str(file) in str(refused.value)
    assert reason in str(refused.value)
    assert "remove it, or name another" in str(refused.value)


def test_a_file_of_another_form_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "newer.json"
    file.write_text(json.dumps({"form": 99, "sections": []}))
    with pytest.raises(ResultsError, match=r"its form is 99, and this program knows 1.*measure anew"):
        results.read(file)


def test_a_run_of_one_bench_keeps_the_others_and_a_failed_one_replaces_nothing() -> None:
    earlier = [section(figure([1.0]), bench="up"), section(figure([1.0]), bench="growth")]
    now = [
        section(figure([2.0]), bench="growth"),
        section(bench="up", failed="CommandFailed"),
        section(bench="footprint"),
    ]
    kept = results.merged(earlier, now)
    assert [(each.bench, [one.value for one in each.figures]) for each in kept] == [
        ("up", [1.0]),
        ("growth", [2.0]),
        ("footprint", []),
    ]


# --- picture


def _texts(svg: str) -> list[str]:
    return [each.text or "" for each in ET.fromstring(svg).iter(f"{SVG}text")]


def test_picture_has_each_goal_its_value_and_whether_it_is_missed() -> None:
    texts = _texts(picture.svg(_goals()))
    assert "reached & well" in texts
    assert "1.50x, goal at most 2.00x" in texts
    assert "missed <by far>" in texts
    assert "2.50x, goal at most 2.00x: missed" in texts
    assert "1.70x, goal at least 1.50x" in texts
    assert not any("watched" in each for each in texts)


def test_picture_s_bars_end_left_of_the_goal_s_line_where_it_is_reached() -> None:
    root = ET.fromstring(picture.svg(_goals()))
    ends = {
        style: [float(each.get("x", 0)) + float(each.get("width", 0)) for each in root.iter(f"{SVG}rect") if each.get("class") == style]
        for style in ("good", "bad")
    }
    (goal,) = {float(each.get("x1", 0)) for each in root.iter(f"{SVG}line") if each.get("class") == "goal"}
    assert len(ends["good"]) == 3
    assert all(end <= goal for end in ends["good"])
    assert len(ends["bad"]) == 1
    assert ends["bad"][0] > goal


def test_picture_has_each_curve_s_points_with_their_noise_and_its_labels() -> None:
    root = ET.fromstring(picture.svg(_goals()))
    lines = [each.get("points", "").split() for each in root.iter(f"{SVG}polyline")]
    assert [len(points) for points in lines] == [3, 2]
    # A grown value is further up, and x stands in proportion.
    places = [tuple(map(float, point.split(","))) for point in lines[0]]
    assert places[0][1] > places[1][1] > places[2][1]
    whiskers = [each for each in root.iter(f"{SVG}line") if (each.get("class") or "").startswith("s")]
    assert len(whiskers) == 5
    texts = _texts(picture.svg(_goals()))
    for text in ("Preview <with> ever more pools", "preview & nothing", "update", "pools", "3, 10", "300"):
        assert text in texts
    assert any("times as long as with 3" in each for each in texts)


def test_picture_can_be_read_in_a_light_and_in_a_dark_theme() -> None:
    root = ET.fromstring(picture.svg(_goals()))
    (style,) = root.iter(f"{SVG}style")
    assert "prefers-color-scheme: dark" in (style.text or "")
    # Every colour is the theme's.
    assert not [each for each in root.iter() if each.get("fill") or each.get("stroke")]
    used = {each.get("class", "").split()[0] for each in root.iter() if each.get("class")}
    light, dark = (style.text or "").split("@media")
    assert all(f".{name} " in light and f".{name} " in dark for name in used - {"line"})
    assert root.get("role") == "img"


def test_picture_of_nothing_says_so() -> None:
    assert "Nothing with a goal, and no curve, was measured." in _texts(picture.svg([section()]))


# --- page


def test_page_has_a_row_a_figure_the_lines_and_the_machine() -> None:
    page = report.markdown([replace(_goals()[0], lines=["the first line"])])
    assert "| missed <by far> | 2.50x | ±0.25x | at most 2.00x | no |" in page
    assert "| watched | 500 MB | one sample |  |  |" in page
    assert "- the first line" in page
    assert "at commit 0123456789ab, at most 5 times each, on: Some CPU, 4 cores, 16 GiB" in page


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (1.234, "x", "1.23x"),
        (12.34, "s", "12.3 s"),
        (540.4, "MB", "540 MB"),
        (18432, "bytes", "18,432 bytes"),
        (31.5, "processes", "31.5 processes"),
    ],
)
def test_amounts_are_read_with_their_unit(value: float, unit: str, text: str) -> None:
    assert report.amount(value, unit) == text
