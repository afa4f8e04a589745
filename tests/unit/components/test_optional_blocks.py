"""What a setting switches on goes off with it: what the program says, and what the real provider would make of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from components.cluster.optional_blocks import OPTIONAL_BLOCKS, OptionalBlock
from sandbox.google.records import Records
from sandbox.providers.computed_fields import computed_fields
from sandbox.providers.gcp import GcpProvider
from tests.unit.components.test_program import TOGETHER
from tests.unit.program import run_program
from tests.unit.provider_client import Client, Engine, urn
from tests.unit.sandbox.test_provider_gcp import DictionaryCloud

ROWS = pytest.mark.parametrize("row", OPTIONAL_BLOCKS, ids=lambda row: f"{row.setting}-{row.field}")
POOL = [{"name": "l4", "machineType": "g2-standard-4", "maxNodeCount": 2}]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    records = Records(tmp_path_factory.mktemp("records") / "cloud.json")
    with Engine(lambda: GcpProvider(DictionaryCloud(), records)) as engine:
        connected = engine.connect()
        connected.configure(project="p", region="asia-northeast1")
        yield connected


def _resources(row: OptionalBlock) -> tuple[dict[str, Any], dict[str, Any]]:
    """Inputs of one resource of the row's kind with the setting on, and off again."""
    beside = TOGETHER.get(row.setting, {})
    off = {"acceleratorPools": POOL} if row.setting == "acceleratorPools" else beside
    found = []
    for overrides in ({**beside, row.setting: row.on}, off):
        of_kind = {each.name: each for each in run_program(overrides).of_type(row.resource)}
        found.append(next((each for name, each in of_kind.items() if name in ("l4", "cluster", "images")), None))
        if found[-1] is None:
            found[-1] = next(iter(of_kind.values()))
    return found[0].inputs, found[1].inputs  # type: ignore[union-attr]


def _at(inputs: Any, field: str) -> Any:
    for key in field.split("."):
        inputs = inputs.get(key) if isinstance(inputs, dict) else None
    return inputs


@ROWS
def test_the_program_says_what_off_means(row: OptionalBlock) -> None:
    on, off = _resources(row)
    assert _at(on, row.field) != row.off
    assert _at(off, row.field) == row.off
    assert (row.field in computed_fields(row.resource)) is row.computed
    # A computed field that is left out would stay.
    assert row.off is not None or not row.computed


@ROWS
def test_switching_off_is_one_change_and_then_none(row: OptionalBlock, client: Client) -> None:
    on, off = _resources(row)
    found = client.diff(urn(row.resource, "x"), on, off)
    top = row.field.partition(".")[0]
    kinds = {kind for path, kind in found.details.items() if path.startswith(top)}
    assert kinds, f"{row.field} stays on"
    assert any(kind.endswith("_REPLACE") for kind in kinds) is row.replaces or row.setting == "network"
    assert not client.diff(urn(row.resource, "x"), off, off).changed


def test_the_fields_are_those_of_one_version_of_the_provider() -> None:
    data = json.loads((Path("sandbox/providers/computed_fields.json")).read_text())
    assert (data["commit"], data["date"]) == ("e03b7622a26cf4e878f90bdccaca6aa3d03a7999", "2026-08-21")
