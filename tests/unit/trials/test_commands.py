"""`python -m trials bench` and `drills`: arguments, exit status, what they keep; one that fails loses no results of the others."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox.cli.client import CommandFailed
from sandbox.host.paths import PROJECT_DIR
from tests.unit.trials.recorded import figure
from trials import record
from trials.bench import __main__ as command
from trials.drills import __main__ as drills
from trials.figures import Figure, Findings, Options
from trials.results import Result

Run = Callable[[Any], Iterator[Any]]


@pytest.fixture
def put(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Puts functions in place of the real benches and drills, and keeps results in a folder of the test's own."""
    monkeypatch.setattr(command, "KEPT", tmp_path / "kept")

    def put(package: str, **runs: Run) -> None:
        monkeypatch.setattr(
            command if package == "bench" else drills, "BENCHES" if package == "bench" else "DRILLS", dict.fromkeys(runs, "")
        )
        for name, run in runs.items():
            module = types.ModuleType(f"trials.{package}.{name}")
            module.run = run  # type: ignore[attr-defined]
            monkeypatch.setitem(sys.modules, module.__name__, module)

    return put


@pytest.fixture
def benches(put: Callable[..., None]) -> Callable[..., None]:
    return lambda **runs: put("bench", **runs)


def _measures(*figures: Figure) -> Run:
    return lambda _: iter([Findings(figures=figures)])


