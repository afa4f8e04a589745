"""`python -m ops preflight` as a person or a pipeline runs it, and what its documentation says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest

from bootstrap import roles
from components.settings import stack_files
from components.settings.gateway import GLOBAL, INTERNAL
from components.settings.settings import load_stack
from ops import cost
from ops.cost import report
from ops.findings import STATUSES, failed, ok, skipped
from ops.preflight import __main__ as command
from ops.preflight import requirements
from ops.preflight.checks import CHECKS
from ops.preflight.quota_metrics import DISK_METRICS, GPUS_ALL_REGIONS
from ops.preflight.report import Outcome, Report
from tests.unit import program
from tests.unit.preflight_project import PROJECT, QUOTAS, set_regional_quotas
from tests.unit.preflight_run import Bench
from tests.unit.preflight_server import ACCESS_TOKEN

ROOT = stack_files.PROJECT_DIR
DOCS = (ROOT / "docs" / "preflight.md").read_text()


def _run(bench: Bench, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ops", "preflight", "--stack", "dev", "--project", PROJECT, "--endpoint", bench.server.url, *arguments],
        cwd=ROOT,
        env={**bench.environment, "PYTHONWARNINGS": "default"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_command_on_a_good_project(bench: Bench) -> None:
    done = _run(bench)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    lines = [line for line in done.stdout.splitlines() if re.match(r"(ok|WARNING|FAILED|skipped) ", line)]
    assert {line.split()[0] for line in lines} == {"ok"}
    assert {line.split()[1] for line in lines} == {check.name for check in CHECKS}
    assert re.search(r"^\d+ ok in \d+\.\d s$", done.stdout, re.MULTILINE)
    assert ACCESS_TOKEN not in done.stdout


def _main(bench: Bench, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = command.main(["--stack", "dev", "--project", PROJECT, "--endpoint", bench.server.url, *arguments])
    out, err = capsys.readouterr()
    return status, out, err


def test_a_reader_is_not_checked_for_permissions(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = _main(bench, capsys, "--json")
    asked = {finding["check"] for finding in json.loads(out)["findings"]}
    _, out, _ = _main(bench, capsys, "--json", "--reader")
    assert asked - {finding["check"] for finding in json.loads(out)["findings"]} == {"permissions"}


def test_warnings_pass_unless_they_may_not(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    set_regional_quotas(bench.server, {**QUOTAS, "NVIDIA_L4_GPUS": (1, 0)})
    assert _main(bench, capsys)[0] == 0
    status, out, _ = _main(bench, capsys, "--strict", "--json")
    assert status == 1
    assert json.loads(out)["ok"] is False


def test_a_failure_is_shown_with_cause_and_fix_in_one_piece(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.server.set("cloudbilling.projects.getBillingInfo", {})
    status, out, _ = _main(bench, capsys)
    assert status == 1
    assert "reason: no account is linked" in out
    assert re.search(r"fix:    gcloud billing projects link my-project --billing-account=ACCOUNT_ID$", out, re.MULTILINE)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--stack", "nowhere"], "there is no Pulumi.nowhere.yaml"),
        (["--stack", "dev"], "gcp:project: is missing"),
        (["--stack", "dev", "--project", "My Project"], "is not a project ID"),
    ],
)
def test_wrong_settings_are_refused_before_any_request(
    bench: Bench, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert command.main([*arguments, "--endpoint", bench.server.url]) == 2
    assert words in capsys.readouterr().err
    assert bench.server.seen == []


def test_cost_is_printed_below_the_checks(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    settings = bench.context().settings
    assert _main(bench, capsys)[1].rstrip().endswith(report.text("dev", settings.place.region, cost.estimate(settings)).rstrip())
    json.loads(_main(bench, capsys, "--json")[1])


# Reports


def _report() -> Report:
    outcomes = (
        Outcome(check="a", findings=(ok("first", "well"), failed("second", "bad", reason="why", fix="do this")), seconds=1.0),
        Outcome(check="longer", findings=(skipped("third", reason="needs a"),), seconds=0.0),
    )
    return Report(stack="dev", project="p", region="r", outcomes=outcomes, seconds=1.25)


def test_the_document_has_the_shape_that_is_documented() -> None:
    document = _report().document()
    sample = json.loads(re.search(r"```json\n(.*?)```", DOCS, re.DOTALL)[1])  # type: ignore[index]  # the test fails without
    assert _shape(document) == _shape(sample)
    assert (document["counts"], document["ok"]) == ({"ok": 1, "warning": 0, "failed": 1, "skipped": 1}, False)


def _shape(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _shape(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_shape(value[0])]
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__


def test_the_text_aligns_and_breaks_no_command() -> None:
    command_line = "gcloud " + " ".join(f"--flag-{number}=value" for number in range(30))
    outcome = Outcome(check="a", findings=(failed("x", "y " * 200, reason="z " * 200, fix=command_line),), seconds=0)
    text = Report(stack="s", project="p", region="r", outcomes=(outcome,), seconds=0).text(width=100)
    assert command_line in text
    assert all(len(line) <= 100 for line in text.splitlines() if command_line not in line)
    lines = _report().text().splitlines()
    assert lines[2].index("first") == lines[3].index("second") == lines[6].index("third")


# What the program needs is what is asked for


_STACKS = sorted(each.name.split(".")[1] for each in ROOT.glob("Pulumi.*.yaml"))


@pytest.mark.parametrize(
    ("stack", "overrides"),
    [
        *((each, {}) for each in _STACKS),
        ("dev", {"maxReplicas": 3}),
        ("dev", {"fallbackAfterMinutes": 15}),
        ("dev", {"weightsCache": True, "gpuEphemeralStorageLimit": "38Gi"}),
        ("dev", {"gateway": {"class": INTERNAL}, "inferenceGateway": True}),
        *(
            (
                "dev",
                {
                    "gateway": {
                        "class": each,
                        "hostName": "llm.example.com",
                        "certificate": {"dnsAuthorization": True},
                        "sourceRanges": ranges,
                    }
                },
            )
            for each, ranges in ((GLOBAL, ["203.0.113.0/24"]), ("gke-l7-regional-external-managed", ["203.0.113.0/24"]), (INTERNAL, []))
        ),
    ],
)
def test_every_resource_of_every_stack_has_its_permissions_and_apis(stack: str, overrides: dict[str, Any]) -> None:
    run = program.run_program(overrides, stack=stack)
    settings = load_stack(stack, {"gcp:project": PROJECT, **overrides})
    made = {each.type for each in run.resources.values() if each.custom and not each.type.startswith("pulumi:")}
    asked = {need.resource for need in roles.needs(settings)}
    assert made <= asked, f"bootstrap/roles.py has no line for {made - asked}"
    assert asked <= made, f"bootstrap/roles.py: {asked - made} is not made by stack {stack}; give its line a `when`"
    apis = {each.inputs["service"].removesuffix(".googleapis.com") for each in run.of_type("gcp:projects/service:Service")}
    assert set(requirements.apis_of_program(settings)) == apis


# Documentation


def _table(heading: str) -> list[list[str]]:
    section = DOCS.split(f"## {heading}")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[1:]]


def test_documentation_lists_every_check_in_order() -> None:
    assert [row[0] for row in _table("What is checked")] == [f"`{check.name}`" for check in CHECKS]


def test_documentation_lists_quotas_that_are_not_one_accelerator_s_and_says_which_names_are_unverified() -> None:
    named = {"all GPUs": GPUS_ALL_REGIONS, **{f"`{disk}`": metric for disk, metric in DISK_METRICS.items()}}
    expected = {(what, f"`{metric.name}`", "yes" if metric.verified else "no") for what, metric in named.items()}
    assert {tuple(row[:3]) for row in _table("Quotas")} == expected


def test_documentation_names_every_role_that_up_needs() -> None:
    assert {row[0].strip("`") for row in _table("Who may run it")} >= {need.role for need in roles.NEEDS}


def test_documentation_names_every_status_and_option() -> None:
    for status in STATUSES:
        assert f"`{status}`" in DOCS
    for option in ("--stack", "--project", "--json", "--strict", "--reader", "--timeout", "--request-timeout"):
        assert f"`{option}" in DOCS, option
