"""The benchmark: pods and prices of a cluster that answers as one does, measured by a program that reports as inference-perf does."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from components.catalog.prices import Price, Source
from ops.benchmark import __main__ as command
from ops.benchmark import report
from ops.benchmark.generator import GeneratorError, Load, Stage, run
from ops.benchmark.report import Rung
from ops.smoke.service import KEY_VARIABLE
from tests.unit.misbehaving_server import MODEL
from tests.unit.ops.test_smoke_serving_pools import api_server, kubectl_that_forwards, of_stack, pod

#: What it does with its configuration; tests/vllm runs the real one.
_GENERATOR = """#!/usr/bin/env python3
import json, sys, yaml
from pathlib import Path
asked = yaml.safe_load(Path(sys.argv[2]).read_text())
Path({folder!r}, "asked.json").write_text(json.dumps({{"arguments": sys.argv[1:], **asked}}))
if asked["server"]["base_url"].endswith(":1"):
    sys.exit("refused for " + asked["server"]["api_key"])
for number, stage in enumerate(asked["load"]["stages"]):
    speed = 10 * stage["concurrency_level"] * (1 if asked["server"]["base_url"].endswith(":2") else 4)
    seconds = {{"median": 0.1, "p95": 0.2}}
    Path(asked["storage"]["local_storage"]["path"], f"stage_{{number}}_lifecycle_metrics.json").write_text(json.dumps({{
        "successes": {{
            "count": stage["num_requests"] - 1,
            "latency": {{"time_to_first_token": seconds, "time_per_output_token": seconds}},
            "throughput": {{"input_tokens_per_sec": 1, "output_tokens_per_sec": speed, "requests_per_sec": speed / 10}},
            "goodput_metrics": {{"request_goodput": speed / 20}},
        }},
        "failures": {{"count": 1}},
    }}))
