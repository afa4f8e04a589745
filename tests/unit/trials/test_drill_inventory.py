"""What drills count: the cloud's own records, and what differs between two looks."""

from __future__ import annotations

from pathlib import Path

from sandbox.google.records import Records
from sandbox.host.state_files import write_object
from trials.drills.inventory import cloud_inventory, difference


def test_cloud_s_records_clusters_and_pools_are_counted_by_name(tmp_path: Path) -> None:
    records = Records(tmp_path / "cloud.json")
    for id in ("one", "two"):
        records.create("Account", id, {}, owner="urn:pulumi:sandbox::p::t::nodes")
    (tmp_path / "clusters" / "c" / "pools").mkdir(parents=True)
    write_object(tmp_path / "clusters" / "c" / "pools" / "l4.json", {})
    assert cloud_inventory(tmp_path) == {"cloud: Account nodes": 2, "cloud: cluster c": 1, "cloud: node pool l4": 1}


def test_a_difference_names_what_is_missing_and_what_is_there_twice() -> None:
    assert difference({"a": 1, "b": 1, "c": 1}, {"b": 2, "c": 1}) == "a: 0 instead of 1; b: 2 instead of 1"
    assert difference({"a": 1}, {"a": 1}) == ""
