"""What only `pulumi` knows of a stack: its secrets, and which resources are its own. Asked by subprocess; nothing is changed."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from components.settings import stack_files


class PulumiUnavailable(Exception):
    """`pulumi` could not say; the text says why, in one line and without a secret."""


class PulumiCli:
    def __init__(self, stack: str, *, project_dir: Path = stack_files.PROJECT_DIR, seconds: float = 60.0) -> None:
        self._stack = stack
        self._project_dir = project_dir
        self._seconds = seconds

    def secret(self, key: str) -> str:
        """A setting that the stack's file may hold encrypted or in the clear; empty where it holds none.

        Raises `PulumiUnavailable` and `stack_files.StackFileError`.
        """
        source = stack_files.stack_file(self._stack, self._project_dir)
        value = stack_files.configuration(source).get(f"{stack_files.PROJECT_NAME}:{key}", "")
        if not isinstance(value, dict):
            return str(value or "")
        return self._run(["config", "get", key]).strip()

    def resource_ids(self) -> frozenset[str]:
        """Provider ids of everything in the stack's state; none for a stack that is not there yet.

        Raises `PulumiUnavailable`.
        """
        try:
            # Secrets stay encrypted in it.
            exported = self._run(["stack", "export"])
        except PulumiUnavailable as error:
            if "no stack named" in str(error):
                return frozenset()
            raise
        try:
            resources = json.loads(exported)["deployment"].get("resources") or []
            return frozenset(str(each["id"]) for each in resources if each.get("id"))
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise PulumiUnavailable("`pulumi stack export` printed no deployment") from error

    def _run(self, arguments: Sequence[str]) -> str:
        if shutil.which("pulumi") is None:
            raise PulumiUnavailable("pulumi is not on PATH")
        command = ["pulumi", *arguments, "--stack", self._stack, "--non-interactive", "--cwd", str(self._project_dir)]
        shown = " ".join(("pulumi", *arguments))
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=self._seconds, stdin=subprocess.DEVNULL, check=False)
        except subprocess.TimeoutExpired as error:
            raise PulumiUnavailable(f"`{shown}` did not end within {self._seconds:g} s") from error
        if done.returncode != 0:
            # What it prints on success may be a secret; what it prints on failure is its reason.
            reason = " ".join(done.stderr.split())[:300] or f"exit status {done.returncode}"
            raise PulumiUnavailable(f"`{shown}` failed: {reason}")
        return done.stdout
