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
    ("memory_gb", "streaming", "gib"),
    # Google's own example is the node of 16 GB. Image streaming keeps 4 % of what GKE keeps, once more.
    [(16, False, 12.96), (16, True, 12.86), (4, False, 2.73), (176, True, 162.45)],
)
def test_memory_matches_google_s_page(memory_gb: int, streaming: bool, gib: float) -> None:
    assert allocatable_memory(memory_gb, image_streaming=streaming) / 2**30 == pytest.approx(gib, abs=0.005)


@pytest.mark.parametrize(
    ("disk_gb", "size"),
    # Google's own example is the disk of 100 GB.
    [(100, 47_060_071_478), (20, 4_255_406_681), (500, 364_212_485_773)],
)
def test_boot_disk_leaves_less_than_half_of_a_small_one(disk_gb: int, size: int) -> None:
    assert allocatable_ephemeral_storage(disk_gb) == size
