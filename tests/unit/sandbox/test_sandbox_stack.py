"""What `python -m sandbox up` reads of an environment's settings before the engine does."""

import json
from pathlib import Path

import pytest

from components.settings.stack_files import PROJECT_NAME
from sandbox.cli import stack_update
from sandbox.cli.stack import SandboxStack, StackError
from sandbox.cli.stack_update import StackUpdate, has_gateway, scales_on_metrics
from sandbox.host import disk_space, supervised
from sandbox.host.daemon_record import DaemonRecord
from sandbox.host.paths import Paths

RECORD = DaemonRecord(pid=1, started="", debug_providers="gcp:1,docker:2", speed=100.0, server="stand-in")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(stack_update, "PROJECT_DIR", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("setting", "metrics", "gateway"),
    [
        ("", False, False),
        ("tpu-gpu-fungibility:maxReplicas: 0", False, False),
        ("tpu-gpu-fungibility:maxReplicas: 6", True, False),
        ("tpu-gpu-fungibility:gateway: {class: gke-l7-rilb}", False, True),
    ],
)
def test_tools_are_wanted_by_the_stacks_that_need_them(project: Path, setting: str, metrics: bool, gateway: bool) -> None:
    (project / "Pulumi.team.yaml").write_text(f"config:\n  gcp:project: p\n  {setting}\n")
    assert (scales_on_metrics("team"), has_gateway("team")) == (metrics, gateway)


def test_an_unknown_environment_is_named_with_the_known_ones(project: Path) -> None:
    (project / "Pulumi.team.yaml").write_text("config: {}\n")
    with pytest.raises(StackError, match=r"--environment prod: there is no Pulumi.prod.yaml. Known: team"):
        scales_on_metrics("prod")


def test_the_engine_looks_for_no_plugin_on_the_internet_which_the_stand_ins_stand_in_for(tmp_path: Path) -> None:
    variables = SandboxStack(Paths(cache=tmp_path, state=tmp_path), RECORD).variables()
    assert variables["PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION"] == "true"
    assert variables["PULUMI_DEBUG_PROVIDERS"] == "gcp:1,docker:2"


@pytest.mark.parametrize("lacked", ["while it ran", "at its end"])
def test_a_failed_update_says_that_a_disk_was_full_although_there_may_be_room_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lacked: str
) -> None:
    looks = iter(["It is full.", ""] if lacked == "while it ran" else ["", "It is full."])
    monkeypatch.setattr(disk_space, "full", lambda paths: next(looks))
    monkeypatch.setattr(supervised, "run", lambda *_, trouble, **__: 1 if trouble() is None else 2)
    monkeypatch.setattr(StackUpdate, "_trouble", lambda self, since: None)
    with pytest.raises(StackError, match=r"failed \(exit status 1\)\. It is full\."):
        StackUpdate(Paths(cache=tmp_path, state=tmp_path), RECORD).up(print)


def test_outputs_are_those_that_pulumi_wrote_last_without_the_secret_ones(tmp_path: Path) -> None:
    known = StackUpdate(Paths(cache=tmp_path, state=tmp_path), RECORD)
    assert known.outputs() == {}
    outputs = {
        "model": "m",
        "images": {"gpu": "r@sha256:1"},
        "kubeconfig": {"4dabf18193072939515e22adb298388d": "1b4", "ciphertext": "v1:x"},
    }
    resources = [
        {"type": "pulumi:pulumi:Stack", "urn": "a::b", "outputs": outputs},
        {"type": "x:y:Z", "urn": "a::late", "initErrors": ["no nodes"], "outputs": {"model": "other"}},
    ]
    file = tmp_path / "pulumi-backend" / ".pulumi" / "stacks" / PROJECT_NAME / "sandbox.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"version": 3, "checkpoint": {"latest": {"resources": resources}}}))
    assert known.outputs() == {"model": "m", "images": {"gpu": "r@sha256:1"}}
    assert known.incomplete() == ["late"]
