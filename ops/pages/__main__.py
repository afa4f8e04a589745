"""`python -m ops pages`: writes every generated page; with `--check` only says which are out of date.

Exit status: 0 all pages are up to date (now, or before with `--check`), 1 one was out of date with `--check`, 2 a page cannot be generated.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from ops.pages import figures, policies, rooms, settings
from ops.pages.page import PageError

#: Every generated page; a file with several generated parts stands here once for each.
PAGES = (*figures.PAGES, *settings.PAGES, *policies.PAGES, *rooms.PAGES)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m ops pages", description="Write the generated pages.")
    parser.add_argument("--check", action="store_true", help="write nothing, and fail when a page is out of date")
    options = parser.parse_args(arguments)
    changed: list[str] = []
    for page in PAGES:
        try:
            present, wanted = page.texts()
        except PageError as error:
            print(f"{page.file}: {error}", file=sys.stderr)
            return 2
        if present != wanted:
            changed.append(page.file)
            if not options.check:
                page.path.write_text(wanted)
    for file in dict.fromkeys(changed):
        if options.check:
            print(f"{file} is out of date: run `make pages` (or `python -m ops pages`) and commit what it writes", file=sys.stderr)
        else:
            print(f"written: {file}")
    return int(options.check and bool(changed))


if __name__ == "__main__":
    sys.exit(main())
