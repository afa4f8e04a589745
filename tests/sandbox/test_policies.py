"""The real engine runs the policy pack in previews of the dev stack."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest
import yaml

from sandbox.cli.client import Sandbox
from tests.sandbox.conftest import ROOT, TOKEN


@pytest.fixture(autouse=True)
def environment() -> None:
    if not (ROOT / "policies" / ".venv" / "bin" / "python").exists():
        pytest.fail("policies/.venv is not there; `make policies/.venv/.installed` makes it", pytrace=False)


def checked_preview(sandbox: Sandbox, config: str = "", **overrides: Any) -> subprocess.CompletedProcess[str]:
    with_config = ["--policy-pack-config", config] if config else []
    return sandbox.pulumi("preview", "--non-interactive", "--policy-pack", "policies", *with_config, check=False, overrides=overrides)


def violations(screen: str, level: str) -> set[str]:
    """Names of the policies that a preview's screen shows as violated on a level."""
    return {line.split()[2] for line in screen.splitlines() if line.strip().startswith(f"- [{level}]")}


def test_dev_stack_passes_with_advisories_by_its_configuration_alone(sandbox: Sandbox) -> None:
    lenient = checked_preview(sandbox, "policies/dev.json")
    assert lenient.returncode == 0, lenient.stdout + lenient.stderr
    assert violations(lenient.stdout, "advisory") == {"no-public-control-plane", "no-open-server", "no-clear-text"}
    assert violations(lenient.stdout, "mandatory") == set()
    assert 'masterAuthorizedNetworksConfig.cidrBlocks[0].cidrBlock: "0.0.0.0/0" lets the whole internet try' in lenient.stdout
    # Production's levels hold for a stack without a configuration.
    strict = checked_preview(sandbox)
    assert strict.returncode != 0
    assert violations(strict.stdout, "mandatory") == {"no-public-control-plane", "no-open-server", "no-clear-text"}
    assert TOKEN not in lenient.stdout + lenient.stderr + strict.stdout + strict.stderr


def test_setting_that_costs_too_much_is_refused_before_anything_is_made(sandbox: Sandbox) -> None:
    pools = yaml.safe_load(sandbox.stack_config.read_text())["config"]["tpu-gpu-fungibility:acceleratorPools"]
    pools[0]["maxNodeCount"] = 20
    preview = checked_preview(sandbox, "policies/dev.json", acceleratorPools=pools, loadBalancerSourceRanges=["203.0.113.0/24"])
    assert preview.returncode != 0
    assert violations(preview.stdout, "mandatory") == {"cost-ceiling"}
    assert "v6e-1 20 x 3.24" in preview.stdout
    assert "is above the ceiling of 12" in preview.stdout
    # Source ranges fix the other one.
    assert violations(preview.stdout, "advisory") == {"no-public-control-plane", "no-clear-text"}


def test_first_preview_of_a_stack_says_what_only_the_update_decides(sandbox: Sandbox) -> None:
    stray = ROOT / "Pulumi.first.yaml"
    try:
        sandbox.pulumi("stack", "init", "first", "--secrets-provider", "passphrase", "--no-select")
        preview = sandbox.pulumi(
            "preview",
            "--stack",
            "first",
            "--non-interactive",
            "--policy-pack",
            "policies",
            "--policy-pack-config",
            "policies/dev.json",
            check=False,
        )
    finally:
        sandbox.pulumi("stack", "rm", "first", "--yes", "--force", "--preserve-config", check=False)
        stray.unlink(missing_ok=True)
    assert preview.returncode == 0, preview.stdout + preview.stderr
    assert "v6e-1: nodeConfig.serviceAccount is known only in the update, which decides it" in preview.stdout
    assert "containers[vllm-gpu].image is known only in the update, which decides it" in preview.stdout
    # What is known is decided, though the Kubernetes objects have no outputs yet.
    assert violations(preview.stdout, "advisory") >= {"no-public-control-plane", "no-open-server"}
