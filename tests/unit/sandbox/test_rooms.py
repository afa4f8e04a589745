"""Rooms of the sandbox import each other in one direction, so it is clear which others a change can affect."""

from __future__ import annotations

import ast
import graphlib
from pathlib import Path

import pytest

SANDBOX = Path(__file__).resolve().parents[3] / "sandbox"


def _imported(file: Path) -> set[str]:
    """The rooms that a file imports anywhere, inside functions and for type checking included."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{each.name}" for each in node.names}
        elif isinstance(node, ast.Import):
            names |= {each.name for each in node.names}
    return {name.split(".")[1] for name in names if name.startswith("sandbox.")}


def test_no_room_imports_another_that_imports_it() -> None:
    rooms: dict[str, set[str]] = {}
    for file in SANDBOX.rglob("*.py"):
        room = file.relative_to(SANDBOX).parts[0].removesuffix(".py")
        rooms.setdefault(room, set()).update(_imported(file) - {room})
    try:
        graphlib.TopologicalSorter(rooms).prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"rooms of the sandbox import each other in a circle: {' <- '.join(error.args[1])}")
    assert rooms["host"] == set()
