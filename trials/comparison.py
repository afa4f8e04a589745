"""This run against a saved one: what got slower, or more, beyond the noise that both measured.

The rule, for two figures of one name and unit, of the same bench measured at the same size:

- The value is the median of the samples, the noise half of their spread (the largest less the smallest).
- The margin is both noises together, times `FACTORS` of the smaller number of samples: the spread of few samples is often far less than
  that of many.
- Worse: the value moved to the worse side by more than the margin, and by more than `LEAST` of the saved value.
- Better: the same to the better side. Else the same.
- Not judged with fewer than `SAMPLES` samples on either side: such a figure knows no noise.
- Another machine (processor, cores, memory, system): seconds and megabytes are not compared, ratios and counts are.

Where nothing changed and the noise is a normal distribution's, a figure is called worse about once in 200 comparisons, of however few
samples (`tests/unit/trials/test_comparison.py` draws them). Few samples pay with what they do not notice: a slowdown of 30 % is seen in 99
of 100 comparisons up to a standard deviation of 1 % with two samples, of 3 % with three, of 5 % with five. Left out: a count that wavers
between two values, which is not normally distributed; two equal samples of it have no spread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from trials.figures import Figure
from trials.record import Section

#: A share of the saved value: a smaller change is not reported, however quiet the machine.
LEAST = 0.05

#: A single one has no spread.
SAMPLES = 2

#: Number of samples -> what both noises are multiplied by; 1 from five samples on. Such that unchanged figures of as many samples on both
#: sides are called worse as rarely as with five: of 400,000 normal draws once in 200 to 220.
FACTORS = {2: 8.0, 3: 2.2, 4: 1.3}

#: Units that are the machine's as much as the program's.
OF_THE_MACHINE = ("s", "MB")

Verdict = Literal["worse", "better", "same", "not judged"]


@dataclass(frozen=True, kw_only=True)
class Change:
    """A figure then and now."""

    saved: Figure
    now: Figure
    verdict: Verdict
    #: Why it is not judged.
    reason: str = ""

    @property
    def margin(self) -> float:
        """What noise alone moves a figure by."""
        samples = min(len(self.saved.samples), len(self.now.samples))
        return FACTORS.get(samples, 1.0) * (self.saved.noise + self.now.noise)


def compare(saved: Figure, now: Figure, *, same_machine: bool = True) -> Change:
    """Two figures of one name."""
    if saved.unit != now.unit:
        return Change(saved=saved, now=now, verdict="not judged", reason=f"in {saved.unit} then, in {now.unit} now")
    if not same_machine and now.unit in OF_THE_MACHINE:
        return Change(saved=saved, now=now, verdict="not judged", reason="another machine")
    for figure, when in ((saved, "then"), (now, "now")):
        if len(figure.samples) < SAMPLES:
            reason = f"{len(figure.samples)} of {SAMPLES} samples {when}"
            return Change(saved=saved, now=now, verdict="not judged", reason=reason)
    same = Change(saved=saved, now=now, verdict="same")
    moved = now.value - saved.value
    if abs(moved) <= max(same.margin, LEAST * abs(saved.value)):
        return same
    return replace(same, verdict="better" if (moved > 0) == now.higher_is_better else "worse")


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One bench then and now."""

    changes: Sequence[Change] = ()
    #: What keeps figures from being compared, and what is only on one side.
    remarks: Sequence[str] = ()

    def of(self, verdict: Verdict) -> list[Change]:
        return [change for change in self.changes if change.verdict == verdict]

    def change_of(self, name: str) -> Change | None:
        return next((change for change in self.changes if change.now.name == name), None)


def compare_sections(saved: Section | None, now: Section) -> Comparison:
    """`saved`: what there is of the bench from an earlier run, None for nothing."""
    if saved is None:
        return Comparison(remarks=[f"{now.name}: nothing saved to compare with"])
    if saved.run.options["quick"] != now.run.options["quick"]:
        then, today = ("quick" if each.run.options["quick"] else "full" for each in (saved, now))
        return Comparison(remarks=[f"{now.name}: {then} then, {today} now, so not compared"])
    remarks = []
    differences = now.run.machine.differences(saved.run.machine)
    if differences:
        remarks.append(f"{now.name}: measured on another machine ({'; '.join(differences)}): no seconds or megabytes are compared")
    before = {figure.name: figure for figure in saved.figures}
    changes = [compare(before[figure.name], figure, same_machine=not differences) for figure in now.figures if figure.name in before]
    names = {figure.name for figure in now.figures}
    remarks += [f"{now.name}: new, with nothing to compare: {each.name}" for each in now.figures if each.name not in before]
    if now.failed is None:
        remarks += [f"{now.name}: measured then, and not now: {name}" for name in before if name not in names]
    return Comparison(changes=changes, remarks=remarks)
