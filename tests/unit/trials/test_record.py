"""What benches and drills found, as a file and as a page: complete, and without names of this machine."""

from __future__ import annotations

import getpass
import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from sandbox.host.paths import PROJECT_DIR
from tests.unit.trials.recorded import CURVE, MACHINE, RESULT, drill, figure, section
from trials import record, report
from trials.machine import Machine
from trials.record import RecordError
from trials.results import Result

SECTIONS = [
    section(
        figure([1.4, 1.5, 1.6], name="reached", goal=2.0),
        figure([2.4, 2.5, 2.9], name="missed", goal=2.0),
        figure([500.0], name="watched", unit="MB"),
        curves=[CURVE],
        lines=["the first line"],
    ),
    section(name="up", failed="CommandFailed"),
    drill("load", RESULT),
]


def test_a_file_that_is_read_back_is_what_was_written(tmp_path: Path) -> None:
    file = tmp_path / "below" / "last.json"
    record.write(file, record.as_json(SECTIONS))
    assert record.as_json(record.read(file)) == file.read_text()
    assert [each.name for each in file.parent.iterdir()] == ["last.json"]


def test_a_machine_is_described_without_names_of_hosts_users_and_folders() -> None:
    described = str(Machine.here())
    words = set(described.replace(",", " ").split())
    assert not words & {socket.gethostname(), getpass.getuser()}
    assert str(Path.home()) not in described
    assert str(PROJECT_DIR) not in described
    assert Machine.here().cores == len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is not a file of results"),
        ("[]", "is not a file of results"),
        ('{"form": 2, "sections": [{}]}', "KeyError: 'run'"),
        ('{"form": 99, "sections": []}', "its form is 99, and this program reads form 2"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_its_name_and_a_fix(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "broken.json"
    file.write_text(text)
    with pytest.raises(RecordError) as refused:
        record.read(file)
    for part in (str(file), said, "Fix: "):
        assert part in str(refused.value)


def test_a_bench_s_page_has_its_figures_lines_and_charts_and_says_where_it_was_measured() -> None:
    page = report.markdown(SECTIONS[:1])
    for line in (
        "| missed | 2.50x | ±0.25x | at most 2.00x | no |",
        "| watched | 500 MB | one sample |  |  |",
        "- the first line",
        '  x-axis "pools" [3, 300]',
        "  line [1.00, 4.50]",
        f"Measured 2026-11-25T12:00:00+00:00 at commit 0123456789ab, at most 5 times each, on: {MACHINE}.",
    ):
        assert line in page.splitlines()


def test_a_drills_page_says_what_was_tried_and_lost_in_all_and_in_each_event() -> None:
    killed = Result(event="killed", tried=3, survived=2, recovery="none")
    page = report.page([drill("load", RESULT, replace(RESULT, event="b")), drill("kills", killed)])
    for line in (
        "| `load` | Load | 4 | 2 | 2 |",
        "| an / event | 2 | 1 | 1 (1 failed, 0 cut) | 1.2 s | by itself |",
        "| killed | 3 | 2 | 1 |  | none |",
        f"Found 2026-11-25T12:00:00+00:00 at commit 0123456789ab, 50% of it, seed 3, on: {MACHINE}.",
    ):
        assert line in page.splitlines()
    assert page.count("<details>") == page.count("</details>") == 2
