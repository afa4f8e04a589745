"""What the quick tier tells its interpreter."""

from __future__ import annotations

import gc
import logging
import socketserver
from collections.abc import Iterator

import pytest

# The provider SDKs are hundreds of thousands of objects that stay to the end: at its usual pace the collector walks over them again and
# again while they load and with every program that a test runs, which is a seventh of the tier's time.
gc.set_threshold(200_000, 50, 10_000)

# A refused program leaves thousands of futures that are never awaited. When they are collected, which is in the middle of
# another test, asyncio would write each of them with its traceback: seconds in which that test's server does not answer. By the level,
# since whoever configures logging, as uvicorn does, enables a disabled logger again.
logging.getLogger("asyncio").setLevel(logging.CRITICAL)


@pytest.fixture(scope="session", autouse=True)
def servers_that_end_at_once() -> Iterator[None]:
    """`shutdown` of the standard library's servers waits until they next look, by default up to half a second, in every test anew."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socketserver.BaseServer.serve_forever, "__defaults__", (0.01,))
        yield
