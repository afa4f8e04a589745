"""Rooms import each other in one direction, so it is clear which others a change can affect."""

import ast
import graphlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


def _imported(file: Path) -> set[str]:
    """What a file imports anywhere, inside functions and for type checking included."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{each.name}" for each in node.names}
        elif isinstance(node, ast.Import):
            names |= {each.name for each in node.names}
    return names


def _rooms(folder: str) -> dict[str, set[str]]:
    rooms: dict[str, set[str]] = {}
    for file in (ROOT / folder).rglob("*.py"):
        room = file.relative_to(ROOT / folder).parts[0].removesuffix(".py")
        imported = {name.split(".")[1] for name in _imported(file) if name.startswith(f"{folder}.")}
        rooms.setdefault(room, set()).update(imported - {room})
    return rooms


@pytest.mark.parametrize("folder", ["components", "ops", "sandbox", "trials"])
def test_no_room_imports_another_that_imports_it(folder: str) -> None:
    try:
        graphlib.TopologicalSorter(_rooms(folder)).prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"rooms of {folder} import each other in a circle: {' <- '.join(error.args[1])}")


def test_host_is_below_all_rooms_of_the_sandbox() -> None:
    assert _rooms("sandbox")["host"] == set()
