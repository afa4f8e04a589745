"""Fixtures of several of the sandbox's tests. Left out: what only one file uses."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox.google.records import Records
from sandbox.host.certificates import Certificates, make_certificates
from sandbox.host.paths import Paths


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """A sandbox's folders, with an empty state."""
    (tmp_path / "state").mkdir()
    return Paths(cache=tmp_path / "cache", state=tmp_path / "state")


@pytest.fixture
def records(tmp_path: Path) -> Records:
    return Records(tmp_path / "cloud.json")


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"), names=("localhost",), addresses=("127.0.0.1",))
