"""`python -m trials bench`: every bench on a sandbox of its own, against the last saved run."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from sandbox.host.paths import PROJECT_DIR
from trials.bench import picture, report, results
from trials.bench.comparison import Comparison, compare_sections
from trials.bench.figures import Bench, Options
from trials.bench.machine import Machine, commit
from trials.bench.results import Measured, ResultsError, Section
from trials.bench.run_part import part

#: Bench (a module of this package with a function `run`) -> what it measures.
BENCHES = {
    "up": "A whole `up`, from nothing to an answered chat, on the sandbox's clock",
    "preview": "`pulumi preview` with nothing to change",
    "growth": "Growth with the number of accelerator pools, environments and stacks",
    "footprint": "What a sandbox moves, holds and takes",
}

#: Of what is kept for the next run; quick results apart, since they are compared with quick ones alone.
KEPT = PROJECT_DIR / ".sandbox" / "bench"

#: Of the screen where it is a file or a pipeline's log.
_LOG_WIDTH = 150

_EPILOG = """Exit status: 0 every bench ran, every goal is reached and nothing got worse beyond the noise; 1 a bench failed, a goal is
missed or something got worse (with --quick only: a bench failed); 2 wrong arguments."""


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    options = Options(repeats=arguments.repeats, quick=arguments.quick, cold=arguments.cold)
    save: Path = arguments.save or KEPT / ("quick.json" if options.quick else "last.json")
    try:
        saved, baseline = _earlier(save, arguments.against)
    except ResultsError as error:
        # Before anything is measured for an hour, only to be thrown away.
        print(f"bench: {error}", file=sys.stderr)
        return 2
    console = Console() if sys.stdout.isatty() else Console(width=_LOG_WIDTH)
    measured = Measured(
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=commit(),
        repeats=options.repeats,
        quick=options.quick,
        machine=Machine.here(),
    )
    sections = [_run(name, options, measured, console) for name in dict.fromkeys(arguments.benches or BENCHES)]
    comparisons = {section.bench: compare_sections(baseline.get(section.bench), section) for section in sections}
    _show(sections, comparisons, console)
    kept = results.merged(saved, sections)
    _write(save, results.as_json(kept), console)
    _write(save.with_suffix(".md"), report.markdown(kept), console)
    _write(save.with_suffix(".svg"), picture.svg(kept), console)
    if arguments.json:
        _write(arguments.json, results.as_json(sections), console)
    return _status(sections, comparisons, quick=options.quick)


def _earlier(save: Path, against: Path | None) -> tuple[list[Section], dict[str, Section]]:
    """What the file of results holds already, and what to compare with by bench. Raises `ResultsError`."""
    saved: list[Section] = []
    if save.exists():
        saved = results.read(save)
    try:
        baseline = results.read(against) if against else saved
    except OSError as error:
        raise ResultsError(f"--against {against}: cannot be read ({error.strerror}); name a file that --save or --json wrote") from error
    return saved, {section.bench: section for section in baseline}


def _run(name: str, options: Options, measured: Measured, console: Console) -> Section:
    """One bench to its end, or as far as it comes: what it found before it failed stays, and the other benches go on."""
    section = Section(bench=name, title=BENCHES[name], measured=measured)
    with part(name, BENCHES[name], console) as outcome:
        bench: Bench = importlib.import_module(f"bench.{name}").run
        for findings in bench(options):
            section = section.with_findings(findings)
            for figure in findings.figures:
                console.print(f"  {figure.name}: {report.amount(figure.value, figure.unit)}", highlight=False, markup=False)
            for line in findings.lines:
                console.print(f"  {line}", style="dim", highlight=False, markup=False)
    return replace(section, failed=outcome.failed)


def _show(sections: Sequence[Section], comparisons: dict[str, Comparison], console: Console) -> None:
    for section in sections:
        console.print()
        console.print(report.table(section, comparisons[section.bench]))
        for remark in comparisons[section.bench].remarks:
            console.print(remark, style="dim", highlight=False, markup=False, soft_wrap=True)
    console.print()
    for line in report.verdicts(sections, comparisons) or ["every goal reached; nothing moved beyond the noise"]:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _write(path: Path, text: str, console: Console) -> None:
    try:
        results.write(path, text)
    except OSError as error:
        # The results are on the screen, and the next file may be writable.
        console.print(f"bench: {path}: cannot be written ({error.strerror})", style="red", markup=False, highlight=False)
    else:
        console.print(f"kept: {path}", style="dim", highlight=False, markup=False, soft_wrap=True)


def _status(sections: Sequence[Section], comparisons: dict[str, Comparison], *, quick: bool) -> int:
    if any(section.failed for section in sections):
        return 1
    if quick:
        # One sample says whether a bench works, and little of the figure.
        return 0
    return int(any(section.missed for section in sections) or any(comparison.of("worse") for comparison in comparisons.values()))


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(prog="python -m trials bench", description=__doc__, epilog=_EPILOG)
    found.add_argument("benches", nargs="*", metavar="BENCH", type=_bench, help=f"of {', '.join(BENCHES)}; all without one")
    found.add_argument("--repeats", type=_repeats, default=5, metavar="N", help="how often each thing is measured (default 5)")
    found.add_argument("--quick", action="store_true", help="fewer and smaller measurements, to see whether the benches work")
    found.add_argument(
        "--cold",
        action="store_true",
        help="in footprint: an `up` that builds every tool, a quarter of an hour and more",
    )
    found.add_argument(
        "--save",
        type=Path,
        metavar="FILE",
        help="where results are kept for the next run, .md and .svg beside it (default .sandbox/bench/last.json, or quick.json)",
    )
    found.add_argument("--against", type=Path, metavar="FILE", help="the results to compare with (default: what --save held)")
    found.add_argument("--json", type=Path, metavar="FILE", help="write this run's results there, too")
    return found


def _bench(text: str) -> str:
    if text not in BENCHES:
        raise argparse.ArgumentTypeError(f"{text!r} is none; known are {', '.join(BENCHES)}")
    return text


def _repeats(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of repeats: give a whole number from 1 to 100")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
