"""The workflows run what a person runs, with no right that they do not need.

What actionlint and zizmor check (syntax, expressions, injection, unpinned actions) is `make lint`'s; here is what this
project promises beyond that.
"""

import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ops.ci import report
from tests.unit.program import ROOT

FOLDER = ROOT / ".github"
#: YAML 1.1 reads the key `on` as true.
ON = True
FILES = sorted([*FOLDER.glob("workflows/*.yaml"), *FOLDER.glob("actions/*/action.yaml")])
WORKFLOWS = {path.stem: yaml.safe_load(path.read_text()) for path in FOLDER.glob("workflows/*.yaml")}
MAKEFILE = (ROOT / "Makefile").read_text()

#: The greatest rights of any job, by workflow and job; another one is a decision, to be made here too.
PERMISSIONS = {
    ("test", "lint"): {"contents": "read"},
    ("test", "test"): {"contents": "read"},
    ("drills", "drills"): {"contents": "read"},
    ("preview", "preview"): {"contents": "read", "id-token": "write"},
    ("preview", "comment"): {"contents": "read", "pull-requests": "write"},
    ("deploy-stack", "deploy"): {"contents": "read", "id-token": "write"},
    ("deploy-stack", "smoke"): {"contents": "read", "id-token": "write"},
    ("up", "dev"): {"contents": "read", "id-token": "write"},
    ("up", "prod"): {"contents": "read", "id-token": "write"},
    ("drift", "drift"): {"contents": "read", "deployments": "read", "id-token": "write", "issues": "write"},
}


def jobs() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for workflow, document in WORKFLOWS.items():
        for job, body in document["jobs"].items():
            yield workflow, job, body


def steps() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in FILES:
        document = yaml.safe_load(path.read_text())
        bodies = [document["runs"]] if "runs" in document else document["jobs"].values()
        for body in bodies:
            for step in body.get("steps", []):
                yield path.name, step


def test_every_run_step_is_a_make_target_or_a_script_of_the_repository() -> None:
    commands = [(name, step["run"].strip()) for name, step in steps() if "run" in step]
    assert len(commands) >= 10
    for name, command in commands:
        target = re.fullmatch(r"make ([a-z-]+)", command)
        script = ROOT / command
        assert (target and re.search(rf"^{target[1]}:", MAKEFILE, re.MULTILINE)) or (
            script.is_file() and script.stat().st_mode & stat.S_IXUSR
        ), f"{name}: `{command}` is neither a make target nor a script of the repository"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_action_of_others_is_pinned_by_commit_with_its_version_beside_it(path: Path) -> None:
    for line in path.read_text().splitlines():
        if (used := re.search(r"uses: (\S+)(.*)", line)) and not used[1].startswith("./"):
            assert re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}", used[1]), line
            assert re.fullmatch(r" # v\d+\.\d+\.\d+", used[2]), line


def test_an_action_has_one_version_in_all_files() -> None:
    pins = {line for path in FILES for line in re.findall(r"uses: ([\w.-]+/[\w./-]+@.*)", path.read_text())}
    names = [pin.split("@")[0] for pin in pins]
    assert sorted(names) == sorted(set(names)), sorted(pins)


def test_jobs_have_exactly_the_rights_that_are_listed_here() -> None:
    assert [document["permissions"] for document in WORKFLOWS.values()] == [{}] * len(WORKFLOWS)
    assert {(workflow, job): body["permissions"] for workflow, job, body in jobs()} == PERMISSIONS


def test_a_checkout_leaves_no_token_behind() -> None:
    checkouts = [step for _, step in steps() if step.get("uses", "").startswith("actions/checkout@")]
    assert checkouts
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


def test_no_secret_is_stored_and_only_what_talks_to_github_gets_its_token() -> None:
    text = "".join(path.read_text() for path in FILES)
    assert "secrets." not in text
    assert "credentials_json" not in text
    with_token = [step["run"] for _, step in steps() if "GITHUB_TOKEN" in step.get("env", {})]
    assert sorted(with_token) == ["make comment", "make deployed-commit", "make drift-issue"]


