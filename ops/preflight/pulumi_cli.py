"""What only `pulumi` knows of a stack: its secrets, and which resources are its own. Nothing is changed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from components.settings import stack_files
from ops import pulumi_command
from ops.pulumi_command import PulumiError


class PulumiCli:
    def __init__(self, stack: str, *, project_dir: Path = stack_files.PROJECT_DIR) -> None:
        self._stack = stack
        self._project_dir = project_dir

    def secret(self, key: str) -> str:
        """A setting that the stack's file may hold encrypted or in the clear; empty where it holds none.

        Raises `PulumiError` and `stack_files.StackFileError`.
        """
        source = stack_files.stack_file(self._stack, self._project_dir)
        value = stack_files.configuration(source).get(f"{stack_files.PROJECT_NAME}:{key}", "")
        if not isinstance(value, dict):
            return str(value or "")
        return self._run("config", "get", key).strip()

    def resource_ids(self) -> frozenset[str]:
        """Provider ids of everything in the stack's state; none for a stack that is not there yet.

        Raises `PulumiError`.
        """
        return frozenset(str(each["id"]) for each in self._resources() if each.get("id"))

    def output(self, name: str) -> Any:
        """An output of the stack's last update, None where there is none. Raises `PulumiError`."""
        stack = next((each for each in self._resources() if each.get("type") == "pulumi:pulumi:Stack"), {})
        return (stack.get("outputs") or {}).get(name)

    def _resources(self) -> Sequence[Mapping[str, Any]]:
        try:
            # Secrets stay encrypted in it.
            exported = self._run("stack", "export")
        except PulumiError as error:
            if "no stack named" in str(error):
                return []
            raise
        try:
            resources = json.loads(exported)["deployment"].get("resources") or []
            return [dict(each) for each in resources]
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise PulumiError("`pulumi stack export` printed no deployment") from error

    def _run(self, *arguments: str) -> str:
        return pulumi_command.output(*arguments, stack=self._stack, directory=self._project_dir, seconds=60.0)
