"""The pipelines' commands on the dev stack, as a person runs them: preview, drift, deploy, and the runbook's cures.

Each test that a page names runs the page's own words. They leave the stack as they found it.
"""

from __future__ import annotations

import json
import socket
import subprocess
from pathlib import Path

import pytest

from ops.ci import report
from ops.ci.step_record import read_folder
from sandbox.cli.client import Sandbox
from tests.pages import named_by
from tests.sandbox.conftest import ROOT

HERE = "tests/sandbox/test_ci_commands.py"


def run(sandbox: Sandbox, script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a shell script as after `eval "$(python -m sandbox env)"`; stops at the first failure."""
    variables = {
        **sandbox.shell_environment(),
        "STACK": "sandbox",
        # The pack has tests of its own.
        "POLICY_PACK": "",
        **environment,
    }
    # The virtual environments are those that these tests run in.
    make = 'make() { command make --assume-old=.venv/.installed --assume-old=policies/.venv/.installed "$@"; }\n'
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", make + script], cwd=ROOT, env=variables, capture_output=True, text=True, timeout=600
    )


def page_s_commands(test: str) -> str:
    """What the pages say that a test of this file runs."""
    blocks = named_by(f"{HERE}::{test}")
    assert blocks, f"no page names {HERE}::{test}"
    return "\n".join(block.text for block in blocks)


def test_preview_and_drift_of_an_untouched_stack_are_clean(sandbox: Sandbox, tmp_path: Path) -> None:
    commands = page_s_commands("test_preview_and_drift_of_an_untouched_stack_are_clean")
    # Scaling is test_dev_stack's.
    made = [line for line in commands.splitlines() if line.startswith("make ")]
    assert made == ["make preview STACK=sandbox", "make drift STACK=sandbox"]
    result = run(sandbox, "\n".join(made), REPORT=str(tmp_path))
    assert result.returncode == 0, result.stdout + result.stderr
    records = read_folder(tmp_path / "sandbox")
    assert {name: record.status for name, record in records.items()} == {"preview": 0, "drift": 0}
    comment = run(sandbox, "make comment STACKS=sandbox", REPORT=str(tmp_path)).stdout
    assert "unchanged` | not run | not run | not run |" in comment


def test_the_runbook_s_first_look_works(sandbox: Sandbox) -> None:
    result = run(sandbox, page_s_commands("test_the_runbook_s_first_look_works"))
    assert result.returncode == 0, result.stderr
    assert "v6e-1" in result.stdout
    assert "Name:         vllm-fallback" in result.stdout


def test_a_change_by_hand_is_drift_and_a_deploy_puts_it_back(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.kubectl("label", "deployment", "vllm", "app=changed", "--overwrite")
    drift, deploy, again = page_s_commands("test_a_change_by_hand_is_drift_and_a_deploy_puts_it_back").splitlines()
    found = run(sandbox, drift, REPORT=str(tmp_path))
    assert found.returncode == 2
    record = read_folder(tmp_path / "sandbox")["drift"]
    assert report.drift_found(record)
    assert "~ 1 to update" in record.stdout
    put_back = run(sandbox, f"{deploy}\n{again}")
    assert put_back.returncode == 0, put_back.stdout + put_back.stderr
    assert sandbox.kubectl("get", "deployment", "vllm", "-o", "jsonpath={.metadata.labels.app}") == "vllm"


def leave_lock(sandbox: Sandbox, **more: str) -> Path:
    """As a killed engine leaves it; of a process of this machine that is gone. Returns the folder of locks."""
    locks = sandbox.state / "pulumi-backend" / ".pulumi" / "locks" / "organization" / "tpu-gpu-fungibility" / "sandbox"
    locks.mkdir(parents=True, exist_ok=True)
    over = subprocess.Popen(["true"])
    over.wait()
    lock = {"pid": over.pid, "username": "me", "hostname": socket.gethostname(), "timestamp": "2026-01-01T00:00:00Z"}
    (locks / "left-behind.json").write_text(json.dumps({**lock, **more}))
    return locks


def test_a_killed_update_is_recovered(sandbox: Sandbox) -> None:
    locks = leave_lock(sandbox)
    # What a kill between two writes leaves, upon which no command of pulumi works any more.
    attributes = sandbox.state / "pulumi-backend" / ".pulumi" / "stacks" / "tpu-gpu-fungibility" / "sandbox.json.attrs"
    attributes.write_text("")
    refused = run(sandbox, 'make deploy STACK="$STACK"')
    assert "failed to load checkpoint: EOF" in refused.stderr
    result = run(sandbox, page_s_commands("test_a_killed_update_is_recovered"))
    assert result.returncode == 0, result.stdout + result.stderr
    assert "took away the lock of process" in result.stdout
    assert "unchanged" in result.stdout
    assert not list(locks.glob("*.json"))


@pytest.mark.drill
def test_a_lock_of_another_machine_is_removed_on_request(sandbox: Sandbox) -> None:
    locks = leave_lock(sandbox, hostname="elsewhere")
    locked = run(sandbox, 'make deploy STACK="$STACK"')
    assert locked.returncode == 2
    assert "the stack is currently locked" in locked.stderr
    refused = run(sandbox, 'make recover STACK="$STACK"')
    assert refused.returncode == 2
    assert "of me on elsewhere, since 2026-01-01T00:00:00Z. Nothing was changed." in refused.stderr
    assert list(locks.glob("*.json"))
    result = run(sandbox, page_s_commands("test_a_lock_of_another_machine_is_removed_on_request"))
    assert result.returncode == 0, result.stderr
    assert not list(locks.glob("*.json"))
