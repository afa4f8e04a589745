"""The drill `door_faults`: as `door`, while a node vanishes and servers die and hang. Left out: how, which `door` says."""

from __future__ import annotations

from collections.abc import Iterator

from trials.drills.door import UNANNOUNCED, drill
from trials.results import Options, Result


def run(options: Options) -> Iterator[Result]:
    yield from drill(options, UNANNOUNCED)
