"""`pulumi preview` with nothing to change, against an empty Python program on the same engine.

Both stacks are in one sandbox: the same engine, language host, virtual environment, backend and encryption of secrets. They are
previewed in turn, and each pair gives a ratio, so that what else the machine does at the time strikes both. Where the time goes is read
from one more preview of each, whose engine tells what it does; telling takes time of its own, so its parts are shares and no seconds.

Left out: what the real provider plugins take to start and to answer, which the stand-ins' processes do not (they run already).
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import yaml

from sandbox.cli.client import Sandbox, fresh_sandbox, run_command
from sandbox.host.paths import PROJECT_DIR
from trials.bench.figures import Figure, Findings, Options

GOAL = 2.0

_PREVIEW = ("pulumi", "preview", "--non-interactive", "--expect-no-changes")
_TIMEOUT = 300.0

#: What the engine's log says first of each part, in order; a part ends where the next begins.
_PARTS = (
    ("engine: settings, the secrets' key, git", ""),
    ("language host: the list of installed packages", "langhost[python].GetRequiredPlugins("),
    ("Python's start, with Pulumi's own SDK", "langhost[python].Run("),
    ("the program: imports, settings, components", "ResourceMonitor.SupportsFeature("),
    ("registrations: SDK, engine and providers in turn", "Waiting for outstanding RPCs"),
    ("Python's end", "run_pulumi_func completed"),
)
_LAST = re.compile(r"langhost\[python\]\.Run\(.*\) success", re.DOTALL)

_PROVIDER_CALL = re.compile(r"(Provider\[\w+\]\.\w+\(.*?\)):? (executing|success)", re.DOTALL)

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
        """Of a preview that finds nothing to change. Raises `CommandFailed`."""
        began = time.perf_counter()
        run_command([*_PREVIEW], self.environment, check=True, timeout=_TIMEOUT, cwd=self.folder)
        return time.perf_counter() - began

    def log(self) -> list[str]:
        """What the engine says of itself in one preview."""
        command = [*_PREVIEW, "--logtostderr", "-v=9"]
        return run_command(command, self.environment, check=True, timeout=_TIMEOUT, cwd=self.folder).stderr.splitlines()

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
    """The figure, and where the time goes."""
    # The first finds files that nobody has read yet.
    empty.seconds(), program.seconds()
    pairs = [(empty.seconds(), program.seconds()) for _ in range(repeats)]
    figure = Figure(
        name=f"preview of {program.name} with nothing to change, an empty program's being 1",
        samples=[mine / others for others, mine in pairs],
        unit="x",
        goal=GOAL,
    )
    yield Findings(figures=[figure])
    own, others = parts(program.log()), parts(empty.log())
    yield Findings(lines=[*describe(program.name, own, others), *describe_imports(program.name, program.imports())])


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


def parts(log: Iterable[str]) -> dict[str, float]:
    """Seconds of each part of a preview, and of the providers' answers within the registrations.

    Raises `ValueError` where the log has not what another engine's may call differently.
    """
    begins: dict[str, float] = {}
    calls: dict[str, float] = {}
    providers = moment = 0.0
    for moment, message in _entries(log):
        part, marker = _PARTS[min(len(begins), len(_PARTS) - 1)]
        if part not in begins and marker in message:
            begins[part] = moment
        if len(begins) == len(_PARTS) and _LAST.search(message):
            break
        if call := _PROVIDER_CALL.match(message):
            if call[2] == "executing":
                calls[call[1]] = moment
            else:
                providers += moment - calls.pop(call[1], moment)
    if len(begins) < len(_PARTS):
        raise ValueError(f"the engine's log says nothing of {_PARTS[len(begins)][0]!r}")
    moments = [*begins.values(), moment]
    found = {part: end - begin for part, begin, end in zip(begins, moments, moments[1:], strict=False)}
    return {**found, _PROVIDERS: providers}


#: In `parts`, of the registrations.
_PROVIDERS = "providers' answers"


def describe(name: str, own: Mapping[str, float], others: Mapping[str, float]) -> list[str]:
    """Each part as a share of the whole, beside the same part of an empty program."""
    whole = sum(seconds for part, seconds in own.items() if part != _PROVIDERS)
    lines = [f"Where a preview of {name} spends its time (in brackets an empty program in the same unit):"]
    for part, seconds in own.items():
        label = f"of these, the {part}" if part == _PROVIDERS else part
        lines.append(f"  {seconds / whole:4.0%} ({others[part] / whole:.0%})  {label}")
    return lines


def describe_imports(name: str, output: Sequence[str]) -> list[str]:
    """Whose modules the Python process loads, by the time of their own code; empty where Python said nothing."""
    spent: Counter[str] = Counter()
    for line in output:
        if found := _IMPORT.search(line):
            spent[_PACKAGES.get(found[2].split(".")[0], "Python and what these need")] += int(found[1])
    if not spent:
        return []
    shares = ", ".join(f"{package} {part / spent.total():.0%}" for package, part in spent.most_common())
    return [f"Of what Python loads for {name}: {shares}."]


def _entries(log: Iterable[str]) -> Iterator[tuple[float, str]]:
    """Seconds and text of the lines that are entries of the engine's log."""
    for line in log:
        if not line.startswith('{"time":'):
            continue
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        # Nanoseconds without their last zeros, of which fromisoformat takes none, three or six digits.
        seconds, _, fraction = str(entry["time"]).rstrip("Z").partition(".")
        yield datetime.fromisoformat(f"{seconds}+00:00").timestamp() + float(f"0.{fraction or 0}"), str(entry["msg"])
