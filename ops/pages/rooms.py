"""The table of rooms in docs/develop.md: the first line of each Python folder's docstring."""

from __future__ import annotations

import ast

from components.settings.stack_files import PROJECT_DIR
from ops.pages.page import Page, PageError, between

#: Folders of Python code, in the page's order. Those below them are rooms of their own.
_HOUSES = ("components", "ops", "trials", "sandbox", "policies", "bootstrap")


def table(text: str) -> str:
    """docs/develop.md with a row for each folder of `_HOUSES` and each folder directly below one."""
    rows = ["| room | what belongs there |", "|---|---|"]
    for house in _HOUSES:
        files = [PROJECT_DIR / house / "__init__.py", *sorted((PROJECT_DIR / house).glob("*/__init__.py"))]
        for file in files:
            room = str(file.parent.relative_to(PROJECT_DIR))
            said = ast.get_docstring(ast.parse(file.read_text()))
            if not said:
                raise PageError(f"{room}/__init__.py: it has no docstring: say in one line what belongs there and what is left out")
            rows.append(f"| `{room}` | {said.splitlines()[0]} |")
    return between("rooms", text, "\n".join(rows))


PAGES = (Page("docs/develop.md", table),)
