"""The price table: what it knows, what it says it does not know, and that its parts add up to what Google lists."""

from __future__ import annotations

import pytest

from components.catalog import prices
from components.catalog.machines import MACHINE_TYPES, Provisioning
from components.catalog.prices import node_price

REGION = "us-central1"


def usd(machine_type: str, provisioning: Provisioning, region: str) -> float:
    price = node_price(machine_type, provisioning, region)
    assert price is not None
    return price.usd


@pytest.mark.parametrize("machine_type", MACHINE_TYPES)
def test_every_machine_type_of_the_ladder_has_a_price(machine_type: str) -> None:
    spot = usd(machine_type, "spot", REGION)
    assert 0 < spot < usd(machine_type, "on-demand", REGION)
    assert usd(machine_type, "preemptible", REGION) == spot


# Rows of the sources that the table was not computed from.
@pytest.mark.parametrize(
    ("machine_type", "provisioning", "region", "listed"),
    [
        ("g2-standard-24", "on-demand", "asia-northeast1", 2.569469224),
        ("g2-standard-24", "spot", "asia-northeast1", 1.541576),
        ("g2-standard-24", "on-demand", "asia-south1", 2.082773268),
        ("ct6e-standard-8t", "on-demand", "asia-northeast1", 25.92),
        ("ct6e-standard-8t", "spot", "us-east4", 4.6213),
        ("ct6e-standard-4t", "on-demand", "europe-west4", 11.88),
        ("e2-standard-32", "on-demand", "europe-west1", 1.17944736),
    ],
)
def test_a_node_costs_what_the_sources_list_for_the_whole_machine(
    machine_type: str, provisioning: Provisioning, region: str, listed: float
) -> None:
    assert usd(machine_type, provisioning, region) == pytest.approx(listed, rel=1e-4)


@pytest.mark.parametrize(
    ("machine_type", "region"),
    [
        ("g2-standard-4", "us-east5"),  # TPUs, and no L4
        ("ct6e-standard-1t", "asia-east1"),
        ("n4-standard-2", REGION),
        ("e2-highmem-2", REGION),
        ("e2-standard-2", "mars-north1"),
    ],
)
def test_what_the_table_does_not_know_has_no_price(machine_type: str, region: str) -> None:
    assert node_price(machine_type, "on-demand", region) is None


def test_every_pair_is_on_demand_then_spot() -> None:
    for rates in (*prices._TPU_CHIP.values(), prices._L4, prices._G2_UNIT, prices._E2_STANDARD_2):
        for region, (on_demand, spot) in rates.by_region.items():
            assert 0 < spot < on_demand, region
    assert set(prices._L4.by_region) == set(prices._G2_UNIT.by_region)
