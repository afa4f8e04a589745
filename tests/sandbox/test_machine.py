"""Faults of the sandbox's own machine; `python -m trials drills machine` tries many more."""

from __future__ import annotations

import pytest

from sandbox.cli.client import fresh_sandbox
from trials.drills.machine import FAULTS, tried

pytestmark = pytest.mark.sandbox


def test_daemon_killed_in_the_middle_of_up_is_named_leaves_no_orphan_and_the_next_up_works() -> None:
    (fault,) = [each for each in FAULTS if each.event == "daemon killed in the middle of `up`"]
    with fresh_sandbox("test-machine", {"SANDBOX_SPEED": "200"}) as sandbox:
        result = tried(sandbox, fault)
    assert result.lost == 0, result.recovery
