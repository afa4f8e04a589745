"""Ladders that people have: each example previews and says what it costs, and one that nobody has yet takes one entry of the table."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from components.catalog import machines
from components.catalog.machines import MACHINE_TYPES, Accelerator, MachineType
from components.settings import stack_files
from components.settings.problems import SettingsError
from components.settings.settings import load_stack
from ops.cost.__main__ import main
from sandbox.gke.node_pool import NodePool, node_allocatable, node_labels, node_taints
from tests.unit.preflight_run import Bench
from tests.unit.program import NAMESPACE, ROOT, Mocks, Run, run_program_anew, run_recorded

NODE_POOL = "gcp:container/nodePool:NodePool"
DEPLOYMENT = "kubernetes:apps/v1:Deployment"
COMPUTE_CLASS = "kubernetes:cloud.google.com/v1:ComputeClass"

EXAMPLES = sorted((ROOT / "examples" / "ladders").glob("*.yaml"))


def _containers(run: Run) -> dict[str, Any]:
    return {each["name"]: each for each in run.only(DEPLOYMENT).inputs["spec"]["template"]["spec"]["containers"]}


def _environment(container: dict[str, Any]) -> dict[str, Any]:
    return {each["name"]: each.get("value") for each in container["env"]}


def test_there_are_ten_examples() -> None:
    assert len(EXAMPLES) >= 10


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_is_previewed_in_its_order_and_says_whose_it_is_and_what_has_no_price(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = stack_files.values(path.stem, {"gcp:project": "my-project"}, file=path)
    run = run_recorded(ROOT / "__main__.py", Run(), Mocks(), values, project=NAMESPACE, stack=path.stem)
    pools = [each["name"] for each in json.loads(values[f"{NAMESPACE}:acceleratorPools"])]
    assert [rule["nodepools"] for rule in run.only(COMPUTE_CLASS).inputs["spec"]["priorities"]] == [[name] for name in pools]
    assert {each.name for each in run.of_type(NODE_POOL)} == {*pools, "cluster-system"}
    head = path.read_text().partition("config:")[0].replace("\n# ", " ")
    assert re.search(r"[\w-]+/[\w-]+ at [0-9a-f]{7}, ", head)
    capsys.readouterr()
    assert main(["--file", str(path), "--json"]) == 0
    said = re.search(r"No price: ([\w, -]+)\.", head)
    assert json.loads(capsys.readouterr().out)["unpriced"] == (said[1].split(", ") if said else [])


def test_gpus_of_different_numbers_share_a_ladder_and_the_entrypoint_counts_them() -> None:
    pools = [{"name": f"l4-{vcpus}", "machineType": f"g2-standard-{vcpus}", "maxNodeCount": 1} for vcpus in (48, 24, 8)]
    run = run_program_anew({"acceleratorPools": pools})
    container = _containers(run)["vllm-gpu"]
    assert _environment(container)["GPU_COUNTS"] == "1,2,4"
    assert not [each for each in container["args"] if "tensor-parallel" in each]
    assert container["securityContext"]["privileged"]
    (volume,) = [each for each in run.only(DEPLOYMENT).inputs["spec"]["template"]["spec"]["volumes"] if "emptyDir" in each]
    assert volume["emptyDir"]["sizeLimit"] == "4Gi"


@pytest.mark.parametrize(
    ("machine_type", "bounds", "accelerator_type", "size"),
    [
        ("ct5lp-hightpu-8t", "2,4,1", "v5litepod-8", 8),
        ("ct5p-hightpu-4t", "2,2,1", "v5p-8", 4),
        ("ct4p-hightpu-4t", "2,2,1", "v4-8", 4),
        ("tpu7x-standard-4t", "2,2,1", "tpu7x-8", 8),
    ],
)
def test_a_tpu_is_told_its_topology_beside_gpus(machine_type: str, bounds: str, accelerator_type: str, size: int) -> None:
    tpu, gpu = ({"name": each, "machineType": each, "maxNodeCount": 2} for each in (machine_type, "g2-standard-8"))
    container = _containers(run_program_anew({"acceleratorPools": [tpu, gpu]}))["vllm-tpu"]
    environment = _environment(container)
    assert (environment["TPU_CHIPS_PER_HOST_BOUNDS"], environment["TPU_ACCELERATOR_TYPE"]) == (bounds, accelerator_type)
    assert f"--tensor-parallel-size={size}" in container["args"]


def test_a_new_machine_takes_one_entry(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chip = Accelerator(kind="tpu", name="tpu9x-slice", generation="v9x", cores=2, devices=2)
    machine = MachineType(chip=chip, count=8, vcpus=96, memory_gb=400, topology="2x2x2")
    monkeypatch.setitem(machines._TABLE, "tpu9x-standard-8t", machine)
    pool = {"name": "v9x", "machineType": "tpu9x-standard-8t", "minNodeCount": 1, "maxNodeCount": 2}
    run = run_program_anew({"acceleratorPools": [pool, {"name": "l4", "machineType": "g2-standard-8", "maxNodeCount": 1}]})
    container = _containers(run)["vllm-tpu"]
    environment = _environment(container)
    assert (environment["TPU_TOPOLOGY"], environment["TPU_CHIPS_PER_HOST_BOUNDS"]) == ("2x2x2", "2,2,2")
    assert (environment["TPU_ACCELERATOR_TYPE"], "--tensor-parallel-size=16" in container["args"]) == ("v9x-16", True)
    (quota,) = [each for each in bench.findings("quotas", acceleratorPools=[pool]) if "tpu9x" in each.field]
    assert (quota.status, quota.value) == ("warning", "not checked: its name is unknown")
    file = tmp_path / "v9x.yaml"
    keys = {f"{NAMESPACE}:requireApiKey": False, f"{NAMESPACE}:acceleratorPools": [pool]}
    file.write_text(json.dumps({"config": keys}))
    capsys.readouterr()
    assert main(["--file", str(file)]) == 0
    assert "No price is known of: v9x (tpu9x-standard-8t, on-demand)" in capsys.readouterr().out
    node = NodePool(name="v9x", inputs=run.named(NODE_POOL, "v9x").inputs, zones=["z-1-a"])
    labels = node_labels(node, node="n", zone="z-1-a")
    told = [labels[f"cloud.google.com/gke-{key}"] for key in ("tpu-accelerator", "tpu-topology", "accelerator-count")]
    assert told == ["tpu9x-slice", "2x2x2", "8"]
    assert node_allocatable(node)["google.com/tpu"] == "8"
    assert {"key": "google.com/tpu", "value": "present", "effect": "NoSchedule"} in node_taints(node)


@pytest.mark.parametrize("machine_type", MACHINE_TYPES)
def test_no_hint_crosses_from_one_kind_of_accelerator_to_the_other(machine_type: str) -> None:
    for wrong in (machine_type[:-1], f"{machine_type}9", machine_type.replace("-", "x-", 1)):
        if wrong in MACHINE_TYPES:
            continue
        with pytest.raises(SettingsError) as refused:
            load_stack("dev", {"gcp:project": "p-12345", "acceleratorPools": [{"name": "a", "machineType": wrong, "maxNodeCount": 2}]})
        fix = refused.value.problems[0].fix
        named = {MACHINE_TYPES[each].kind for each in re.findall(r"[a-z]\w+-\w+-\w+", fix) if each in MACHINE_TYPES}
        assert named == {MACHINE_TYPES[machine_type].kind}, (wrong, fix)
