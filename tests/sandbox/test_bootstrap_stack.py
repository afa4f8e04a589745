"""The bootstrap stack by the commands of docs/deploy.md, on the real engine and the stand-in for Google. The tests run in order."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from sandbox.cli.client import Sandbox
from tests.pages import named_by
from tests.sandbox.conftest import ROOT

HERE = "tests/sandbox/test_bootstrap_stack.py"

#: What the page leaves for a team to fill in.
VALUES = {"TEAM_PROJECT": "team-operations", "DEV_PROJECT": "team-dev", "PROD_PROJECT": "team-prod", "OWNER/NAME": "team/fungibility"}


class Team:
    """A copy of the repository's program in a folder of its own, where the page's commands are run."""

    def __init__(self, folder: Path, sandbox: Sandbox) -> None:
        self.folder = folder
        for name in ("bootstrap", "components"):
            ignored = shutil.ignore_patterns("__pycache__", ".pulumi", "Pulumi.team.yaml")
            shutil.copytree(ROOT / name, folder / name, ignore=ignored)
        (folder / ".venv").symlink_to(ROOT / ".venv")
        programs = folder / "programs"
        programs.mkdir()
        # Logging in is Google's, and the virtual environment is there.
        for name in ("gcloud", "make"):
            (programs / name).write_text("#!/bin/sh\nexit 0\n")
            (programs / name).chmod(0o755)
        shell = sandbox.shell_environment()
        kept = ("PULUMI_HOME", "PULUMI_DEBUG_PROVIDERS", "PULUMI_SKIP_UPDATE_CHECK")
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("PULUMI_")},
            **{key: shell[key] for key in kept},
            "PATH": f"{programs}:{shell['PATH']}",
            # A person reads the preview and says yes.
            "PULUMI_OPTION_YES": "true",
            "PULUMI_OPTION_NON_INTERACTIVE": "true",
        }

    def run(self, script: str) -> str:
        result = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script], cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=300
        )
        if result.returncode != 0:
            pytest.fail(f"{script}\n{result.stdout}\n{result.stderr}", pytrace=False)
        return result.stdout

    def page_s_commands(self, test: str) -> list[str]:
        """The blocks that the page says a test of this file runs, its placeholders filled in."""
        found = []
        for block in named_by(f"{HERE}::{test}"):
            text = block.text
            for placeholder, value in VALUES.items():
                text = text.replace(placeholder, value)
            found.append(text)
        return found

    @property
    def shell(self) -> str:
        """Where the page's commands left a person: its folder and variables."""
        return 'cd bootstrap; export PULUMI_BACKEND_URL="file://$PWD/.pulumi" PULUMI_CONFIG_PASSPHRASE=""\n'


@pytest.fixture(scope="module")
def team(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Team:
    return Team(tmp_path_factory.mktemp("team"), sandbox)


def test_bootstrap_comes_up_on_a_local_state(team: Team) -> None:
    log_in, settings, up = team.page_s_commands("test_bootstrap_comes_up_on_a_local_state")
    make_it, _, _ = up.partition("\n")
    assert make_it == "pulumi up"
    printed = team.run("\n".join([log_in, settings, make_it]))
    assert "errored" not in printed
    written = yaml.safe_load((team.folder / "bootstrap" / "Pulumi.team.yaml").read_text())
    assert written["config"]["tpu-gpu-fungibility-bootstrap:environments"][1] == {
        "name": "prod",
        "project": "team-prod",
        "reviewers": ["Team:123"],
        "readsFrom": ["dev"],
        "secrets": ["vllm-api-key"],
    }
    outputs = json.loads(team.run(f"{team.shell} pulumi stack output --json"))
    assert outputs["backend_url"] == "gs://team-operations-pulumi-state"
    assert outputs["secrets_providers"]["prod"].endswith("/keyRings/pulumi/cryptoKeys/prod")
    assert outputs["workload_identity_provider"].endswith("/workloadIdentityPools/github/providers/github")
    assert outputs["service_accounts"]["dev-preview"] == "preview-dev@team-operations.iam.gserviceaccount.com"
    assert outputs["github_commands"].startswith("set -euo pipefail\ngh variable set PULUMI_BACKEND_URL")


def test_a_second_preview_is_empty(team: Team) -> None:
    team.run(f"{team.shell} pulumi preview --expect-no-changes --refresh")


def test_a_wrong_setting_is_refused_before_anything_is_touched(team: Team) -> None:
    printed = team.run(
        team.shell + "pulumi config set repository https://github.com/team/fungibility\n"
        "if pulumi preview 2>&1; then exit 1; fi\n"
        "pulumi config set repository team/fungibility"
    )
    assert "The settings of stack team have one problem; nothing was created or changed." in printed
    assert "is not a GitHub repository. Fix: give OWNER/NAME" in printed


def test_its_state_moves_into_another_backend_and_nothing_changes(team: Team, tmp_path: Path) -> None:
    (block,) = team.page_s_commands("test_its_state_moves_into_another_backend_and_nothing_changes")
    up, backend, *rest = block.splitlines()
    assert (up, backend) == ("pulumi up", "backend=$(pulumi stack output backend_url)")
    # In place of the bucket, which is Google's.
    script = "\n".join([up, backend, f"backend=file://{tmp_path}", *rest])
    team.run(team.shell + script)
    assert (tmp_path / ".pulumi" / "stacks" / "tpu-gpu-fungibility-bootstrap" / "team.json").exists()
    assert not (team.folder / "bootstrap" / ".pulumi").exists()
