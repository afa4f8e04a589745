"""A setting that a cluster cannot change while it lives, on the stack of the tier: its successor comes beside it."""

from __future__ import annotations

from typing import Any

from sandbox.cli.client import Sandbox
from sandbox.cli.status import wait_for_chat

_UP = ("up", "--yes", "--skip-preview", "--non-interactive")
_CHANGE: dict[str, Any] = {"networkPolicy": True}
_BESIDE: dict[str, Any] = {**_CHANGE, "clusterName": "successor"}


def _answers(sandbox: Sandbox) -> str:
    """The URL that answered; after an update the only replica may be on its way to a better pool."""
    outputs = sandbox.outputs()
    answer = wait_for_chat(outputs["service_url"], outputs["model"], "Who serves?", 60)
    assert answer.pool in outputs["accelerator_pools"]
    return str(outputs["service_url"])


def test_under_its_own_name_it_is_refused_with_the_fix_and_keeps_serving(sandbox: Sandbox) -> None:
    before = _answers(sandbox)
    refused = sandbox.pulumi(*_UP, check=False, overrides=_CHANGE)
    assert refused.returncode != 0
    assert "Cluster tpu-gpu-fungibility is there already" in refused.stdout
    assert "change clusterName in the same update" in refused.stdout
    assert _answers(sandbox) == before


def test_under_another_name_it_comes_first_and_the_old_one_goes_with_all_that_it_had(sandbox: Sandbox) -> None:
    before = _answers(sandbox)
    sandbox.pulumi(*_UP, overrides=_BESIDE)
    assert sandbox.outputs()["cluster_name"] == "successor"
    # Each load balancer has an address of its own, as at Google.
    assert _answers(sandbox) != before
    (left,) = (sandbox.state / "clusters").iterdir()
    assert left.name.endswith("_successor")
    sandbox.pulumi("preview", "--expect-no-changes", "--non-interactive", overrides=_BESIDE)
