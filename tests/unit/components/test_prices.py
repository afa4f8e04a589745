"""The price table: what it knows, what it says it does not know, and that its parts add up to what Google lists."""

from __future__ import annotations

import pytest

from components.catalog import prices
from components.catalog.machines import MACHINE_TYPES, Provisioning
from components.catalog.prices import node_price

REGION = "us-central1"


def usd(machine_type: str, provisioning: Provisioning, region: str) -> float:
    price = node_price(machine_type, provisioning, region, 1)
    assert price is not None
    return price.usd


def test_every_machine_type_has_a_price_where_google_has_it_but_for_those_without_a_source() -> None:
    unknown = []
    for machine_type in MACHINE_TYPES:
        if (
            region := next((each for each in (REGION, "us-central2", "us-east4") if node_price(machine_type, "spot", each, 1)), None)
        ) is None:
            unknown.append(machine_type)
            continue
        spot, on_demand = usd(machine_type, "spot", region), usd(machine_type, "on-demand", region)
        assert 0 < spot < on_demand
        assert (usd(machine_type, "preemptible", region), usd(machine_type, "reservation", region)) == (spot, on_demand)
        assert node_price(machine_type, "flex-start", region) is None
    g4 = [f"g4-standard-{vcpus}" for vcpus in (48, 96, 192, 384)]
    assert unknown == ["tpu7x-standard-1t", "tpu7x-standard-4t", *g4, "a3-ultragpu-8g", "a4-highgpu-8g"]


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
        ("a2-highgpu-8g", "on-demand", REGION, 29.38708),
        ("a2-ultragpu-4g", "spot", REGION, 8.10987342),
        ("a2-megagpu-16g", "on-demand", REGION, 55.739504),
        ("a3-highgpu-4g", "on-demand", REGION, 44.24499995),
        ("ct5p-hightpu-4t", "on-demand", REGION, 16.8),
        ("ct4p-hightpu-4t", "spot", "us-central2", 3.686),
        # As the autoscaler's own prices of N1: 4 x 0.031611 and 15 x 0.004237, and the T4.
        ("n1-standard-4", "on-demand", REGION, 0.189999 + 0.35),
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


def test_an_n1_costs_more_with_each_gpu_and_nothing_is_guessed_while_their_number_is_unknown() -> None:
    found = [node_price("n1-standard-8", "on-demand", REGION, count) for count in (None, 0, 1, 4)]
    assert [each and round(each.usd, 3) for each in found] == [None, 0.38, 0.73, 1.78]


def test_every_pair_is_on_demand_then_spot() -> None:
    hosts = {family: rates for family, (_, rates) in prices._HOST.items()}
    for rates in (*prices._ACCELERATOR.values(), *prices._WHOLE.values(), *hosts.values(), prices._E2_STANDARD_2):
        for region, (on_demand, spot) in rates.by_region.items():
            assert 0 < spot < on_demand, region
    for accelerator, family in (("nvidia-l4", "g2"), ("nvidia-tesla-t4", "n1")):
        assert set(prices._ACCELERATOR[accelerator].by_region) == set(hosts[family].by_region)
