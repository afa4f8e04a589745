"""`pulumi preview` with nothing to change, against an empty Python program on the same engine.

Both stacks are in one sandbox: the same engine, language host, virtual environment, backend and encryption of secrets. They are
previewed in turn, and each pair gives a ratio, so that other load on the machine affects both. One more preview says which packages
Python spends its time on while it imports the program.

Left out: the time that the real provider plugins take to start and to answer; the stand-ins' processes run already. Also left out: where
the engine spends its time, which `pulumi preview --logtostderr -v=9` says.
"""

from __future__ import annotations

import re
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from sandbox.cli.client import Sandbox, fresh_sandbox, run_command
from sandbox.host.paths import PROJECT_DIR
from trials.figures import Figure, Findings, Options

GOAL = 1.6

_PREVIEW = ("pulumi", "preview", "--non-interactive", "--expect-no-changes")
_TIMEOUT = 300.0

#: Package of a module -> what the report calls it; everything else is Python and what these need.
_PACKAGES = {
    "pulumi_kubernetes": "pulumi_kubernetes",
    "pulumi_gcp": "pulumi_gcp",
    "pulumi_docker": "pulumi_docker",
    "pulumi": "pulumi",
    "components": "this program",
    "ops": "this program",
}
_IMPORT = re.compile(r"import time:\s+(\d+) \|\s+\d+ \|\s+([\w.]+)")


@dataclass(frozen=True, kw_only=True)
class Program:
    """A program with a stack that is up."""

    name: str
    folder: Path
    environment: Mapping[str, str]

    def seconds(self) -> float:
        """The time of a preview that finds nothing to change. Raises `CommandFailed`."""
        began = time.perf_counter()
        run_command([*_PREVIEW], self.environment, check=True, timeout=_TIMEOUT, cwd=self.folder)
        return time.perf_counter() - began

    def imports(self) -> list[str]:
        """Python's own report on what it loads in one preview."""
        environment = {**self.environment, "PYTHONPROFILEIMPORTTIME": "1"}
        return run_command([*_PREVIEW], environment, check=True, timeout=_TIMEOUT, cwd=self.folder).stdout.splitlines()


def run(options: Options) -> Iterator[Findings]:
    """Brings the dev stack up on a sandbox of its own, which takes about a minute, and takes it down."""
    with fresh_sandbox("bench-preview") as sandbox:
        sandbox.command("up")
        dev = Program(name="dev", folder=PROJECT_DIR, environment=_environment(sandbox))
        yield from compare(dev, empty_program(sandbox), 2 if options.quick else options.repeats)


def compare(program: Program, empty: Program, repeats: int) -> Iterator[Findings]:
    """The figure, and what Python imports."""
    # The first preview reads files that are not in the page cache yet.
    empty.seconds(), program.seconds()
    pairs = [(empty.seconds(), program.seconds()) for _ in range(repeats)]
    figure = Figure(
        name=f"preview of {program.name} with nothing to change, an empty program's being 1",
        samples=[mine / others for others, mine in pairs],
        unit="x",
        goal=GOAL,
    )
    yield Findings(figures=[figure])
    yield Findings(lines=describe_imports(program.name, program.imports()))


def empty_program(sandbox: Sandbox) -> Program:
    """A program that does nothing, beside the stack in the sandbox's backend, up once."""
    folder = sandbox.state / "empty"
    folder.mkdir()
    runtime = yaml.safe_load((PROJECT_DIR / "Pulumi.yaml").read_text())["runtime"]
    (folder / "Pulumi.yaml").write_text(yaml.safe_dump({"name": "empty", "runtime": runtime}))
    (folder / "__main__.py").write_text('"""Nothing."""\n')
    (folder / ".venv").symlink_to(sys.prefix)
    environment = {**_environment(sandbox), "PULUMI_STACK": "empty"}
    # The stack's settings lie beside this program.
    environment.pop("PULUMI_OPTION_CONFIG_FILE")
    for command in (
        ["stack", "init", "empty", "--secrets-provider", "passphrase", "--no-select"],
        ["up", "--yes", "--skip-preview", "--non-interactive"],
    ):
        run_command(["pulumi", *command], environment, check=True, timeout=_TIMEOUT, cwd=folder)
    return Program(name="an empty program", folder=folder, environment=environment)


def _environment(sandbox: Sandbox) -> dict[str, str]:
    """A shell's on the sandbox."""
    environment = sandbox.shell_environment()
    # Where it is set, as in many containers, Python translates this program's source anew on every run, and the packages' never.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    return environment


def describe_imports(name: str, output: Sequence[str]) -> list[str]:
    """The packages that the Python process imports, by the time of their own code; empty where Python reported nothing."""
    spent: Counter[str] = Counter()
    for line in output:
        if found := _IMPORT.search(line):
            spent[_PACKAGES.get(found[2].split(".")[0], "Python and what these need")] += int(found[1])
    if not spent:
        return []
    shares = ", ".join(f"{package} {part / spent.total():.0%}" for package, part in spent.most_common())
    return [f"Time that Python spends on imports for {name}: {shares}."]
