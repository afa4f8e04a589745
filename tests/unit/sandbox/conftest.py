"""Fixtures of several of the sandbox's tests. Left out: what only one file uses."""

from pathlib import Path
from typing import cast

import pytest

from sandbox.google.records import Records
from sandbox.host.certificates import Certificates, make_certificates
from sandbox.host.paths import Paths
from sandbox.host.processes import Spawner
from sandbox.images.image_builder import ImageBuilder
from sandbox.images.image_store import ImageStore


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """A sandbox's folders, with an empty state."""
    (tmp_path / "state").mkdir()
    return Paths(cache=tmp_path / "cache", state=tmp_path / "state")


@pytest.fixture
def records(tmp_path: Path) -> Records:
    return Records(tmp_path / "cloud.json")


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "store")


@pytest.fixture
def builder(store: ImageStore, tmp_path: Path) -> ImageBuilder:
    """A machine's without Docker."""
    return ImageBuilder(store, state_dir=tmp_path / "state", spawner=cast(Spawner, None), environment={"PATH": ""})


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"), names=("localhost",), addresses=("127.0.0.1",))
