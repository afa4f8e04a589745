"""When a bench says that something got worse: beyond the noise of both runs, and never on a single sample."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from tests.unit.trials.recorded import MACHINE, figure, section
from trials.comparison import FACTORS, LEAST, SAMPLES, compare, compare_sections
from trials.figures import Figure


def _verdict(saved: Figure, now: Figure) -> str:
    return compare(saved, now).verdict


def test_a_median_that_moved_by_more_than_both_noises_is_worse() -> None:
    # Noise 0.1 and 0.2.
    assert _verdict(figure([1.9, 2.0, 2.0, 2.0, 2.1]), figure([2.2, 2.31, 2.31, 2.4, 2.6])) == "worse"


@pytest.mark.parametrize(("then", "now"), [(2, 2), (2, 5), (5, 2), (3, 3), (3, 5), (4, 4)])
def test_with_few_samples_on_either_side_a_median_has_to_move_further(then: int, now: int) -> None:
    def spread(middle: float, samples: int) -> Figure:
        return figure([middle - 0.01, *[middle] * (samples - 2), middle + 0.01])

    margin = FACTORS[min(then, now)] * 0.02
    assert compare(spread(1.0, then), spread(1.0, now)).margin == pytest.approx(margin)
    assert _verdict(spread(1.0, then), spread(1.0 + max(0.9 * margin, LEAST / 2), now)) == "same"
    assert _verdict(spread(1.0, then), spread(1.0 + max(1.1 * margin, 1.1 * LEAST), now)) == "worse"


def test_a_change_below_the_least_share_is_the_same_however_quiet_it_was() -> None:
    saved = figure([2.0, 2.0, 2.0])
    assert _verdict(saved, figure([2.0 * (1 + 0.9 * LEAST)] * 3)) == "same"
    assert _verdict(saved, figure([2.0 * (1 + 1.1 * LEAST)] * 3)) == "worse"


def test_lower_is_better_unless_the_figure_says_otherwise() -> None:
    assert _verdict(figure([2.0] * 3), figure([1.0] * 3)) == "better"
    low, high = (figure([value] * 3, higher_is_better=True) for value in (1.0, 2.0))
    assert _verdict(high, low) == "worse"
    assert _verdict(low, high) == "better"


@pytest.mark.parametrize(("then", "now"), [(SAMPLES - 1, SAMPLES), (SAMPLES, SAMPLES - 1)])
def test_too_few_samples_on_either_side_are_not_judged(then: int, now: int) -> None:
    change = compare(figure([1.0] * then), figure([9.0] * now))
    assert change.verdict == "not judged"
    assert change.reason == f"1 of 2 samples {'then' if then < now else 'now'}"


def _share_of_worse(then: int, now: int, *, deviation: float, slower: float = 1.0, draws: int = 4000) -> float:
    """The share among comparisons of drawn runs: `then` and `now` samples, the later one of a program that takes `slower` times as long."""
    dice = random.Random(1)

    def run(samples: int, mean: float) -> Figure:
        return figure([dice.gauss(mean, deviation * mean) for _ in range(samples)])

    return sum(_verdict(run(then, 1.0), run(now, slower)) == "worse" for _ in range(draws)) / draws


@pytest.mark.parametrize(("then", "now"), [(2, 2), (2, 3), (3, 2), (2, 5), (5, 2), (3, 3), (3, 5), (4, 4), (5, 5)])
def test_an_unchanged_figure_is_called_worse_no_more_often_with_few_samples_than_with_five(then: int, now: int) -> None:
    # Noise so large that the least share of the value keeps nothing back; 1 in 200 and what 4,000 draws may be off by.
    assert _share_of_worse(then, now, deviation=0.2) <= 0.0085


@pytest.mark.parametrize(("samples", "deviation"), [(2, 0.01), (3, 0.03), (5, 0.05)])
def test_a_slowdown_of_30_percent_is_noticed_as_surely_as_the_docstring_says(samples: int, deviation: float) -> None:
    assert _share_of_worse(samples, samples, deviation=deviation, slower=1.3) >= 0.99


# --- whole sections


def test_figures_are_compared_by_name() -> None:
    saved = section(figure([1.0] * 3, name="a"), figure([2.0] * 3, name="gone"))
    now = section(figure([2.0] * 3, name="a"), figure([2.0] * 3, name="new"))
    comparison = compare_sections(saved, now)
    assert [(change.now.name, change.verdict) for change in comparison.changes] == [("a", "worse")]
    assert "growth: new, with nothing to compare: new" in comparison.remarks
    assert "growth: measured then, and not now: gone" in comparison.remarks


def test_another_machine_is_reported_and_neither_seconds_nor_megabytes_are_compared() -> None:
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


def test_a_quick_run_is_compared_with_no_full_one() -> None:
    comparison = compare_sections(section(figure([1.0] * 3), quick=True), section(figure([9.0] * 3)))
    assert comparison.changes == ()
    assert comparison.remarks == ["growth: quick then, full now, so not compared"]
