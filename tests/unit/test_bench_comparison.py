"""When a bench says that something got worse: beyond the noise of both runs, and never on a single sample."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from bench.comparison import LEAST, SAMPLES, compare, compare_sections
from bench.figures import Figure
from tests.unit.bench_results import MACHINE, figure, section


def _verdict(saved: Figure, now: Figure) -> str:
    return compare(saved, now).verdict


def test_a_median_that_moved_by_more_than_both_noises_is_worse() -> None:
    # Noise 0.1 and 0.2.
    assert _verdict(figure([1.9, 2.0, 2.1]), figure([2.2, 2.31, 2.6])) == "worse"


def test_a_median_that_moved_by_less_than_both_noises_is_the_same() -> None:
    assert _verdict(figure([1.9, 2.0, 2.1]), figure([2.2, 2.29, 2.6])) == "same"


def test_a_change_below_the_least_share_is_the_same_however_quiet_it_was() -> None:
    saved = figure([2.0, 2.0, 2.0])
    assert _verdict(saved, figure([2.0 * (1 + 0.9 * LEAST)] * 3)) == "same"
    assert _verdict(saved, figure([2.0 * (1 + 1.1 * LEAST)] * 3)) == "worse"


def test_lower_is_better_unless_the_figure_says_otherwise() -> None:
    assert _verdict(figure([2.0] * 3), figure([1.0] * 3)) == "better"
    low, high = (figure([value] * 3, higher_is_better=True) for value in (1.0, 2.0))
    assert _verdict(high, low) == "worse"
    assert _verdict(low, high) == "better"


def test_what_was_nothing_and_is_something_is_worse() -> None:
    assert _verdict(figure([0.0] * 3, unit="bytes"), figure([1.0] * 3, unit="bytes")) == "worse"


@pytest.mark.parametrize(("then", "now"), [(SAMPLES - 1, SAMPLES), (SAMPLES, SAMPLES - 1)])
def test_too_few_samples_on_either_side_are_not_judged(then: int, now: int) -> None:
    change = compare(figure([1.0] * then), figure([9.0] * now))
    assert change.verdict == "not judged"
    assert change.reason == f"2 of 3 samples {'then' if then < now else 'now'}"


def test_a_figure_in_another_unit_is_not_judged() -> None:
    change = compare(figure([1.0] * 3, unit="s"), figure([9.0] * 3))
    assert (change.verdict, change.reason) == ("not judged", "in s then, in x now")


@pytest.mark.parametrize(("samples", "most"), [(3, 0.075), (5, 0.01)])
def test_nothing_that_changed_is_called_worse_as_rarely_as_the_docstring_says(samples: int, most: float) -> None:
    draws = random.Random(1)

    def run() -> Figure:
        return figure([draws.gauss(100, 20) for _ in range(samples)])

    wrong = sum(_verdict(run(), run()) == "worse" for _ in range(2000))
    assert 0 < wrong < most * 2000


# --- whole sections


def test_figures_are_compared_by_name() -> None:
    saved = section(figure([1.0] * 3, name="a"), figure([2.0] * 3, name="gone"))
    now = section(figure([2.0] * 3, name="a"), figure([2.0] * 3, name="new"))
    comparison = compare_sections(saved, now)
    assert [(change.now.name, change.verdict) for change in comparison.changes] == [("a", "worse")]
    assert "growth: new, with nothing to compare: new" in comparison.remarks
    assert "growth: measured then, and not now: gone" in comparison.remarks


def test_another_machine_is_said_and_neither_seconds_nor_megabytes_are_compared() -> None:
    other = replace(MACHINE, cpu="Another CPU", cores=64)
    units = ("s", "MB", "x", "bytes", "processes")
    saved = section(*(figure([1.0] * 3, name=unit, unit=unit) for unit in units), machine=other)
    now = section(*(figure([9.0] * 3, name=unit, unit=unit) for unit in units))
    comparison = compare_sections(saved, now)
    verdicts = {change.now.name: change.verdict for change in comparison.changes}
    assert verdicts == {"s": "not judged", "MB": "not judged", "x": "worse", "bytes": "worse", "processes": "worse"}
    (remark,) = comparison.remarks
    assert "another machine" in remark
    assert "'Another CPU' then, 'Some CPU' now" in remark
    assert "64 then, 4 now" in remark


def test_other_versions_of_programs_make_no_other_machine() -> None:
    saved = section(figure([1.0] * 3, unit="s"), machine=replace(MACHINE, python="3.12.1", engine="3.251.0"))
    comparison = compare_sections(saved, section(figure([9.0] * 3, unit="s")))
    assert [change.verdict for change in comparison.changes] == ["worse"]


def test_a_quick_run_is_compared_with_no_full_one() -> None:
    comparison = compare_sections(section(figure([1.0] * 3), quick=True), section(figure([9.0] * 3)))
    assert comparison.changes == ()
    assert comparison.remarks == ["growth: quick then, full now, so not compared"]


def test_without_a_saved_run_there_is_nothing_to_compare() -> None:
    assert compare_sections(None, section(figure([9.0] * 3))).remarks == ["growth: nothing saved to compare with"]
