"""The `gh` commands that set up the repository: environments, reviewers, and the variables that the workflows read.

They contain no secret. They are only text, which a person reads and runs.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping

from bootstrap.settings import PREVIEW_SUFFIX, BootstrapSettings


def commands(settings: BootstrapSettings, *, backend_url: str, identity_provider: str, accounts: Mapping[str, str]) -> str:
    """A shell script that may be run again. `accounts`: GitHub environment -> e-mail address of its service account."""
    repository, branch = settings.repository, settings.branch
    lines = [
        f"gh variable set PULUMI_BACKEND_URL --repo {repository} --body {shlex.quote(backend_url)}",
        f"gh variable set WORKLOAD_IDENTITY_PROVIDER --repo {repository} --body {shlex.quote(identity_provider)}",
    ]
    for environment in settings.environments:
        api = f"gh api --method PUT repos/{repository}/environments"
        rules = {
            "reviewers": [
                {"type": kind, "id": int(number)} for kind, number in (reviewer.split(":") for reviewer in environment.reviewers)
            ],
            "deployment_branch_policy": {"protected_branches": False, "custom_branch_policies": True},
        }
        policies = f"repos/{repository}/environments/{environment.name}/deployment-branch-policies"
        lines += [
            f"{api}/{environment.name} --silent --input - <<< {shlex.quote(json.dumps(rules))}",
            # Checked first, since GitHub refuses the same policy twice.
            f"gh api {policies} --jq '.branch_policies[].name' | grep -qxF {shlex.quote(branch)} || "
            f"gh api --method POST {policies} --silent -f name={shlex.quote(branch)}",
            f"{api}/{environment.name}{PREVIEW_SUFFIX} --silent",
        ]
    lines += [
        f"gh variable set SERVICE_ACCOUNT --repo {repository} --env {name} --body {shlex.quote(email)}" for name, email in accounts.items()
    ]
    return "\n".join(["set -euo pipefail", *lines]) + "\n"
