"""Further stacks in the backend of the tests' sandbox: of this program with other settings, or of another program."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from sandbox.cli.client import Sandbox, run_command


class Stack:
    """Runs `pulumi` on one stack; its settings file is in the sandbox's state, beside no program."""

    def __init__(self, sandbox: Sandbox, directory: Path, name: str, environment: Mapping[str, str]) -> None:
        self.name = name
        self.config_file = sandbox.state / f"Pulumi.{name}.yaml"
        self._directory = directory
        self.environment = {**environment, "PULUMI_OPTION_CONFIG_FILE": str(self.config_file), "PULUMI_STACK": name}

    def pulumi(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return run_command(["pulumi", *arguments, "--non-interactive"], self.environment, check=check, timeout=600, cwd=self._directory)

    def up(self, *, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.pulumi("up", "--yes", "--skip-preview", check=check)

    def outputs(self) -> dict[str, Any]:
        return dict(json.loads(self.pulumi("stack", "output", "--json").stdout))

    def resources(self) -> list[dict[str, Any]]:
        """As they are in the state, secrets encrypted."""
        deployment = json.loads(self.pulumi("stack", "export").stdout)["deployment"]
        return list(deployment.get("resources") or [])

    def configure(self, values: Mapping[str, Any]) -> None:
        """Sets settings, `NAMESPACE:key` -> value, None for none; the rest of the file stays."""
        document = yaml.safe_load(self.config_file.read_text())
        document["config"] = {key: value for key, value in {**document["config"], **values}.items() if value is not None}
        self.config_file.write_text(yaml.safe_dump(document))


@contextmanager
def stack_of(sandbox: Sandbox, directory: Path, name: str, values: Mapping[str, Any]) -> Iterator[Stack]:
    """A stack with these settings, which is destroyed and removed at the end whatever happens."""
    stack = Stack(sandbox, directory, name, sandbox.shell_environment())
    # `stack init` writes the encryption's salt beside Pulumi.yaml whatever the config file is.
    stray = directory / f"Pulumi.{name}.yaml"
    assert not stray.exists(), f"{stray} is not this test's"
    try:
        stack.pulumi("stack", "init", name, "--secrets-provider", "passphrase", "--no-select")
        document = yaml.safe_load(stray.read_text()) if stray.exists() else {}
    finally:
        stray.unlink(missing_ok=True)
    stack.config_file.write_text(yaml.safe_dump({**(document or {}), "config": dict(values)}))
    try:
        yield stack
    finally:
        stack.pulumi("destroy", "--yes", "--skip-preview", check=False)
        stack.pulumi("stack", "rm", "--yes", "--force", "--preserve-config", check=False)
        stack.config_file.unlink(missing_ok=True)


@contextmanager
def doors_of(sandbox: Sandbox) -> Iterator[None]:
    """This process reaches the sandbox's gateways by host name, and afterwards is as it was."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", socket.getaddrinfo)
        patch.setenv("REQUESTS_CA_BUNDLE", "")
        sandbox.use_doors()
        yield
