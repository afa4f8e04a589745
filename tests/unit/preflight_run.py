"""Runs preflight's checks in this process against the local server, with a `pulumi` that a test scripts."""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from urllib3 import BaseHTTPResponse
from urllib3.util import Retry

from components.settings import stack_files
from components.settings.sections import Settings
from components.settings.settings import load_stack
from ops.findings import Finding
from ops.preflight.calls import Web
from ops.preflight.checks import CHECKS, gateway
from ops.preflight.context import Context
from ops.preflight.google import Google
from ops.preflight.pulumi_cli import PulumiCli
from ops.preflight.report import Outcome, Report
from ops.preflight.runner import run_checks
from tests.unit.preflight_project import PROJECT, REGION, set_project
from tests.unit.preflight_server import PreflightServer


@cache
def _settings(overrides: str, project_dir: Path) -> Settings:
    return load_stack("dev", {"gcp:project": PROJECT, **json.loads(overrides)}, project_dir=project_dir)


class Bench:
    """A good project, credentials for it, and a folder for `pulumi`."""

    def __init__(self, server: PreflightServer, key: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.server = server
        self.folder = folder
        self.environment = {
            "GOOGLE_APPLICATION_CREDENTIALS": str(key),
            # No look for a metadata server where a test takes the credentials away.
            "NO_GCE_CHECK": "true",
            "PATH": f"{folder / 'bin'}{os.pathsep}/usr/bin{os.pathsep}/bin",
            "HOME": str(folder),
            "NO_PROXY": "127.0.0.1",
        }
        for name, value in self.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(gateway, "addresses", lambda host: ["203.0.113.9"])
        self.pauses: list[float] = []
        monkeypatch.setattr(Retry, "sleep", lambda retry, response=None: self.pauses.append(pause_of(retry, response)))
        self.pulumi("echo \"error: no stack named 'dev' found\" >&2; exit 255")
        set_project(server)

    def pulumi(self, script: str) -> None:
        """A `pulumi` that notes its arguments and then runs the shell script."""
        path = self.folder / "bin" / "pulumi"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f'#!/bin/sh\necho "$@" >> {self.folder}/pulumi-arguments\n{script}\n')
        path.chmod(0o755)

    def pulumi_arguments(self) -> str:
        path = self.folder / "pulumi-arguments"
        return path.read_text() if path.exists() else ""

    def context(self, *, seconds: float = 5.0, project_dir: Path = stack_files.PROJECT_DIR, **overrides: Any) -> Context:
        settings = _settings(json.dumps(overrides), project_dir)
        web = Web(request_seconds=seconds, endpoint=self.server.url)
        return Context(
            stack="dev", settings=settings, google=Google(PROJECT, web), web=web, pulumi=PulumiCli("dev", project_dir=project_dir)
        )

    def run(self, *only: str, context: Context | None = None, **overrides: Any) -> Report:
        """The named checks and what they need; all of them without a name."""
        context = context or self.context(**overrides)
        wanted = {need for check in CHECKS if check.name in only for need in check.needs} | set(only)
        checks = [check for check in CHECKS if not only or check.name in wanted]
        outcomes = run_checks(checks, context, seconds=20)
        return Report(stack="dev", project=PROJECT, region=REGION, outcomes=outcomes, seconds=0.0)

    def findings(self, check: str, **overrides: Any) -> list[Finding]:
        return list(self.outcome(check, **overrides).findings)

    def outcome(self, check: str, **overrides: Any) -> Outcome:
        (found,) = [each for each in self.run(check, **overrides).outcomes if each.check == check]
        return found


def pause_of(retry: Retry, response: BaseHTTPResponse | None) -> float:
    """What urllib3 would sleep between two attempts."""
    asked = retry.get_retry_after(response) if response is not None else None
    return retry.get_backoff_time() if asked is None else asked
