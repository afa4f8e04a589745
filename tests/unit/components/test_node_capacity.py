"""What a node offers to pods, against numbers of GKE's own documentation."""

from __future__ import annotations

import pytest

from components.catalog.capacity import allocatable_ephemeral_storage, allocatable_memory, allocatable_millicpu


@pytest.mark.parametrize(
    ("vcpus", "millicpu"),
    # Reserved: 60m of one core, 70m of two, 80m of four, 90m of eight, 180m of 44.
    [(1, 940), (2, 1930), (4, 3920), (8, 7910), (44, 43820)],
)
def test_cpu_that_gke_keeps_grows_ever_slower(vcpus: int, millicpu: int) -> None:
    assert allocatable_millicpu(vcpus) == millicpu


@pytest.mark.parametrize(
    ("memory_gb", "gib"),
    # 4: less 1. 8: less 1.8. 16: less 2.6. 128: less 9.32. 176: 2 % of what is above 128 more. 100 MiB less each.
    [(4, 3.0), (8, 6.2), (16, 13.4), (128, 118.68), (176, 165.72)],
)
def test_memory_that_gke_keeps_grows_ever_slower(memory_gb: int, gib: float) -> None:
    assert allocatable_memory(memory_gb) == pytest.approx(gib * 2**30 - 100 * 2**20)


@pytest.mark.parametrize(
    ("disk_gb", "gib"),
    # 10 % for eviction, and half of a small disk, 6 GiB + 35 % of a medium one, 100 GiB of a large one.
    [(20, 8.0), (100, 49.0), (500, 350.0)],
)
def test_boot_disk_leaves_less_than_half_of_a_small_one(disk_gb: int, gib: float) -> None:
    assert allocatable_ephemeral_storage(disk_gb) == pytest.approx(gib * 2**30)
