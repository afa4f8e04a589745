"""Docker for the container tests, and a loud word where there is none."""

import os
import signal
from collections.abc import Iterator

import pytest

from tests.images.image_docker import Docker, NoDocker, some_docker

REQUIRED = "REQUIRE_DOCKER"
"""Environment variable that turns missing Docker from a skip into a failure: continuous integration sets it."""

_absent = pytest.StashKey[str]()


@pytest.fixture(scope="session")
def docker(request: pytest.FixtureRequest) -> Iterator[Docker]:
    try:
        with some_docker() as docker:
            yield docker
    except NoDocker as absent:
        if os.environ.get(REQUIRED):
            pytest.fail(f"{REQUIRED} is set, but {absent}", pytrace=False)
        request.config.stash[_absent] = str(absent)
        pytest.skip(f"no Docker: {absent}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if reason := config.stash.get(_absent, ""):
        terminalreporter.section("NO CONTAINER WAS TESTED", red=True, bold=True)
        terminalreporter.line(f"The images were neither built nor run: {reason}.")
        terminalreporter.line(f"Set {REQUIRED}=1 to make this a failure.")


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """A shell starts its background jobs with SIGINT ignored, and what ignores a signal hands that on: no script could trap it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
