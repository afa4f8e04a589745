"""The end of the sandbox that the other files share; it runs after them all."""

from __future__ import annotations

import json
from pathlib import Path

from sandbox.cli.client import Sandbox
from tests.sandbox.conftest import ROOT


def test_destroy_leaves_nothing_in_the_cloud_and_down_no_process_and_no_file(sandbox: Sandbox) -> None:
    sandbox.pulumi("destroy", "--yes", "--non-interactive")
    assert list((sandbox.state / "clusters").iterdir()) == []
    # Nothing but the APIs that are switched on: another program of the project may rest on them.
    left = json.loads((sandbox.state / "cloud.json").read_text())
    # Beside what the bootstrap stack's test made in a project of its own, which protects what it has.
    kinds = {kind for kind, resources in left.items() if "sandbox-project" in json.dumps(resources)}
    assert kinds == {"gcp:projects/service:Service"}
    assert sandbox.status()["nodes"] == []
    sandbox.command("down")
    assert sandbox.processes() == []
    assert not sandbox.state.exists()
    assert "not running" in sandbox.command("status", check=False).stderr


def test_nothing_is_written_to_the_project_but_its_ignored_folder() -> None:
    assert not (ROOT / "Pulumi.sandbox.yaml").exists()
    assert not Path(ROOT / "Pulumi.changed.yaml").exists()
