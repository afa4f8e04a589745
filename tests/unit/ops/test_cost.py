"""What a stack costs: the counts behind idle, usual and maximum, and how they are told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from components.catalog import prices
from components.settings import sections, settings, stack_files
from ops import cost
from ops.cost import report
from ops.cost.__main__ import main
from tests.unit import program

L4 = 0.5600402 + 0.146792
L4_SPOT = 0.3359 + 0.088056

#: What is there whatever the pools are: three system nodes, the control plane, the load balancer.
FIXED = 3 * 0.0670114 + 0.10 + 0.025


def pool(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "machineType": "g2-standard-4", "maxNodeCount": 2, **more}


def load(pools: list[dict[str, Any]], **more: Any) -> sections.Settings:
    region = {"region": "us-central1", "zone": "us-central1-a"}
    return settings.load_stack("dev", {"gcp:project": "my-project", **region, "acceleratorPools": pools, **more})


def counts(found: cost.Estimate) -> dict[str, tuple[int, int, int]]:
    return {line.name: (line.idle, line.usual, line.maximum) for line in found.lines}


def test_dev_makes_the_pools_of_its_list() -> None:
    found = cost.estimate(settings.load_stack("dev", {"gcp:project": "my-project"}))
    assert counts(found) == {
        "v6e-1": (1, 1, 2),
        "l4-spot": (0, 0, 2),
        "l4": (1, 1, 2),
        "system": (3, 3, 3),
        "control plane": (1, 1, 1),
        "load balancer": (1, 1, 1),
    }
    assert found.idle == pytest.approx(3.24 + 0.907714 + 3 * 0.0859657 + 0.125, abs=1e-4)
    assert found.unpriced == ()


@pytest.mark.parametrize(
    ("gateway", "expected"),
    [
        ({"class": "gke-l7-rilb"}, 3 * 0.025),
        ({"class": "gke-l7-global-external-managed", "hostName": "llm.example.com", "certificate": {"secret": "tls"}}, 0.025),
    ],
)
def test_a_gateway_costs_its_proxies_inside_the_vpc_and_its_rules_outside(gateway: dict[str, Any], expected: float) -> None:
    lines = {line.name: line for line in cost.estimate(load([pool("l4")], gateway=gateway)).lines}
    price = lines["gateway"].price
    assert price is not None
    assert lines["gateway"].idle * price.usd == pytest.approx(expected)
    assert "load balancer" not in lines


def test_counts_are_for_each_zone() -> None:
    zones = ["us-central1-a", "us-central1-b", "us-central1-c"]
    found = cost.estimate(load([pool("l4", minNodeCount=1, zones=zones)], systemNodesPerZone=2))
    assert counts(found)["l4"] == (3, 3, 6)
    assert counts(found)["system"] == (6, 6, 6)


@pytest.mark.parametrize(
    ("replicas", "expected"),
    [
        # The best pool first, and no pool below its minimum.
        (1, (1, 0, 1)),
        (3, (2, 1, 1)),
        (4, (2, 2, 1)),
        (5, (2, 2, 1)),
    ],
)
def test_usual_is_what_the_replicas_need_on_the_best_pools(replicas: int, expected: tuple[int, ...]) -> None:
    pools = [pool("best"), pool("next"), pool("last", minNodeCount=1)]
    loaded = load(pools, replicas=replicas)
    assert cost.usual_nodes(replicas, loaded.accelerators.pools) == expected


def test_totals_are_the_sums_of_the_lines() -> None:
    pools = [pool("spot", provisioning="spot"), pool("l4", minNodeCount=1)]
    found = cost.estimate(load(pools, replicas=2))
    assert found.idle == pytest.approx(FIXED + L4, abs=1e-5)
    assert found.usual == pytest.approx(FIXED + 2 * L4_SPOT + L4, abs=1e-5)
    assert found.maximum == pytest.approx(FIXED + 2 * L4_SPOT + 2 * L4, abs=1e-5)


def test_a_part_without_a_price_is_named_and_in_no_total() -> None:
    loaded = load([pool("l4")], systemMachineType="n4-standard-2")
    found = cost.estimate(loaded)
    assert [line.name for line in found.unpriced] == ["system"]
    assert found.maximum == pytest.approx(2 * L4 + 0.125, abs=1e-5)
    for rendered in (report.text("dev", "us-central1", found), report.markdown("dev", "us-central1", found)):
        assert "unknown" in rendered
        assert "No price is known of: system (n4-standard-2, on-demand). The totals are without them" in rendered
    assert json.loads(report.as_json("dev", "us-central1", found))["unpriced"] == ["system"]
    assert cost.summary(loaded).endswith("; without system, of which no price is known")


def test_summary_is_one_line_with_the_three_amounts_and_the_date_of_the_oldest_price() -> None:
    line = cost.summary(load([pool("spot", provisioning="spot")]))
    assert line == (
        f"Cost: about {FIXED:.2f} USD an hour idle, {FIXED + L4_SPOT:.2f} with 1 replica, {FIXED + 2 * L4_SPOT:.2f} at most "
        f"(prices of {prices.BILLING_COPY.date}; `python -m ops cost` says more)"
    )
    assert "with 2 replicas" in cost.summary(load([pool("spot", provisioning="spot", maxNodeCount=3)], replicas=2))


def test_text_has_every_part_the_month_and_what_is_not_counted(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--stack", "dev"]) == 0
    printed = capsys.readouterr().out
    rows = {line.split("  ")[0]: line.split() for line in printed.splitlines()}
    assert rows["v6e-1"][-4:] == ["3.24", "(1)", "6.48", "(2)"]
    assert "a month (730 h)" in printed
    assert "2026-08-20" in printed
    assert "Not counted: boot disks" in printed
    assert "Unverified for this region: load balancer" in printed


def test_json_has_hours_and_months(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--stack", "dev", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["currency"] == "USD"
    assert document["month"]["idle"] == pytest.approx(document["hour"]["idle"] * 730, abs=0.1)
    each = {line["name"]: line["hourEach"] * line["maximum"] for line in document["lines"]}
    assert sum(each.values()) == pytest.approx(document["hour"]["maximum"], abs=1e-3)


def test_wrong_settings_are_listed_and_exit_with_2(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "Pulumi.bad.yaml"
    file.write_text("config:\n  tpu-gpu-fungibility:replicas: 0\n")
    monkeypatch.setattr(stack_files, "stack_file", lambda stack, project_dir: file)
    assert main(["--stack", "bad"]) == 2
    error = capsys.readouterr().err
    assert "replicas" in error
    assert "acceleratorPools" in error
    # Prices do not depend on the project.
    assert "gcp:project" not in error


def test_the_program_says_what_it_costs_at_every_run(capsys: pytest.CaptureFixture[str]) -> None:
    said: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pulumi.log.info", lambda message, *rest, **more: said.append(message))
        program.run_program_anew()
    assert said == [cost.summary(settings.load_stack("dev", {"gcp:project": "my-project"}))]


def test_a_disabled_pool_costs_nothing_once_its_nodes_are_gone() -> None:
    found = cost.estimate(load([pool("a", minNodeCount=1, enabled=False), pool("b")]))
    assert counts(found)["a"] == (0, 0, 0)