def test_every_job_ends_in_time() -> None:
    assert {job for _, job, body in jobs() if "uses" not in body and "timeout-minutes" not in body} == set()


def test_pull_requests_never_run_with_the_base_s_rights_and_forks_get_tests_only() -> None:
    triggers = {workflow: set(document[ON]) for workflow, document in WORKFLOWS.items()}
    assert {name for name, found in triggers.items() if "pull_request" in found} == {"test", "preview"}
    assert not any("pull_request_target" in found or "workflow_run" in found for found in triggers.values())
    same_repository = "github.event.pull_request.head.repo.full_name == github.repository"
    assert same_repository in WORKFLOWS["preview"]["jobs"]["preview"]["if"]
    # Skipped with the one it needs.
    assert "needs.preview.result != 'skipped'" in WORKFLOWS["preview"]["jobs"]["comment"]["if"]
    assert not any("id-token" in body["permissions"] for body in WORKFLOWS["test"]["jobs"].values())


def test_two_updates_of_a_stack_never_run_side_by_side_and_none_is_ended_half_way() -> None:
    deploying = [name for name, step in steps() if step.get("run") == "make deploy"]
    assert deploying == ["deploy-stack.yaml"]
    concurrency = WORKFLOWS["deploy-stack"]["concurrency"]
    assert concurrency == {"group": "deploy-${{ inputs.stack }}", "cancel-in-progress": False}
    assert WORKFLOWS["up"]["concurrency"]["cancel-in-progress"] is False


def test_prod_follows_dev_in_its_own_environment() -> None:
    up = WORKFLOWS["up"]["jobs"]
    assert (up["dev"]["with"], up["prod"]["with"]) == ({"stack": "dev"}, {"stack": "prod"})
    assert up["prod"]["needs"] == "dev"
    assert WORKFLOWS["deploy-stack"]["jobs"]["deploy"]["environment"] == "${{ inputs.stack }}"
    # Only a merge, or a person on main, deploys.
    assert set(WORKFLOWS["up"][ON]) == {"push", "workflow_dispatch"}
    assert WORKFLOWS["up"][ON]["push"] == {"branches": ["main"]}
    assert up["dev"]["if"] == "github.ref == 'refs/heads/main'"


def test_only_the_deploying_job_may_use_the_environment_that_can_change_anything() -> None:
    environments = {(workflow, job): body.get("environment", "") for workflow, job, body in jobs()}
    writing = {key for key, name in environments.items() if name and not name.endswith("-preview")}
    assert writing == {("deploy-stack", "deploy")}


def test_the_comment_is_made_of_what_the_preview_s_steps_record() -> None:
    body = WORKFLOWS["preview"]["jobs"]["preview"]
    ran = [step["run"].removeprefix("make ") for step in body["steps"] if "run" in step]
    assert sorted(ran) == sorted(report.PREVIEW_STEPS)
    # A failed preflight must not hide the preview.
    assert [step.get("if") for step in body["steps"] if "run" in step][1:] == ["${{ !cancelled() }}"] * 2
    assert body["strategy"]["matrix"]["stack"] == re.search(r"^STACKS \?= (.*)$", MAKEFILE, re.MULTILINE)[1].split()  # type: ignore[index]


def test_pulumi_in_the_workflows_is_the_sdk_s_version() -> None:
    sdk = re.search(r"^pulumi==(.*)$", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    action = yaml.safe_load((FOLDER / "actions" / "set-up" / "action.yaml").read_text())
    (version,) = [step["with"]["pulumi-version"] for step in action["runs"]["steps"] if "pulumi" in step["uses"]]
    assert sdk is not None
    assert version == sdk[1]


def test_preflight_knows_the_arguments_that_the_workflows_give() -> None:
    preflight = pytest.importorskip("ops.preflight.__main__")
    given = {step["env"]["PREFLIGHT_ARGUMENTS"] for _, step in steps() if "PREFLIGHT_ARGUMENTS" in step.get("env", {})}
    assert given
    for arguments in given:
        preflight._parser().parse_args(["--stack", "dev", *arguments.split()])
