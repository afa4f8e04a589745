"""Runs the bootstrap program against a recording monitor, as `program` does with the main one."""

from __future__ import annotations

import json
import runpy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import pulumi
from pulumi.runtime import mocks

from tests.unit import program
from tests.unit.program import ROOT, Run

FOLDER = ROOT / "bootstrap"
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


@dataclass
class BootstrapRun(Run):
    """A run, and the names of the resources that Pulumi will not delete."""

    protected: set[str] = field(default_factory=set)


class _Monitor(program._RecordingMonitor):
    def __init__(self, run: BootstrapRun) -> None:
        super().__init__(run)
        self.mocks = _Mocks()
        self._protected = run.protected

    def RegisterResource(self, request: Any) -> Any:
        if request.protect:
            self._protected.add(request.name)
        return super().RegisterResource(request)


def config(overrides: Mapping[str, Any] | None = None) -> dict[str, str]:
    """What the engine hands to the program: `SETTINGS`, then `overrides` (None removes)."""
    values = {**SETTINGS, **(overrides or {})}
    return {
        key if ":" in key else f"{NAMESPACE}:{key}": value if isinstance(value, str) else json.dumps(value)
        for key, value in values.items()
        if value is not None
    }


def run_bootstrap(overrides: Mapping[str, Any] | None = None) -> BootstrapRun:
    """Runs `bootstrap/__main__.py` once; every resource's keys are checked against the SDK. Raises what the program raises."""
    run = BootstrapRun()
    mocks.set_mocks(_Mocks(), project=NAMESPACE, stack="team", monitor=_Monitor(run))
    pulumi.runtime.set_all_config(config(overrides), [])
    exported: dict[str, pulumi.Output[Any]] = {}

    @pulumi.runtime.test  # type: ignore[untyped-decorator]
    def main() -> pulumi.Output[None]:
        runpy.run_path(str(FOLDER / "__main__.py"))
        return pulumi.Output.all(**exported).apply(run.outputs.update)

    def export(name: str, value: Any) -> None:
        exported[name] = pulumi.Output.from_input(value)

    with mock.patch.dict("os.environ", {"PULUMI_CONFIG": "{}"}), mock.patch.object(pulumi, "export", export):
        main()
    return run
