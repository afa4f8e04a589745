"""`python -m trials drills`: every drill on a sandbox of its own; exit status 1 when more was lost than has to be."""

from __future__ import annotations

import argparse
import importlib
import sys
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from trials.bench.machine import Machine, commit
from trials.bench.run_part import part
from trials.drills import results
from trials.drills.results import Drill, Found, Options, Result, Section

#: Drill (a module of this package with a function `run`) -> what it counts.
DRILLS = {
    "settings": "Random settings files: refused before a resource is touched, or deployed and unchanged at the second look",
    "stock": "Pools out of stock, at creation and while serving: runs after which the service was up on what is left",
    "kills": "The engine killed at random moments: runs that the next one brought to its end, nothing twice, nothing left behind",
    "answers": "Faulty answers of the cloud's and the cluster's API: updates that came to their end",
    "load": "Events under load: requests",
    "machine": "The sandbox's own machine: faults that ended with a clear word and no orphan process",
}


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 all survived that can, 1 more was lost than has to be, 2 wrong arguments."""
    parser = argparse.ArgumentParser(prog="python -m trials drills", description=__doc__)
    parser.add_argument("drills", nargs="*", metavar="DRILL", help=f"of {', '.join(DRILLS)}; all without one")
    parser.add_argument("--share", type=_share, default=1.0, help="how much of each drill, above 0 up to 1 (default 1)")
    parser.add_argument("--seed", type=int, default=0, help="of every random choice (default 0)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there, too; what it has of other drills stays")
    arguments = parser.parse_args(argv)
    for name in arguments.drills:
        if name not in DRILLS:
            parser.error(f"DRILL: {name!r} is none; known are {', '.join(DRILLS)}")
    options = Options(share=arguments.share, seed=arguments.seed)
    console = Console()
    sections = [_run(name, options, console) for name in dict.fromkeys(arguments.drills or DRILLS)]
    for section in sections:
        console.print()
        console.print(section.table())
    if arguments.json:
        results.write(arguments.json, sections)
    return int(any(result.bad for section in sections for result in section.results))


def _run(name: str, options: Options, console: Console) -> Section:
    """One drill to its end, or as far as it comes: what it found before it failed stays, and the other drills go on."""
    found = Found(
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=commit(),
        share=options.share,
        seed=options.seed,
        machine=Machine.here(),
    )
    so_far: list[Result] = []
    with part(name, DRILLS[name], console) as outcome:
        drill: Drill = importlib.import_module(f"drills.{name}").run
        for result in drill(options):
            so_far.append(result)
            line = f"  {result.event}: {result.survived} of {result.tried}; {result.recovery}"
            console.print(line, highlight=False, markup=False)
    if outcome.failed:
        so_far.append(Result(event="the drill itself", tried=1, survived=0, recovery=f"it ended early: {outcome.failed}"))
    return Section(name=name, title=DRILLS[name], results=so_far, found=found)


def _share(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text}: above 0 and up to 1")
    return value


if __name__ == "__main__":
    sys.exit(main())
