"""Runs the bootstrap program against a recording monitor, as `program` does with the main one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pulumi.runtime import mocks

from tests.unit.program import ROOT, Run, run_recorded

NAMESPACE = "tpu-gpu-fungibility-bootstrap"
POOL = "projects/123/locations/global/workloadIdentityPools/github"

SETTINGS: dict[str, Any] = {
    "gcp:project": "team-operations",
    "stateBucket": "team-pulumi-state",
    "repository": "team/fungibility",
    "repositoryId": 4711,
    "ownerId": 12,
    "environments": [
        {"name": "dev", "project": "team-dev"},
        {"name": "prod", "project": "team-prod", "reviewers": ["User:1", "Team:22"], "readsFrom": ["dev"], "secrets": ["hf-token"]},
    ],
}


class _Mocks(mocks.Mocks):
    def call(self, args: mocks.MockCallArgs) -> tuple[dict[Any, Any], list[tuple[str, str]] | None]:
        return {}, []

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        state = dict(args.inputs)
        if args.typ == "gcp:serviceaccount/account:Account":
            email = f"{state['accountId']}@{state['project']}.iam.gserviceaccount.com"
            state |= {"email": email, "name": f"projects/{state['project']}/serviceAccounts/{email}"}
        elif args.typ == "gcp:iam/workloadIdentityPool:WorkloadIdentityPool":
            state["name"] = POOL
        elif args.typ == "gcp:iam/workloadIdentityPoolProvider:WorkloadIdentityPoolProvider":
            state["name"] = f"{POOL}/providers/{state['workloadIdentityPoolProviderId']}"
        elif args.typ == "gcp:projects/iAMCustomRole:IAMCustomRole":
            state["name"] = f"projects/{state['project']}/roles/{state['roleId']}"
        elif args.typ == "gcp:kms/keyRing:KeyRing":
            return f"projects/{state['project']}/locations/{state['location']}/keyRings/{state['name']}", state
        elif args.typ == "gcp:kms/cryptoKey:CryptoKey":
            return f"{state['keyRing']}/cryptoKeys/{state['name']}", state
        return f"{args.name}-id", state


def config(overrides: Mapping[str, Any] | None = None) -> dict[str, str]:
    """What the engine hands to the program: `SETTINGS`, then `overrides` (None removes)."""
    values = {**SETTINGS, **(overrides or {})}
    return {
        key if ":" in key else f"{NAMESPACE}:{key}": value if isinstance(value, str) else json.dumps(value)
        for key, value in values.items()
        if value is not None
    }


def run_bootstrap(overrides: Mapping[str, Any] | None = None) -> Run:
    """Runs `bootstrap/__main__.py` once; every resource's keys are checked against the SDK. Raises what the program raises."""
    return run_recorded(ROOT / "bootstrap" / "__main__.py", Run(), _Mocks(), config(overrides), project=NAMESPACE, stack="team")
