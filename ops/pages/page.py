"""A file that is generated, wholly or between two markers. Left out: what is written into it."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from components.settings.stack_files import PROJECT_DIR


class PageError(Exception):
    """A page cannot be generated; the message names the file, the reason and the fix."""


@dataclass(frozen=True)
class Page:
    """`make` turns the file's present text (empty where there is no file) into the text that it should have."""

    file: str
    make: Callable[[str], str]

    @property
    def path(self) -> Path:
        return PROJECT_DIR / self.file

    def texts(self) -> tuple[str, str]:
        """What the file holds, and what it should hold."""
        present = self.path.read_text() if self.path.exists() else ""
        return present, self.make(present)


def between(name: str, text: str, made: str) -> str:
    """`text` with `made` between the markers of this name, each on a line of its own and indented as `made` is to be."""
    begin, end = f"<!-- generated: {name} -->\n", f"<!-- end: {name} -->\n"
    before, found_begin, rest = text.partition(begin)
    _, found_end, after = rest.partition(end)
    if not (found_begin and found_end):
        raise PageError(
            f"{name}: the page has no line `{begin.strip()}` with a line `{end.strip()}` below it: put both where the part belongs"
        )
    indent = before[before.rfind("\n") + 1 :]
    return f"{before}{begin}{textwrap.indent(made.strip(), indent)}\n{indent}{end}{after}"
