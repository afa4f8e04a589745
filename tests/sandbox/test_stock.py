"""A pool that is out of stock when it is made, and one whose requests are held, on the stack of the tier: by a person's commands."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

import pytest
import yaml

from components.serving.fallback_program import HOLDS
from components.serving.fallback_timer import NAMESPACE
from components.settings.stack_files import PROJECT_NAME
from sandbox.cli.client import Sandbox
from trials.drills import events

POOL = "l4-b"
_UP = ("up", "--yes", "--skip-preview", "--non-interactive", "--continue-on-error")


@pytest.fixture
def fourth_pool(sandbox: Sandbox) -> str:
    """A pool that the settings name and that does not exist yet."""
    document = yaml.safe_load(sandbox.stack_config.read_text())
    pools = document["config"][f"{PROJECT_NAME}:acceleratorPools"]
    pools.append({**pools[-1], "name": POOL})
    sandbox.stack_config.write_text(yaml.safe_dump(document))
    sandbox.command("stock", POOL, "out")
    return POOL


def _nodes(sandbox: Sandbox) -> int:
    return sum(node["pool"] == POOL for node in sandbox.status()["nodes"])


def _status_of_class(sandbox: Sandbox) -> str:
    return sandbox.kubectl("get", "computeclass", "vllm-fallback", "-o", "jsonpath={.status.priorityStatuses}")


def _wait(comes_true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not comes_true():
        assert time.monotonic() < deadline
        time.sleep(0.3)


def test_a_pool_out_of_stock_is_named_with_the_fix_does_not_interrupt_service_and_is_completed_by_the_next_update(
    sandbox: Sandbox, fourth_pool: str
) -> None:
    first = sandbox.pulumi(*_UP, check=False)
    assert first.returncode != 0
    (said, *_) = [line for line in first.stdout.splitlines() if f"warning: Accelerator pool {fourth_pool} " in line]
    for part in ("none is free there now", "`enabled: false`", "run the same update again"):
        assert part in said
    sandbox.command("chat", "Who serves?")
    status = sandbox.status()
    assert (status["out_of_stock"], _nodes(sandbox)) == ({fourth_pool: "out"}, 0)
    # It is the last of the priorities, of which none is ever suspended.
    _wait(lambda: "ProvisioningConstrained" in _status_of_class(sandbox))
    # The runbook's; whether a pod waited for the pool is not said here.
    sandbox.kubectl("get", "events", "--field-selector", "reason=FailedScaleUp")
    sandbox.command("stock", fourth_pool, "in")
    # By itself: the pool is below its minimum.
    _wait(lambda: _nodes(sandbox) == 1)
    sandbox.pulumi(*_UP)
    sandbox.pulumi("preview", "--expect-no-changes", "--non-interactive")


def _placeholders(sandbox: Sandbox) -> int:
    return len(sandbox.kubectl("get", "pods", "-n", NAMESPACE, "-l", HOLDS, "-o", "name").split())


def test_a_held_tpu_lets_replicas_go_to_the_next_pools_until_it_has_a_machine(sandbox: Sandbox) -> None:
    timed = {"fallbackAfterMinutes": 30}
    sandbox.pulumi(*_UP, overrides=timed)
    # One that comes later takes the replica for which the TPU was asked, and nothing has to be passed.
    _wait(lambda: {"l4", POOL} <= {node["pool"] for node in sandbox.status()["nodes"] if node["ready"]})
    sandbox.command("stock", "v6e-1", "hold")
    # Two of them have to pass the TPU's free place: the warm nodes of the lower pools do not do for all.
    sandbox.kubectl("scale", "deploy/vllm", "--replicas=5")
    _wait(lambda: len(events.serving(sandbox)) == 5)
    assert Counter(events.serving(sandbox).values())["v6e-1"] == 1
    assert _placeholders(sandbox) > 0
    sandbox.pulumi("preview", "--expect-no-changes", "--non-interactive", overrides=timed)
    sandbox.command("stock", "v6e-1", "in")
    _wait(lambda: not _placeholders(sandbox))
    assert "v6e-1 is tried again" in sandbox.kubectl("logs", "-n", NAMESPACE, "deploy/fallback-timer")
    sandbox.pulumi(*_UP)
    assert NAMESPACE not in sandbox.kubectl("get", "namespaces", "-o", "name")
