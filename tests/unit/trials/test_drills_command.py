"""`python -m trials drills`: one failing drill loses neither what it found nor the other drills, and is no secret."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.cli.client import CommandFailed
from trials.drills import __main__ as command
from trials.drills import results
from trials.drills.results import Options, Result


@pytest.mark.parametrize("error", [CommandFailed("pulumi up ended with 255 in /a/folder"), ValueError("a defect")])
def test_a_drill_that_fails_loses_neither_what_it_found_nor_the_other_drills(
    error: Exception, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(options: Options) -> Iterator[Result]:
        yield Result(event="before", tried=1, survived=1, recovery="by itself")
        raise error

    def goes_on(options: Options) -> Iterator[Result]:
        yield Result(event="after", tried=1, survived=1, recovery="by itself")

    monkeypatch.setattr(command, "DRILLS", {"one": "what one counts", "two": "what two counts"})
    for name, run in {"one": fails, "two": goes_on}.items():
        module = types.ModuleType(f"drills.{name}")
        module.run = run  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, f"drills.{name}", module)
    file = tmp_path / "drills.json"
    assert command.main(["--json", str(file)]) == 1
    assert str(error) in capsys.readouterr().out
    one, two = results.read(file)
    assert [(each.event, each.survived) for each in one.results] == [("before", 1), ("the drill itself", 0)]
    assert one.results[1].recovery == f"it ended early: {type(error).__name__}, said on the screen of the run"
    assert [each.event for each in two.results] == ["after"]
    # Results are published, and messages may name folders.
    assert "/a/folder" not in file.read_text()
