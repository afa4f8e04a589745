"""`python -m trials picture`: plays the fallback on a sandbox that runs, by the live page's own buttons, and keeps the picture for README.

Exit status: 0, or 2 where there is no browser or the page did not get there. The sandbox is left as it was deployed, with one replica.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from sandbox.cli.client import CommandFailed, Sandbox
from sandbox.host.paths import PROJECT_DIR, Paths
from trials.picture.browser import BrowserError
from trials.picture.live_page import live_page

PICTURE = PROJECT_DIR / "docs" / "live.webp"

_WIDTH = 1120
_PATIENCE = 120.0
_SOLD_OUT = ("v6e-1", "l4")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m trials picture", description="The picture of the live page in README.")
    parser.add_argument("--file", type=Path, default=PICTURE, help="where it goes (default docs/live.webp)")
    options = parser.parse_args(arguments)
    sandbox = Sandbox(Paths.from_environment(os.environ).state)
    try:
        with live_page(sandbox) as page:
            page.look(width=_WIDTH, height=900)
            page.wait("document.querySelectorAll('#rungs > li').length")
            for pool in _SOLD_OUT:
                page.value(f"act({{ action: 'stock', pool: '{pool}', supply: 'out' }})")
            page.value("act({ action: 'scale', replicas: 5 })")
            # One on the TPU and one on the warm GPU that are there, two on Spot GPUs, and none is left.
            page.wait("shown.replicas.serving === 4 && shown.waiting.length === 1 && shown.waiting[0].why", _PATIENCE)
            page.value("document.querySelector('#ask button').click()")
            page.wait("document.querySelector('.who')?.textContent")
            page.look(width=_WIDTH, height=page.value("document.documentElement.scrollHeight"))
            options.file.write_bytes(page.picture("webp"))
    except (BrowserError, CommandFailed) as error:
        print(f"picture: {error}", file=sys.stderr)
        return 2
    finally:
        for command in (*(("stock", pool, "in") for pool in _SOLD_OUT), ("scale", "1")):
            sandbox.command(*command, check=False)
    print(f"{options.file}: {options.file.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
