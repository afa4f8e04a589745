"""One sandbox for the whole tier, beside any that a person runs: its own state, the same cache of tools."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.cli.client import Sandbox

ROOT = Path(__file__).resolve().parents[2]

#: In the stack's encrypted configuration from the start; a test looks for it wherever it must not be.
TOKEN = "hf_sandboxTokenThatNobodyMaySee"


def _down(sandbox: Sandbox) -> None:
    sandbox.command("down", check=False)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The dev stack's own tests come first, since they begin with a new stack, and what takes its cluster away last.

    Its end is before sandboxes of their own begin.
    """
    order = {
        "test_dev_stack": -1,
        "test_replaced_cluster": 1,
        "test_end": 2,
        "test_machine": 3,
        "test_prod_stack": 4,
        "test_real_images": 5,
        "test_killed_update": 6,
    }
    items.sort(key=lambda item: order.get(item.path.stem, 0))


@pytest.fixture(scope="session")
def bare() -> Iterator[Sandbox]:
    """A sandbox that nobody has started; taken down at the end whatever happens."""
    sandbox = Sandbox(ROOT / ".sandbox" / "test-state")
    _down(sandbox)
    yield sandbox
    _down(sandbox)


@pytest.fixture(scope="session")
def sandbox(bare: Sandbox) -> Sandbox:
    """A sandbox with the dev stack up, its token set."""
    up = bare.command("up")
    (bare.state.parent / "last-up.txt").write_text(up.stdout)
    bare.pulumi("config", "set", "--secret", "huggingFaceToken", "--", TOKEN)
    bare.command("up")
    return bare
