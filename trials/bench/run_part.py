"""One part of a long run, a bench or a drill: announced, timed, and kept from taking the other parts with it when it fails.

Left out: what the part finds, which whoever runs it keeps as it comes, so that a failure loses nothing of it.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console

from sandbox.cli.client import CommandFailed


@dataclass
class Outcome:
    #: Why the part ended early, in words that can be published; None while it runs and after a good end.
    failed: str | None = None


@contextmanager
def part(name: str, title: str, console: Console) -> Iterator[Outcome]:
    """Around what the part does: whatever that raises is on the screen, and no exception any more."""
    outcome = Outcome()
    console.print(f"[bold]{name}[/]: {title}")
    started = time.monotonic()
    try:
        yield outcome
    except Exception as error:  # noqa: BLE001 - whatever it is, it is this part's alone
        said = str(error) if isinstance(error, CommandFailed) else traceback.format_exc()
        console.print(said, markup=False, highlight=False)
        # Results are published: what the message says, paths among it, stays on this screen.
        outcome.failed = f"{type(error).__name__}, said on the screen of the run"
    console.print(f"  {time.monotonic() - started:.0f} s", style="dim", highlight=False)
