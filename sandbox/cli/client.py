"""A sandbox for use by another program: the commands that a person runs, in a state folder of its own.

For tests, drills and benchmarks. It starts nothing by itself: `command("up")` does.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from components.settings.stack_files import PROJECT_NAME
from sandbox.cli.errors import explain
from sandbox.cli.lifecycle import SandboxError, marked_processes, require_running
from sandbox.cli.stack import SandboxStack
from sandbox.cli.status import status_document
from sandbox.host.doors import use_doors
from sandbox.host.paths import PROJECT_DIR, Paths
from sandbox.host.state_files import StateError


class CommandFailed(Exception):
    """A command failed; the message is its command line and everything that it printed."""


@dataclass(frozen=True)
class Sandbox:
    """Runs commands on the sandbox with this state folder. `variables` extend this process's environment."""

    state: Path
    variables: Mapping[str, str] = field(default_factory=dict)

    def command(self, *arguments: str, check: bool = True, timeout: float = 1800) -> subprocess.CompletedProcess[str]:
        """`python -m sandbox ...`. Raises `CommandFailed`."""
        return run_command([sys.executable, "-m", "sandbox", *arguments], self.environment, check=check, timeout=timeout)

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, **self.variables, "SANDBOX_STATE": str(self.state)}

    @property
    def paths(self) -> Paths:
        return Paths.from_environment(self.environment)

    def stack(self) -> SandboxStack:
        """The stack of the sandbox as it runs now. Raises `CommandFailed` if it does not run."""
        try:
            return SandboxStack(self.paths, require_running(self.paths), self.environment)
        except (SandboxError, StateError) as error:
            raise CommandFailed(str(error)) from error

    def shell_environment(self) -> dict[str, str]:
        """What `eval "$(python -m sandbox env)"` gives a shell. Raises `CommandFailed` where the sandbox does not run."""
        return self.environment | self.stack().variables()

    def pulumi(self, *arguments: str, check: bool = True, overrides: Mapping[str, Any] | None = None) -> subprocess.CompletedProcess[str]:
        """The real command line, in the project's folder; `overrides` change settings for this one run."""
        environment = self.shell_environment()
        if overrides:
            document = yaml.safe_load(self.stack_config.read_text())
            document["config"] |= {f"{PROJECT_NAME}:{key}": value for key, value in overrides.items()}
            changed = self.state / "Pulumi.changed.yaml"
            changed.write_text(yaml.safe_dump(document))
            environment["PULUMI_OPTION_CONFIG_FILE"] = str(changed)
        return run_command(["pulumi", *arguments], environment, check=check, timeout=900)

    def preview(self, **overrides: Any) -> dict[str, str]:
        """What a preview with changed settings would do: `TYPE::NAME` -> operation, unchanged resources left out."""
        result = self.pulumi("preview", "--json", "--non-interactive", overrides=overrides)
        steps = json.loads(result.stdout)["steps"]
        return {
            f"{step['urn'].split('::')[2].split('$')[-1]}::{step['urn'].split('::')[-1]}": step["op"]
            for step in steps
            if step["op"] != "same"
        }

    def kubectl(self, *arguments: str, check: bool = True, stdin: str = "") -> str:
        result = run_command(["kubectl", *arguments], self.shell_environment(), check=check, timeout=120, stdin=stdin)
        return result.stdout + ("" if check else result.stderr)

    def status(self) -> dict[str, Any]:
        """What `python -m sandbox status --json` prints, read in this process. Raises `CommandFailed`."""
        outputs = self.outputs()
        try:
            return status_document(self.paths, outputs.get("service_url"))
        except Exception as error:
            if (said := explain(error)) is None:
                raise
            raise CommandFailed(said) from error

    def use_doors(self) -> None:
        """Lets this process reach the stack's gateway by its host name."""
        use_doors(self.paths)

    def outputs(self) -> dict[str, Any]:
        """The stack's outputs without the secret ones. Raises `CommandFailed` where the sandbox does not run."""
        return self.stack().outputs()

    @property
    def stack_config(self) -> Path:
        return self.paths.stack_config

    def processes(self) -> list[int]:
        """Every process that has the sandbox's mark."""
        return marked_processes(self.paths)


def run_command(
    command: list[str], environment: Mapping[str, str], *, check: bool, timeout: float, stdin: str = "", cwd: Path = PROJECT_DIR
) -> subprocess.CompletedProcess[str]:
    """Raises `CommandFailed` if `check` is set, and `subprocess.TimeoutExpired`."""
    result = subprocess.run(command, cwd=cwd, env=dict(environment), input=stdin, capture_output=True, text=True, timeout=timeout)
    if check and result.returncode != 0:
        raise CommandFailed(f"{' '.join(command)} ended with {result.returncode}\n{result.stdout}\n{result.stderr}")
    return result


@contextmanager
def fresh_sandbox(name: str, variables: Mapping[str, str] | None = None) -> Iterator[Sandbox]:
    """An empty sandbox below `.sandbox/NAME`, which is always taken down at the end."""
    sandbox = Sandbox(PROJECT_DIR / ".sandbox" / name, variables or {})
    # Its user may keep files here, which survive `down`.
    sandbox.state.parent.mkdir(parents=True, exist_ok=True)
    sandbox.command("down", check=False)
    try:
        yield sandbox
    finally:
        sandbox.command("down", check=False)