"""


@pytest.fixture
def generator(tmp_path: Path) -> Path:
    found = tmp_path / "inference-perf"
    found.write_text(_GENERATOR.format(folder=str(tmp_path)))
    found.chmod(0o755)
    return found


def stage(tokens: float, good: float) -> Stage:
    return Stage(
        concurrency=8,
        requests=64,
        failed=0,
        input_tokens=1,
        output_tokens=tokens,
        requests_per_second=2 * good,
        good_requests=good,
        first_token_median=0.1,
        first_token_p95=0.2,
        token_median=0.01,
    )


def rung(pool: str, usd: float | None, *stages: Stage) -> Rung:
    price = None if usd is None else Price(usd=usd, source=Source(date=date(2026, 1, 1), where="here"))
    return Rung(pool=pool, machine="m", price=price, stages=stages, skipped="" if stages else "no pod serves there")


def test_each_rung_is_measured_by_its_own_pod_and_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], generator: Path
) -> None:
    monkeypatch.setattr("ops.smoke.target.of_stack", lambda name: of_stack())
    monkeypatch.setenv(KEY_VARIABLE, "a-key")
    labels = {"v6e-1": ("ct6e-standard-1t", "standard"), "l4": ("g2-standard-4", "spot")}
    nodes = [
        {
            "metadata": {
                "name": f"node-{number}",
                "labels": {
                    "cloud.google.com/gke-nodepool": pool,
                    "cloud.google.com/gke-provisioning": provisioning,
                    "node.kubernetes.io/instance-type": machine,
                    "topology.kubernetes.io/region": "asia-northeast1",
                },
            }
        }
        for number, (pool, (machine, provisioning)) in enumerate(labels.items(), 1)
    ]
    kubectl_that_forwards(tmp_path, monkeypatch, {"a": 3, "b": 2})
    svg = tmp_path / "rungs.svg"
    options = ["--concurrency", "1,4", "--rounds", "2", "--generator", str(generator), "--svg", str(svg)]
    with api_server(tmp_path, pods=[pod("a", "node-1"), pod("b", "node-2")], nodes=nodes) as (_, kubeconfig):
        assert command.main(["--stack", "dev", "--kubeconfig", kubeconfig, "--json", *options]) == 0
        found = json.loads(capsys.readouterr().out)
        assert command.main(["--stack", "dev", "--kubeconfig", kubeconfig, *options]) == 0
    tpu, spot, l4 = found["rungs"]
    assert (tpu["pool"], tpu["machine"], tpu["usd_per_hour"]) == ("v6e-1", "ct6e-standard-1t, on-demand", 3.24)
    # 160 tokens a second.
    assert tpu["usd_per_million_tokens"] == pytest.approx(3.24 / (160 * 3600) * 1e6)
    assert (tpu["good_requests_per_second"], l4["good_requests_per_second"]) == (8, 2)
    assert l4["machine"] == "g2-standard-4, spot"
    assert spot["skipped"].startswith("no pod serves there")
    cheap, fast = found["verdict"]
    assert cheap.startswith("the ladder's order is not the cheapest first, which would be: l4 (3.78 USD")
    assert fast.startswith("the ladder's order is the fastest first: v6e-1 (8.00 requests/s")
    table = capsys.readouterr().out
    assert "1.00 (1 of 2 failed)" in table
    assert "l4-spot: not measured: no pod serves there" in table
    ElementTree.fromstring(svg.read_text())
    asked = json.loads((tmp_path / "asked.json").read_text())
    assert "a-key" not in " ".join(asked["arguments"])
    assert asked["server"] | {"base_url": ""} == {
        "type": "vllm",
        "model_name": MODEL,
        "base_url": "",
        "ignore_eos": True,
        "api_key": "a-key",
    }
    assert asked["load"]["stages"] == [{"concurrency_level": 1, "num_requests": 2}, {"concurrency_level": 4, "num_requests": 8}]


def test_a_rung_whose_pod_cannot_be_measured_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], generator: Path
) -> None:
    monkeypatch.setattr("ops.smoke.target.of_stack", lambda name: of_stack())
    kubectl_that_forwards(tmp_path, monkeypatch, {})
    with api_server(tmp_path) as (_, kubeconfig):
        assert command.main(["--stack", "dev", "--kubeconfig", kubeconfig, "--generator", str(generator)]) == 1
    assert "v6e-1: not measured: pod vllm-a cannot be reached" in capsys.readouterr().out
    # The cluster is gone.
    assert command.main(["--stack", "dev", "--kubeconfig", kubeconfig, "--generator", str(generator)]) == 2
    assert "does not answer" in capsys.readouterr().err


def test_a_generator_that_fails_or_is_not_there_says_so_without_the_key(tmp_path: Path, generator: Path) -> None:
    with pytest.raises(GeneratorError, match=r"ended with 1: refused for \[key\]"):
        run("http://127.0.0.1:1/v1", MODEL, Load(), key="a-key", program=generator)
    with pytest.raises(GeneratorError, match="`make benchmark` installs it"):
        run("http://127.0.0.1:1/v1", MODEL, Load(), program=tmp_path / "none")


@pytest.mark.parametrize(
    ("rungs", "said"),
    [
        ([rung("a", 1.0, stage(100, 5)), rung("b", 4.0, stage(200, 9))], ["is the cheapest first: a (2.78", "would be: b (9.00"]),
        ([rung("a", None, stage(100, 5)), rung("b", 1.0, stage(50, 4))], ["is the cheapest first: b (5.56", "the fastest first: a (5.00"]),
        ([rung("a", 1.0, stage(0, 0)), rung("b", 1.0, stage(50, 4))], ["is the cheapest first: b (5.56", "is not the fastest first"]),
        ([rung("a", 1.0, stage(100, 5)), rung("b", 4.0)], ["fewer than two rungs were measured"]),
    ],
)  # fmt: skip
def test_the_ladders_order_is_judged_by_cost_and_by_speed(rungs: list[Rung], said: list[str]) -> None:
    found: list[Any] = report.verdict(rungs)
    assert len(found) == len(said)
    assert all(expected in line for expected, line in zip(said, found, strict=True))


@pytest.mark.parametrize("value", ["0", "a", "1,,2", "100001"])
def test_counts_are_whole_numbers(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["--stack", "dev", "--concurrency", value])
    assert "is not a whole number" in capsys.readouterr().err
