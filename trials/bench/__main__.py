"""`python -m trials bench`: every bench on a sandbox of its own, against the last saved run."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from ops.arguments import number
from sandbox.host.paths import PROJECT_DIR
from trials import record, report, runner
from trials.comparison import Comparison, compare_sections
from trials.figures import Options
from trials.record import RecordError, Section

#: Bench (a module of this package with a function `run`) -> what it measures.
BENCHES = {
    "up": "A whole `up`, from nothing to an answered chat, on the sandbox's clock",
    "preview": "`pulumi preview` with nothing to change",
    "growth": "Growth with the number of accelerator pools, environments and stacks",
    "footprint": "What a sandbox moves, holds and takes",
}

#: What is kept for the next run; quick results have their own file, since they are compared with quick ones alone.
KEPT = PROJECT_DIR / ".sandbox" / "bench"

_EPILOG = """Exit status: 0 every bench ran, every goal is reached and nothing got worse beyond the noise; 1 a bench failed, a goal is
missed or something got worse (with --quick only: a bench failed); 2 wrong arguments."""

_REPEATS = number(int, lambda value: 1 <= value <= 100, "a number of repeats", "a whole number from 1 to 100")


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    options = Options(repeats=arguments.repeats, quick=arguments.quick, cold=arguments.cold)
    save: Path = arguments.save or KEPT / ("quick.json" if options.quick else "last.json")
    try:
        # Read before anything is measured for an hour.
        saved = record.read(save) if save.exists() else []
        baseline = {section.name: section for section in (record.read(arguments.against) if arguments.against else saved)}
    except RecordError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    screen = runner.console()
    sections = runner.run("bench", BENCHES, arguments.names, options, screen)
    comparisons = {section.name: compare_sections(baseline.get(section.name), section) for section in sections}
    _show(sections, comparisons, screen)
    kept = record.merged(saved, [section for section in sections if section.failed is None])
    runner.write(save, record.as_json(kept), screen)
    runner.write(save.with_suffix(".md"), report.markdown(kept), screen)
    if arguments.json:
        runner.keep(arguments.json, sections, screen)
    return _status(sections, comparisons, quick=options.quick)


def _show(sections: Sequence[Section], comparisons: dict[str, Comparison], screen: Console) -> None:
    for section in sections:
        screen.print("", report.table(section, comparisons[section.name]), sep="\n")
        for remark in comparisons[section.name].remarks:
            screen.print(remark, style="dim", markup=False, soft_wrap=True)
    screen.print()
    for line in report.verdicts(sections, comparisons) or ["every goal reached; nothing moved beyond the noise"]:
        screen.print(line, markup=False, soft_wrap=True)


def _status(sections: Sequence[Section], comparisons: dict[str, Comparison], *, quick: bool) -> int:
    if any(section.failed for section in sections):
        return 1
    if quick:
        # One sample says whether a bench works, and little about the figure.
        return 0
    return int(any(section.missed for section in sections) or any(comparison.of("worse") for comparison in comparisons.values()))


def parser() -> argparse.ArgumentParser:
    found = runner.parser("bench", BENCHES, description=str(__doc__), epilog=_EPILOG)
    found.add_argument("--repeats", type=_REPEATS, default=5, metavar="N", help="how often each thing is measured (default 5)")
    found.add_argument("--quick", action="store_true", help="fewer and smaller measurements, to see whether the benches work")
    found.add_argument("--cold", action="store_true", help="in footprint: an `up` that builds every tool, a quarter of an hour and more")
    saved = "where results are kept for the next run, a page beside it as .md (default .sandbox/bench/last.json, or quick.json)"
    found.add_argument("--save", type=Path, metavar="FILE", help=saved)
    found.add_argument("--against", type=Path, metavar="FILE", help="the results to compare with (default: what --save held)")
    return found
