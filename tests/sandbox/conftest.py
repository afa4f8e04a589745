"""One sandbox that most files share, beside any that a person runs: its own state, the same cache of tools."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

from sandbox.cli.client import Sandbox

ROOT = Path(__file__).resolve().parents[2]

#: In the stack's encrypted configuration from the start; a test looks for it wherever it must not be.
TOKEN = "hf_sandboxTokenThatNobodyMaySee"

#: Time is not the subject here, so Google's side of everything takes next to none of it.
SPEED = {"SANDBOX_SPEED": "500"}

#: The files that share a sandbox, and so a worker: first what expects the stack as it was deployed, then what leaves it changed, then what
#: takes its cluster away. A file that is not named starts what it needs itself, and another worker may run it at the same time.
_ORDER = (
    "test_dev_stack",
    "test_ci_commands",
    "test_live",
    "test_policies",
    "test_bootstrap_stack",
    "test_ladders",
    "test_consumer",
    "test_promotion",
    "test_answers",
    "test_autoscaling",
    "test_traffic",
    "test_gateway",
    "test_stock",
    "test_replaced_cluster",
    "test_end",
)


def take_down(sandbox: Sandbox) -> None:
    """Also after Ctrl-C, whose second signal, five seconds later, comes from xdist's own clearing up."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        sandbox.command("down", check=False)
    finally:
        signal.signal(signal.SIGINT, before)


class _Scheduling(LoadScopeScheduling):  # type: ignore[misc]
    """One worker for the files that share a sandbox. xdist's own `loadgroup` does not see a group with pytest 9.2."""

    def _split_scope(self, nodeid: str) -> str:
        file = Path(nodeid.partition("::")[0]).stem
        return "shared" if file in _ORDER else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    return _Scheduling(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    places = {name: place for place, name in enumerate(_ORDER)}
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.sandbox)
    items.sort(key=lambda item: places.get(item.path.stem, len(_ORDER)) if item.path.is_relative_to(here) else -1)


@pytest.fixture(scope="session")
def bare() -> Iterator[Sandbox]:
    """A sandbox that was not started; always taken down at the end."""
    sandbox = Sandbox(ROOT / ".sandbox" / "test-state", SPEED)
    take_down(sandbox)
    yield sandbox
    take_down(sandbox)


@pytest.fixture(scope="session")
def sandbox(bare: Sandbox) -> Sandbox:
    """A sandbox with the dev stack up, its token set."""
    up = bare.command("up")
    (bare.state.parent / "last-up.txt").write_text(up.stdout)
    bare.pulumi("config", "set", "--secret", "huggingFaceToken", "--", TOKEN)
    bare.command("up")
    return bare
