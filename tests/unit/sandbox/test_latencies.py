"""The sandbox's clock: what is waited for, and what the cluster's creation is made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from sandbox.gke.cloud import Cloud
from sandbox.gke.local_cluster import LocalCluster
from sandbox.google.latencies import LATENCIES, Clock
from sandbox.host.paths import Paths
from sandbox.host.processes import Spawner
from sandbox.images.image_store import ImageStore


class Time:
    """This machine's clock, which only passes during waits and work."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.waited: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.waited.append(seconds)
        self.now += seconds


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    result = Time()
    monkeypatch.setattr("sandbox.google.latencies.time", result)
    return result


def test_an_operation_takes_its_time_divided_by_the_speed(time: Time) -> None:
    Clock(10.0).sleep("cluster_create")
    assert time.waited == [LATENCIES["cluster_create"] / 10]


def test_what_is_done_meanwhile_is_part_of_the_operations_time(time: Time) -> None:
    with Clock(2.0).during("node_join", "node_pool_create"):
        time.now += 5
    assert time.waited == [(LATENCIES["node_join"] + LATENCIES["node_pool_create"]) / 2 - 5]


def test_what_takes_longer_than_the_operation_is_not_waited_for(time: Time) -> None:
    with Clock(1000.0).during("node_join"):
        time.now += 5
    assert time.waited == [0.0]


def test_what_fails_is_not_waited_for(time: Time) -> None:
    with pytest.raises(OSError), Clock(1.0).during("cluster_create"):
        raise OSError
    assert time.waited == []


@pytest.mark.parametrize(
    ("inputs", "operations"),
    [
        ({}, ["cluster_create"]),
        ({"removeDefaultNodePool": False}, ["cluster_create"]),
        ({"removeDefaultNodePool": True}, ["cluster_create", "node_pool_delete"]),
    ],
)
def test_a_clusters_creation_includes_the_removal_of_its_default_pool(
    inputs: dict[str, Any], operations: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, time: Time
) -> None:
    made = Cloud(
        paths=Paths(cache=tmp_path / "cache", state=tmp_path / "state"),
        spawner=cast(Spawner, None),
        images=cast(ImageStore, None),
        environment={},
        clock=Clock(1.0),
    )
    monkeypatch.setattr(made, "_bring_up", lambda *_: cast(LocalCluster, None))
    monkeypatch.setattr(made, "_facts", lambda *_: {})
    made.create_cluster("projects/p/locations/l/clusters/c", inputs)
    assert time.waited == [sum(LATENCIES[each] for each in operations)]
