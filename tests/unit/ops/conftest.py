"""A good project's answers and the checks that ask for them, for the tests of preflight."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import google.auth
import pytest

from tests.unit.preflight_run import Bench
from tests.unit.preflight_server import PreflightServer, credentials_file

_google_default = google.auth.default


@cache
def _cached_default(key: str, scopes: tuple[str, ...]) -> Any:
    assert os.environ["GOOGLE_APPLICATION_CREDENTIALS"] == key
    return _google_default(scopes=list(scopes))


@pytest.fixture(scope="session")
def shared_server() -> PreflightServer:
    """One for all tests of a process, since Google's clients are built for an address; its threads end with the process."""
    return PreflightServer()


@pytest.fixture(scope="session")
def key(shared_server: PreflightServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return credentials_file(tmp_path_factory.mktemp("key"), shared_server)


@pytest.fixture
def bench(shared_server: PreflightServer, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """On a server without what an earlier test has set."""

    def default(scopes: list[str]) -> Any:
        # google-auth checks the primes of a private key each time that it reads one, which takes most of a test's time.
        usual = os.environ.get("GOOGLE_APPLICATION_CREDENTIALS") == str(key)
        return _cached_default(str(key), tuple(scopes)) if usual else _google_default(scopes=scopes)

    monkeypatch.setattr(google.auth, "default", default)
    shared_server.reset()
    yield Bench(shared_server, key, tmp_path, monkeypatch)
    assert shared_server.violations == []
