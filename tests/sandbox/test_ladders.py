"""The real engine previews a public configuration from examples/ladders, with pools in every way that Google sells nodes."""

from __future__ import annotations

import json

from components.settings.stack_files import PROJECT_NAME, configuration
from sandbox.cli.client import Sandbox
from tests.sandbox.conftest import ROOT
from tests.sandbox.stacks import stack_of


def test_an_example_is_previewed_with_a_pool_for_each_entry(sandbox: Sandbox) -> None:
    values = configuration(ROOT / "examples" / "ladders" / "l4-every-way-to-buy.yaml")
    # The sandbox's Secret Manager has no such secret.
    del values[f"{PROJECT_NAME}:apiKeySecret"]
    with stack_of(sandbox, ROOT, "ladder", {**values, "gcp:project": "sandbox-project", f"{PROJECT_NAME}:requireApiKey": False}) as stack:
        preview = json.loads(stack.pulumi("preview", "--json").stdout)
    pools = {each["newState"]["inputs"]["name"]: each["newState"]["inputs"] for each in preview["steps"] if "/nodePool:" in each["urn"]}
    assert {each["name"] for each in values[f"{PROJECT_NAME}:acceleratorPools"]} == pools.keys() - {"system"}
    assert pools["l4-flex-day"]["nodeConfig"]["maxRunDuration"] == "86400s"
    assert pools["l4-reserved"]["nodeConfig"]["reservationAffinity"]["values"] == ["nvidia-l4-specific"]
