"""The make targets of a team's pipelines, run for real with a `pulumi` that only notes how it was called."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from ops.ci.step_record import read_folder
from tests.unit.program import ROOT

INSTALLED = (".venv/.installed", "policies/.venv/.installed")


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder with a `pulumi` that prints its arguments and exits as $PULUMI_STATUS says."""
    folder = tmp_path / "bin"
    folder.mkdir()
    pulumi = folder / "pulumi"
    pulumi.write_text('#!/bin/sh\necho "pulumi $*"\nexit "${PULUMI_STATUS:-0}"\n')
    pulumi.chmod(0o755)
    return folder


def make(*arguments: str, programs: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    path = f"{programs}:{os.environ['PATH']}" if programs else os.environ["PATH"]
    # A `make test` above must not lend its own variables.
    own = ("MAKE", "MFLAGS", "STACK", "REPORT", "POLICY_")
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(own)}
    return subprocess.run(
        # The virtual environment is there: these tests run in it.
        ["make", "--no-print-directory", *(f"--assume-old={each}" for each in INSTALLED), *arguments],
        cwd=ROOT,
        env={**inherited, "PATH": path, **environment},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    ("target", "arguments"),
    [
        ("preview", "preview --refresh --stack dev --non-interactive --policy-pack policies{config}"),
        ("deploy", "up --yes --refresh --stack dev --non-interactive --continue-on-error --parallel 64 --policy-pack policies{config}"),
        ("drift", "preview --expect-no-changes --refresh --stack dev --non-interactive"),
    ],
)
def test_target_runs_pulumi_on_the_stack(programs: Path, target: str, arguments: str) -> None:
    result = make(target, "STACK=dev", programs=programs)
    assert result.returncode == 0, result.stderr
    config = ROOT / "policies" / "dev.json"
    options = f" --policy-pack-config {config.relative_to(ROOT)}" if config.exists() else ""
    assert result.stdout.splitlines()[-1] == f"pulumi {arguments.format(config=options)}"


def test_the_policy_pack_can_be_left_out(programs: Path) -> None:
    result = make("preview", "STACK=dev", "POLICY_PACK=", programs=programs)
    assert result.stdout.splitlines()[-1].endswith("--non-interactive")


def test_with_a_report_the_step_is_recorded_and_its_failure_still_fails(programs: Path, tmp_path: Path) -> None:
    report = tmp_path / "report"
    result = make("drift", programs=programs, STACK="dev", REPORT=str(report), PULUMI_STATUS="7")
    assert result.returncode != 0
    record = read_folder(report / "dev")["drift"]
    assert record.status == 7
    assert record.stdout.startswith("pulumi preview --expect-no-changes --refresh --stack dev")


def test_records_become_the_comment(programs: Path, tmp_path: Path) -> None:
    report = tmp_path / "report"
    assert make("preview", programs=programs, STACK="dev", REPORT=str(report)).returncode == 0
    result = make("comment", REPORT=str(report), STACKS="dev")
    assert result.returncode == 0, result.stderr
    assert "dev: preview (passed" in result.stdout


@pytest.mark.parametrize("target", ["preflight", "cost", "smoke"])
def test_target_runs_the_project_s_own_tool_on_the_stack(target: str) -> None:
    result = make("--dry-run", target, STACK="dev")
    assert f"-m ops {target} --stack dev" in result.stdout


@pytest.mark.parametrize(
    "target", ["preview", "deploy", "recover", "drift", "preflight", "cost", "smoke", "drift-issue", "deployed-commit"]
)
def test_a_missing_stack_is_named_with_an_example(programs: Path, target: str) -> None:
    result = make(target, "REPORT=report", programs=programs, STACK="")
    assert result.returncode == 2
    assert f"STACK is not set: make {target} STACK=dev" in result.stderr
    assert "pulumi" not in result.stdout


@pytest.mark.parametrize("target", ["deploy", "recover", "verify-hardware", "benchmark"])
def test_a_stack_has_to_be_named(programs: Path, target: str) -> None:
    result = make(target, programs=programs)
    assert result.returncode == 2
    assert f"STACK is not set: make {target} STACK=dev" in result.stderr


def test_recovery_takes_the_options_that_the_runbook_names() -> None:
    result = make("--dry-run", "recover", "RECOVER_ARGUMENTS=--take-lock", STACK="dev")
    assert "-m ops recovery --stack dev --take-lock" in result.stdout


def test_hardware_is_verified_by_the_smoke_test() -> None:
    assert "-m ops smoke --stack dev --hardware" in make("--dry-run", "verify-hardware", STACK="dev").stdout


def test_the_benchmark_takes_its_arguments() -> None:
    asked = make(
        "--dry-run", "benchmark", "BENCHMARK_ARGUMENTS=--concurrency 1,16,64 --first-token 0.5 --svg rungs.svg", STACK="dev"
    ).stdout
    assert "-m ops benchmark --stack dev --concurrency 1,16,64 --first-token 0.5 --svg rungs.svg" in asked


def test_help_describes_every_target(programs: Path) -> None:
    listed = [line.split()[0] for line in make("help").stdout.splitlines()]
    assert {"preview", "deploy", "recover", "drift", "preflight", "cost", "smoke", "comment", "drift-issue", "deployed-commit"} <= set(
        listed
    )
    assert json.dumps(listed) == json.dumps(list(dict.fromkeys(listed)))
