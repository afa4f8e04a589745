"""What `python -m sandbox up` reads of an environment's settings before the engine does."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox import stack
from sandbox.daemon import DaemonRecord
from sandbox.paths import Paths
from sandbox.stack import SandboxStack, StackError, scales_on_metrics


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(stack, "PROJECT_DIR", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("setting", "expected"),
    [("", False), ("tpu-gpu-fungibility:maxReplicas: 0", False), ("tpu-gpu-fungibility:maxReplicas: 6", True)],
)
def test_metrics_are_wanted_by_a_stack_with_an_autoscaler(project: Path, setting: str, expected: bool) -> None:
    (project / "Pulumi.team.yaml").write_text(f"config:\n  gcp:project: p\n  {setting}\n")
    assert scales_on_metrics("team") is expected


def test_an_environment_that_is_not_there_is_named_with_those_that_are(project: Path) -> None:
    (project / "Pulumi.team.yaml").write_text("config: {}\n")
    with pytest.raises(StackError, match=r"--environment prod: there is no Pulumi.prod.yaml. Known: team"):
        scales_on_metrics("prod")


def test_the_engine_looks_for_no_plugin_on_the_internet_which_the_stand_ins_stand_in_for(tmp_path: Path) -> None:
    record = DaemonRecord(pid=1, started="", debug_providers="gcp:1,docker:2", speed=100.0)
    variables = SandboxStack(Paths(cache=tmp_path, state=tmp_path), record).variables()
    assert variables["PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION"] == "true"
    assert variables["PULUMI_DEBUG_PROVIDERS"] == "gcp:1,docker:2"