def _fails(error: Exception, *found: Any) -> Run:
    def run(_: object) -> Iterator[Any]:
        yield from found
        raise error

    return run


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nope"], "'nope' is not known; use one of up, preview, growth, footprint"),
        (["--repeats", "0"], "'0' is not a number of repeats: give a whole number from 1 to 100"),
        (["--repeats", "many"], "'many' is not a number of repeats"),
        (["--frobnicate"], "unrecognized arguments: --frobnicate"),
    ],
)
def test_wrong_arguments_are_refused_with_what_is_right(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(arguments)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_a_missing_file_to_compare_with_is_refused_before_anything_is_measured(
    benches: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    benches(one=_fails(AssertionError("measured")))
    assert command.main(["--against", str(tmp_path / "none.json")]) == 2
    assert "cannot be read (No such file or directory). Fix: name a file" in capsys.readouterr().err


def test_results_are_kept_as_json_and_page_and_the_run_s_own_where_asked(benches: Callable[..., None], tmp_path: Path) -> None:
    benches(one=_measures(figure([1.0, 1.1, 1.2], name="a", goal=2.0)), two=_measures(figure([1.0] * 3, name="b")))
    assert command.main([]) == 0
    assert command.main(["two", "--json", str(tmp_path / "run.json")]) == 0
    kept = tmp_path / "kept"
    assert sorted(each.name for each in kept.iterdir()) == ["last.json", "last.md"]
    assert _figures(kept / "last.json") == {"one": ["a"], "two": ["b"]}
    assert _figures(tmp_path / "run.json") == {"two": ["b"]}


def test_a_worse_figure_is_reported_and_exits_with_1(benches: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    benches(one=_measures(figure([1.0, 1.1, 1.1, 1.1, 1.2], name="a"), figure([3.0] * 5, name="b")))
    assert command.main([]) == 0
    assert "nothing moved beyond the noise" in capsys.readouterr().out
    benches(one=_measures(figure([2.0, 2.1, 2.1, 2.1, 2.2], name="a"), figure([2.0] * 5, name="b")))
    assert command.main([]) == 1
    said = capsys.readouterr().out
    assert "worse: a: 2.10x, was 1.10x (noise may move it by 0.20x)" in said
    assert "better: b: 2.00x, was 3.00x (noise may move it by 0.00x)" in said


def test_a_run_is_compared_with_the_file_that_against_names(
    benches: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    benches(one=_measures(figure([1.0] * 3, name="a")))
    assert command.main(["--save", str(tmp_path / "release.json")]) == 0
    benches(one=_measures(figure([2.0] * 3, name="a")))
    assert command.main([]) == 0
    assert command.main(["--against", str(tmp_path / "release.json")]) == 1
    assert "worse: a: 2.00x, was 1.00x" in capsys.readouterr().out


@pytest.mark.parametrize("error", [CommandFailed("pulumi up ended with 255 in /a/folder"), ValueError("a defect")])
def test_a_bench_that_fails_loses_neither_what_it_found_nor_the_other_benches(
    benches: Callable[..., None], tmp_path: Path, error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    benches(one=_fails(error, Findings(figures=[figure([1.0] * 3, name="before")])), two=_measures(figure([1.0] * 3, name="b")))
    assert command.main(["--json", str(tmp_path / "run.json")]) == 1
    said = capsys.readouterr().out
    assert str(error) in said
    assert f"failed: one: {type(error).__name__}" in said
    assert _figures(tmp_path / "run.json") == {"one": ["before"], "two": ["b"]}
    # Results are published, and messages may name folders.
    assert "/a/folder" not in (tmp_path / "run.json").read_text()
    # Half a bench is nothing to compare the next run with.
    assert _figures(tmp_path / "kept" / "last.json") == {"two": ["b"]}


def test_a_quick_run_judges_nothing_and_is_kept_apart(benches: Callable[..., None], tmp_path: Path) -> None:
    benches(one=_measures(figure([3.0], name="a", goal=2.0)))
    assert command.main(["--quick"]) == 0
    assert (tmp_path / "kept" / "quick.json").exists()
    assert not (tmp_path / "kept" / "last.json").exists()
    benches(one=_fails(ValueError("a defect")))
    assert command.main(["--quick"]) == 1


def test_options_reach_the_benches(benches: Callable[..., None]) -> None:
    seen = []

    def run(options: Options) -> Iterator[Findings]:
        seen.append(options)
        yield Findings()

    benches(one=run)
    command.main([])
    command.main(["--repeats", "7", "--quick", "--cold"])
    assert seen == [Options(repeats=5, quick=False, cold=False), Options(repeats=7, quick=True, cold=True)]


def test_a_drill_that_fails_loses_neither_what_it_found_nor_the_other_drills(
    put: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = Result(event="before", tried=1, survived=1, recovery="by itself")
    put("drills", one=_fails(CommandFailed("pulumi up ended with 255 in /a/folder"), found), two=lambda _: iter([found]))
    file = tmp_path / "drills.json"
    assert drills.main(["--json", str(file)]) == 1
    assert "/a/folder" in capsys.readouterr().out
    one, two = record.read(file)
    assert ([one.results, one.failed], [two.results, two.failed]) == (
        [[found], "CommandFailed, see the output of that run"],
        [[found], None],
    )
    assert "/a/folder" not in file.read_text()


@pytest.mark.parametrize(("bound", "status"), [(1, 0), (0, 1)])
def test_a_loss_within_its_bound_does_not_fail_the_drills(put: Callable[..., None], bound: int, status: int) -> None:
    put("drills", one=lambda _: iter([Result(event="hang", tried=3, survived=2, bound=bound, recovery="restarted")]))
    assert drills.main([]) == status


def test_only_the_drill_load_runs_on_real_vllm(put: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[str] = []

    def run(options: Any) -> Iterator[Any]:
        seen.append(options.server)
        yield from ()

    put("drills", load=run, stock=_fails(AssertionError("ran")))
    assert [drills.main([*names, "--server", "vllm"]) for names in ([], ["stock"], ["load", "stock"])] == [2, 2, 2]
    assert "only the drill load runs on real vLLM. Fix: name load alone" in capsys.readouterr().err
    assert drills.main(["load", "--server", "vllm"]) == 0
    assert seen == ["vllm"]


def test_every_bench_and_every_drill_is_a_module() -> None:
    folder = Path(command.__file__).parents[1]
    files = [*(folder / "bench" / f"{name}.py" for name in command.BENCHES), *(folder / "drills" / f"{name}.py" for name in drills.DRILLS)]
    assert [file for file in files if not file.exists()] == []


def test_the_page_of_figures_has_every_bench_every_drill_and_every_argument() -> None:
    page = (PROJECT_DIR / "docs" / "figures.md").read_text()
    assert [name for name in (*command.BENCHES, *drills.DRILLS) if f"| `{name}` |" not in page] == []
    parsers = (command.parser(), drills.parser())
    arguments = {option for each in parsers for action in each._actions for option in action.option_strings if option.startswith("--")}
    assert [each for each in sorted(arguments - {"--help"}) if f"`{each}" not in page] == []


def _figures(file: Path) -> dict[str, list[str]]:
    return {each.name: [one.name for one in each.figures] for each in record.read(file)}
