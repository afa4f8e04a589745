"""One sandbox for the whole tier, beside any that a person runs: its own state, the same cache of tools."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]

#: In the stack's encrypted configuration from the start; a test looks for it wherever it must not be.
TOKEN = "hf_sandboxTokenThatNobodyMaySee"


@dataclass(frozen=True)
class Sandbox:
    """Runs the commands that a person runs."""

    state: Path

    def command(self, *arguments: str, check: bool = True, timeout: float = 1800) -> subprocess.CompletedProcess[str]:
        """`python -m sandbox ...`."""
        return run_command(
            [sys.executable, "-m", "sandbox", *arguments], self.environment, check=check, timeout=timeout
        )

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "SANDBOX_STATE": str(self.state)}

    def shell_environment(self) -> dict[str, str]:
        """What `eval "$(python -m sandbox env)"` gives a shell."""
        exported = dict(self.environment)
        for line in self.command("env").stdout.splitlines():
            name, _, value = line.removeprefix("export ").partition("=")
            exported[name] = shlex.split(value)[0]
        return exported

    def pulumi(
        self, *arguments: str, check: bool = True, overrides: dict[str, Any] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """The real command line, in the project's folder; `overrides` change settings for this one run."""
        environment = self.shell_environment()
        if overrides:
            document = yaml.safe_load(self.stack_config.read_text())
            document["config"] |= {f"tpu-gpu-fungibility:{key}": value for key, value in overrides.items()}
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
        return dict(json.loads(self.command("status", "--json").stdout))

    def outputs(self) -> dict[str, Any]:
        return dict(json.loads(self.pulumi("stack", "output", "--json").stdout))

    @property
    def stack_config(self) -> Path:
        return self.state / "Pulumi.sandbox.yaml"

    def processes(self) -> list[int]:
        """Every process that carries the sandbox's mark."""
        mark = f"FUNGIBILITY_SANDBOX={self.state}".encode()
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
            except OSError:
                continue
        return found


def run_command(
    command: list[str],
    environment: dict[str, str],
    *,
    check: bool,
    timeout: float,
    stdin: str = "",
    cwd: Path = ROOT,
) -> subprocess.CompletedProcess[str]:
    result = subprocess.run(
        command, cwd=cwd, env=environment, input=stdin, capture_output=True, text=True, timeout=timeout
    )
    if check and result.returncode != 0:
        pytest.fail(
            f"{' '.join(command)} ended with {result.returncode}\n{result.stdout}\n{result.stderr}", pytrace=False
        )
    return result


def _down(sandbox: Sandbox) -> None:
    sandbox.command("down", check=False)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The dev stack's own tests come first, since they begin with a new stack; its end is before sandboxes of their own begin."""
    order = {"test_dev_stack": -1, "test_end": 1, "test_prod_stack": 2, "test_real_images": 3}
    items.sort(key=lambda item: order.get(item.path.stem, 0))


@pytest.fixture(scope="session")
def bare() -> Iterator[Sandbox]:
    """A sandbox that nobody has started; taken down at the end whatever happens."""
    sandbox = Sandbox(ROOT / ".sandbox" / "test-state")
    _down(sandbox)
    yield sandbox
    _down(sandbox)


@pytest.fixture(scope="session")
def sandbox(bare: Sandbox) -> Sandbox:
    """A sandbox with the dev stack up, its token set."""
    up = bare.command("up")
    (bare.state.parent / "last-up.txt").write_text(up.stdout)
    bare.pulumi("config", "set", "--secret", "huggingFaceToken", "--", TOKEN)
    bare.command("up")
    return bare
