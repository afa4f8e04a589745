"""The bootstrap stack: only this repository's jobs get credentials, each only what its environment and its use need."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from bootstrap import roles
from bootstrap.state_store import state_prefixes
from components.settings.problems import SettingsError
from tests.unit.bootstrap_program import POOL, SETTINGS, run_bootstrap
from tests.unit.program import ROOT, Run, run_program

ACCOUNT = "gcp:serviceaccount/account:Account"
ACCOUNT_MEMBER = "gcp:serviceaccount/iAMMember:IAMMember"
PROJECT_MEMBER = "gcp:projects/iAMMember:IAMMember"
BUCKET_MEMBER = "gcp:storage/bucketIAMMember:BucketIAMMember"
KEY_MEMBER = "gcp:kms/cryptoKeyIAMMember:CryptoKeyIAMMember"
SECRET_MEMBER = "gcp:secretmanager/secretIamMember:SecretIamMember"


@pytest.fixture(scope="module")
def team() -> Run:
    return run_bootstrap()


def email(account: str) -> str:
    return f"{account}@team-operations.iam.gserviceaccount.com"


def granted(run: Run, account: str, type_token: str) -> list[dict[str, Any]]:
    member = f"serviceAccount:{email(account)}"
    return [each.inputs for each in run.of_type(type_token) if each.inputs["member"] == member]


# --- state


def test_state_bucket_is_versioned_private_and_protected(team: Run) -> None:
    bucket = team.only("gcp:storage/bucket:Bucket").inputs
    assert bucket["name"] == "team-pulumi-state"
    assert bucket["versioning"] == {"enabled": True}
    assert (bucket["uniformBucketLevelAccess"], bucket["publicAccessPrevention"]) == (True, "enforced")
    (rule,) = bucket["lifecycleRules"]
    # The current version never goes away.
    assert rule["condition"]["withState"] == "ARCHIVED"
    assert rule["action"] == {"type": "Delete"}


def test_each_environment_has_a_key_of_its_own(team: Run) -> None:
    keys = {each.inputs["name"]: each.inputs for each in team.of_type("gcp:kms/cryptoKey:CryptoKey")}
    assert set(keys) == {"dev", "prod"}
    assert team.outputs["secrets_providers"] == {
        name: f"gcpkms://projects/team-operations/locations/asia-northeast1/keyRings/pulumi/cryptoKeys/{name}" for name in ("dev", "prod")
    }


def test_what_cannot_be_made_again_is_protected(team: Run) -> None:
    assert {each.name for each in team.resources.values() if each.protect} == {"state", "state-dev", "state-prod"}


def test_an_update_writes_its_own_environment_s_state_only(team: Run) -> None:
    for name in ("dev", "prod"):
        (writer,) = [each for each in granted(team, f"deploy-{name}", BUCKET_MEMBER) if "objectUser" in each["role"]]
        allowed = re.findall(r"startsWith\('projects/_/buckets/team-pulumi-state/objects/([^']*)'\)", writer["condition"]["expression"])
        assert allowed == list(state_prefixes(name))
        other = {"dev": "prod", "prod": "dev"}[name]
        assert not any(prefix.startswith(tuple(allowed)) for prefix in state_prefixes(other))


def test_environments_whose_names_begin_alike_do_not_write_each_other_s_state() -> None:
    assert not any(prefix.startswith(state_prefixes("dev")) for prefix in state_prefixes("dev-2"))


def test_a_preview_only_reads_state(team: Run) -> None:
    for name in ("dev", "prod"):
        assert [each["role"] for each in granted(team, f"preview-{name}", BUCKET_MEMBER)] == ["roles/storage.objectViewer"]


def test_secrets_open_with_one_s_own_key_and_those_of_environments_that_are_read_from(team: Run) -> None:
    def keys(account: str) -> list[str]:
        found = granted(team, account, KEY_MEMBER)
        assert {each["role"] for each in found} == {"roles/cloudkms.cryptoKeyDecrypter"}
        return [each["cryptoKeyId"].rpartition("/")[2] for each in found]

    assert keys("deploy-dev") == keys("preview-dev") == ["dev"]
    assert sorted(keys("deploy-prod")) == sorted(keys("preview-prod")) == ["dev", "prod"]


def test_only_named_secrets_of_secret_manager_are_read(team: Run) -> None:
    found = [(each.inputs["member"], each.inputs["project"], each.inputs["secretId"]) for each in team.of_type(SECRET_MEMBER)]
    assert sorted(found) == [(f"serviceAccount:{email(f'{use}-prod')}", "team-prod", "hf-token") for use in ("deploy", "preview")]


# --- identity


def test_only_tokens_of_this_repository_s_environments_are_accepted(team: Run) -> None:
    provider = team.only("gcp:iam/workloadIdentityPoolProvider:WorkloadIdentityPoolProvider").inputs
    assert provider["oidc"] == {"issuerUri": "https://token.actions.githubusercontent.com"}
    assert provider["attributeCondition"] == (
        "assertion.repository_id == '4711' && assertion.repository_owner_id == '12'"
        " && assertion.environment in ['dev', 'dev-preview', 'prod', 'prod-preview']"
    )


def test_deploying_takes_environment_and_branch_and_previewing_the_preview_s_environment(team: Run) -> None:
    principals = {each.inputs["serviceAccountId"].rpartition("/")[2]: each.inputs for each in team.of_type(ACCOUNT_MEMBER)}
    assert {each["role"] for each in principals.values()} == {"roles/iam.workloadIdentityUser"}
    pool = f"principalSet://iam.googleapis.com/{POOL}"
    assert {name.split("@")[0]: each["member"] for name, each in principals.items()} == {
        "deploy-dev": f"{pool}/attribute.deployment/environment:dev:ref:refs/heads/main",
        "deploy-prod": f"{pool}/attribute.deployment/environment:prod:ref:refs/heads/main",
        "preview-dev": f"{pool}/attribute.environment/dev-preview",
        "preview-prod": f"{pool}/attribute.environment/prod-preview",
    }
    mapping = team.only("gcp:iam/workloadIdentityPoolProvider:WorkloadIdentityPoolProvider").inputs["attributeMapping"]
    assert {"attribute.deployment", "attribute.environment"} <= set(mapping)


# --- roles


def test_accounts_have_the_listed_roles_in_their_own_project_only(team: Run) -> None:
    for name in ("dev", "prod"):
        for use, expected in (("deploy", roles.deploy_roles()), ("preview", roles.preview_roles())):
            found = granted(team, f"{use}-{name}", PROJECT_MEMBER)
            assert {each["project"] for each in found} == {f"team-{name}"}
            custom = {f"projects/team-{name}/roles/fungibility_{name}_secretsReader"} if use == "preview" else set()
            assert {each["role"] for each in found} == {*expected, *custom}


def test_no_role_is_basic_and_a_preview_s_cannot_write() -> None:
    every = {*roles.deploy_roles(), *roles.preview_roles()}
    assert not every & {"roles/owner", "roles/editor", "roles/viewer"}
    writing = re.compile(r"admin|editor|writer|user$|creator", re.IGNORECASE)
    assert [role for role in roles.preview_roles() if writing.search(role)] == []
    assert all(permission.endswith((".get", ".list", ".connect")) for permission in roles.PREVIEW_PERMISSIONS)


def test_the_deploying_account_grants_only_what_the_program_grants(team: Run) -> None:
    limited = [each for each in granted(team, "deploy-dev", PROJECT_MEMBER) if each["role"] == roles.LIMITED_ROLE]
    assert [each["condition"]["expression"] for each in limited] == [roles.grant_condition()]
    unlimited = [each for each in granted(team, "deploy-dev", PROJECT_MEMBER) if each["role"] != roles.LIMITED_ROLE]
    assert not any("condition" in each for each in unlimited)
    assert "hasOnly(['roles/container.defaultNodeServiceAccount'" in roles.grant_condition()


def _stacks() -> list[str]:
    return sorted(path.name.split(".")[1] for path in ROOT.glob("Pulumi.*.yaml"))


@pytest.mark.parametrize("stack", _stacks())
def test_the_deploying_account_may_grant_every_role_that_the_program_grants(stack: str) -> None:
    grants = {each.inputs["role"] for each in run_program(stack=stack).of_type(PROJECT_MEMBER)}
    assert grants <= set(roles.GRANTABLE_ROLES)


def test_every_role_that_the_program_may_grant_can_be_granted() -> None:
    """Whatever the settings: every role that stands in a module which grants any there."""
    granting = [text for path in (ROOT / "components").rglob("*.py") if "projects.IAMMember(" in (text := path.read_text())]
    named = {role for text in granting for role in re.findall(r'"(roles/[\w.]+)"', text)}
    assert "roles/container.defaultNodeServiceAccount" in named
    assert named <= set(roles.GRANTABLE_ROLES)


# --- what GitHub is told


def test_commands_for_github_are_a_shell_script_without_a_secret(team: Run, tmp_path: Path) -> None:
    script = team.outputs["github_commands"]
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    calls = _run_with_fake_gh(script, tmp_path)
    assert "variable set PULUMI_BACKEND_URL --repo team/fungibility --body gs://team-pulumi-state" in calls
    assert f"variable set WORKLOAD_IDENTITY_PROVIDER --repo team/fungibility --body {POOL}/providers/github" in calls
    for environment, account in (("dev", "deploy-dev"), ("prod-preview", "preview-prod")):
        assert f"variable set SERVICE_ACCOUNT --repo team/fungibility --env {environment} --body {email(account)}" in calls
    assert (
        'api --method PUT repos/team/fungibility/environments/prod --silent --input - <- {"reviewers": [{"type": "User", "id": 1}, '
        '{"type": "Team", "id": 22}], "deployment_branch_policy": {"protected_branches": false, "custom_branch_policies": true}}'
    ) in calls
    assert "api --method POST repos/team/fungibility/environments/prod/deployment-branch-policies --silent -f name=main" in calls
    assert not any("secret" in call for call in calls)


def _run_with_fake_gh(script: str, folder: Path) -> list[str]:
    log, gh = folder / "calls", folder / "gh"
    gh.write_text(f'#!/bin/bash\nline="$*"; [[ $line == *"--input -"* ]] && line+=" <- $(cat)"\nprintf "%s\\n" "$line" >>{log}\n')
    gh.chmod(0o755)
    subprocess.run(["bash"], input=script, text=True, check=True, env={"PATH": f"{folder}:/usr/bin:/bin"}, stdin=None)
    return log.read_text().splitlines()


# --- settings


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"gcp:project": None}, "gcp:project: is missing. Fix: `pulumi config set gcp:project VALUE`."),
        ({"gcp:project": "My Project"}, 'gcp:project: "My Project" is not a project ID. Fix: give the ID'),
        ({"stateBucket": "Team_State!"}, 'stateBucket: "Team_State!" is not a valid bucket name. Fix: use 3 to 63'),
        ({"location": "tokyo"}, 'location: "tokyo" is not a region'),
        ({"repository": "https://github.com/a/b"}, "is not a GitHub repository. Fix: give OWNER/NAME"),
        ({"repositoryId": "team/fungibility"}, "is not one of GitHub's numbers. Fix: `gh api repos/OWNER/NAME --jq .id`"),
        ({"ownerId": 0}, 'ownerId: "0" is not one of GitHub\'s numbers'),
        ({"branch": "a b"}, 'branch: "a b" is not a valid branch name'),
        ({"environments": []}, "environments: [] is not a list of environments. Fix: give at least one"),
        ({"environments": "dev"}, 'environments: "dev" is not a list'),
        ({"environments": [{"name": "Dev", "project": "team-dev"}]}, 'environments[0].name: "Dev" is not a valid environment name'),
        ({"environments": [{"name": "a-preview", "project": "team-dev"}]}, "not ending in -preview"),
        ({"environments": [{"name": "a" * 21, "project": "team-dev"}]}, "up to 20 lower-case letters"),
        ({"environments": [{"name": "dev"}]}, "environments[0].project: is missing. Fix: give the ID"),
        ({"environments": [{"name": "dev", "project": "team-dev"}] * 2}, '"dev" is the name of more than one environment'),
        (
            {"environments": [{"name": "dev", "project": "team-dev", "reviewer": []}]},
            "environments[0].reviewer: [] is not a key of an environment. Fix: did you mean reviewers?",
        ),
        ({"environments": [{"name": "dev", "project": "team-dev", "reviewers": ["me"]}]}, '"me" is not a reviewer. Fix: give User:NUMBER'),
        ({"environments": [{"name": "dev", "project": "team-dev", "reviewers": ["User:1"] * 7}]}, "more than the 6 that are allowed"),
        ({"environments": [{"name": "dev", "project": "team-dev", "readsFrom": ["dev"]}]}, '"dev" is not another environment'),
        ({"environments": [{"name": "dev", "project": "team-dev", "secrets": ["projects/p/secrets/s"]}]}, "give the name alone"),
        ({"environments": [{"name": "dev", "project": "team-dev", "secrets": "s"}]}, "is not a list. Fix: give a YAML list"),
    ],
)
def test_a_wrong_setting_is_named_with_value_reason_and_fix(change: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        run_bootstrap(change)
    assert said in str(caught.value)


def test_all_problems_come_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        run_bootstrap(dict.fromkeys(SETTINGS))
    assert len(caught.value.problems) == len(SETTINGS)
