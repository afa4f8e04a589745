"""`python -m trials drills`: every drill on a sandbox of its own; exit status 1 when more was lost than has to be."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from sandbox.cli.arguments import share
from sandbox.servers.model_server import NAMES, STAND_IN, VLLM
from trials import report, runner
from trials.record import RecordError
from trials.results import Options

#: Drill (a module of this package with a function `run`) -> what it counts.
DRILLS = {
    "settings": "Random settings files: refused before a resource is touched, or deployed and unchanged at the second look",
    "stock": "Pools out of stock, at creation and while serving: runs after which the service was up on what is left",
    "fallback": "A TPU request that is neither filled nor refused: replicas that the next pool served in the time that is promised",
    "kills": "The engine killed at random moments: runs that the next one brought to its end, nothing twice, nothing left behind",
    "answers": "Faulty answers of the cloud's and the cluster's API: updates that came to their end",
    "load": "Events under load: requests",
    "door": "Planned events, through a gateway and a plain Service at once, with and without retries: requests",
    "door_faults": "The same while nodes vanish and servers die and hang: requests",
    "machine": "The sandbox's own machine: faults that ended with a clear message and no orphan process",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 nothing was lost that could be kept, 1 more was lost or a drill failed, 2 wrong arguments."""
    arguments = parser().parse_args(argv)
    if arguments.server == VLLM and arguments.names != ["load"]:
        print("drills: --server vllm: only the drill load runs on real vLLM. Fix: name load alone", file=sys.stderr)
        return 2
    screen = runner.console()
    options = Options(share=arguments.share, seed=arguments.seed, server=arguments.server)
    sections = runner.run("drills", DRILLS, arguments.names, options, screen)
    for section in sections:
        screen.print("", report.table(section), sep="\n")
    try:
        if arguments.json:
            runner.keep(arguments.json, sections, screen)
    except RecordError as error:
        print(f"drills: {error}", file=sys.stderr)
        return 2
    return int(any(section.failed or any(result.bad for result in section.results) for section in sections))


def parser() -> argparse.ArgumentParser:
    epilog = "Exit status: 0 nothing was lost that could be kept, 1 more was lost or a drill failed, 2 wrong arguments."
    found = runner.parser("drills", DRILLS, description=str(__doc__), epilog=epilog)
    found.add_argument("--share", type=share, default=1.0, help="how much of each drill, above 0 up to 1 (default 1)")
    found.add_argument("--seed", type=int, default=0, help="the seed of every random choice (default 0)")
    found.add_argument(
        "--server", choices=NAMES, default=STAND_IN, help="what the pods run; vllm: real vLLM, for the planned events of load"
    )
    return found
