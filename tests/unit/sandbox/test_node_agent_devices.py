"""The devices of a node, as an entrypoint looks for them."""

import subprocess
from pathlib import Path

import pytest

from sandbox.node_agent.devices import GPU_LABEL, TPU_LABEL, NodeDevices


def listed(devices: NodeDevices) -> str:
    return subprocess.run([devices.environment["NVIDIA_SMI"], "-L"], capture_output=True, text=True, check=True).stdout


def test_a_tpu_node_has_its_device_file_and_no_gpu(tmp_path: Path) -> None:
    devices = NodeDevices(tmp_path)
    devices.make("node-1", {TPU_LABEL: "tpu-v6e-slice"})
    assert Path(devices.environment["TPU_DEVICE"]).is_char_device()
    assert not Path(devices.environment["NVIDIA_SMI"]).exists()
    assert not Path(devices.environment["NVIDIA_DEVICE"]).exists()


def test_a_gpu_node_lists_its_gpus_and_has_no_tpu(tmp_path: Path) -> None:
    devices = NodeDevices(tmp_path)
    devices.make("node-1", {GPU_LABEL: "nvidia-l4"}, gpus=2)
    lines = listed(devices).splitlines()
    assert [line.split(" (UUID: GPU-")[0] for line in lines] == ["GPU 0: NVIDIA L4", "GPU 1: NVIDIA L4"]
    assert Path(devices.environment["NVIDIA_DEVICE"]).is_char_device()
    assert not Path(devices.environment["TPU_DEVICE"]).exists()


@pytest.mark.parametrize("arguments", [[], ["--query-gpu=name"]])
def test_the_stand_in_for_nvidia_smi_does_not_make_things_up(tmp_path: Path, arguments: list[str]) -> None:
    devices = NodeDevices(tmp_path)
    devices.make("node-1", {GPU_LABEL: "nvidia-l4"})
    answer = subprocess.run([devices.environment["NVIDIA_SMI"], *arguments], capture_output=True, text=True)
    assert answer.returncode != 0
    assert "stand-in" in answer.stderr
