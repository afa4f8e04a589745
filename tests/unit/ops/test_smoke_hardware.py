"""What only hardware shows, with a kubectl that answers as a cluster does, and the look inside a pod by this machine's shell."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ops.findings import Finding
from ops.smoke import hardware
from ops.smoke.serving_pools import UnknownPool, serving_pods
from tests.unit.misbehaving_server import Reply, in_turn, says, serving, stream_events, streams
from tests.unit.ops.test_smoke_serving_pools import api_server, kubectl_that_forwards, of_stack, pod

_GPU = "role=serving\ndevice=GPU 0: NVIDIA L4\ndriver=580.95.05\nshm=65536\n"

Rows = Callable[..., dict[str, Finding]]


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rows:
    """The rows of a GPU's pod: what its containers print, the node's runtime and GPUs, the server's answers, how many pods are ready."""
    monkeypatch.setattr(hardware, "_BEFORE_SECONDS", 0.1)

    def run(gpu: str = _GPU, tpu: str = "role=idle\nshm=65536\n", *, runtime: str = "containerd://2", gpus: int = 1, count: int = 1,
            delete: str = "sleep 0.3", forwards: bool = True, **replies: Reply) -> dict[str, Finding]:  # fmt: skip
        node = {"status": {"nodeInfo": {"containerRuntimeVersion": runtime}, "capacity": {"nvidia.com/gpu": str(gpus)}}}
        spec = {"nodeName": "node-2", "containers": [{"name": name} for name in ("vllm-gpu", "vllm-tpu", "gke-gcsfuse-sidecar")]}
        for name, text in {"gpu": gpu, "tpu": tpu, "pod": json.dumps({"spec": spec}), "node": json.dumps(node)}.items():
            (tmp_path / name).write_text(text)
        cases = {
            "get_pod": "cat pod",
            "get_node": "cat node",
            "container_vllm-gpu": "cat gpu",
            "container_vllm-tpu": "cat tpu",
            "delete_pod_p1": delete,
        }
        with (
            serving(**replies) as model,
            api_server(tmp_path, pods=[pod(f"p{number}", "node-2") for number in range(count)]) as (_, kubeconfig),
        ):
            kubectl_that_forwards(tmp_path, monkeypatch, {"p0": model.server_port} if forwards else {}, **cases)
            pods, target = serving_pods(of_stack(), kubeconfig), of_stack(model.url)
            found = hardware.rows(target, pods, seconds=5, first_token=0.5, key="", api="chat")
            return {each.field: each for each in found}

    return run


def test_a_pod_as_it_should_be(rows: Rows) -> None:
    found = rows(count=2)
    drain = found.pop("drain")
    assert {name: (each.status, each.value) for name, each in found.items() if "token" not in name} == {
        "role on l4": ("ok", "vllm-gpu serving, vllm-tpu idle"),
        "device on l4": ("ok", "GPU 0: NVIDIA L4"),
        "driver on l4": ("ok", "580.95.05"),
        "shared memory on l4": ("ok", "64 MiB"),
    }
    assert found["first token on l4"].status == drain.status == "ok"
    assert drain.value.endswith("answered while p1 ended")


@pytest.mark.parametrize(
    ("row", "status", "said", "changes"),
    [
        ("role on l4", "failed", "vllm-gpu serving, vllm-tpu serving", {"tpu": "role=serving\n"}),
        ("role on l4", "failed", "vllm-gpu unknown, vllm-tpu idle", {"gpu": "shm=65536\n"}),
        ("device on l4", "failed", "none reason: the node's capacity says 1", {"gpu": "role=serving\n"}),
        ("driver on l4", "warning", "550.90 reason: the default GPU image needs 580", {"gpu": "role=serving\ndriver=550.90\n"}),
        ("driver on l4", "warning", "NVIDIA-SMI has failed", {"gpu": "role=serving\ndriver=NVIDIA-SMI has failed\n"}),
        ("shared memory on l4", "failed", "64 MiB reason: 2 chips need 2048 MiB", {"gpus": 2}),
        ("role on l4", "skipped", "not on the sandbox", {"runtime": "sandbox://processes"}),
        ("drain", "skipped", "one pod is ready", {}),
        ("drain", "skipped", "forbidden", {"count": 2, "delete": "echo forbidden >&2; exit 1"}),
        ("drain", "failed", "HTTP 500", {"count": 2, "chat": says({"error": "cannot schedule new futures after shutdown"}, 500)}),
        ("first token on l4", "failed", "--max-first-token is 0.5 s", {"stream": streams(*stream_events(), pause=0.3)}),
        ("first token on l4", "failed", "wants an API key", {"stream": in_turn(says({"error": "Unauthorized"}, 401))}),
        ("first token on l4", "skipped", "pod p0 cannot be reached by `kubectl port-forward`", {"forwards": False}),
    ],
)  # fmt: skip
def test_each_other_finding_has_its_reason_and_fix(rows: Rows, row: str, status: str, said: str, changes: dict[str, Any]) -> None:
    found = rows(**changes)[row]
    assert found.status == status
    assert said in f"{found.value} reason: {found.reason}"
    assert found.fix or said == "not on the sandbox"


def test_without_a_cluster_one_row_says_why() -> None:
    (row,) = hardware.rows(of_stack(), UnknownPool("no cluster access"), seconds=1, first_token=1, key="", api="chat")
    assert (row.status, row.reason) == ("skipped", "no cluster access")


def test_the_look_inside_a_container_finds_role_device_driver_and_shared_memory(tmp_path: Path) -> None:
    (tmp_path / "role.gpu").write_text("role=serving\ndeadline=1\n")
    smi = tmp_path / "nvidia-smi"
    smi.write_text('#!/bin/sh\n[ "$1" = -L ] && echo "GPU 0: NVIDIA L4 (UUID: GPU-1)" || echo 580.95.05\n')
    smi.chmod(0o755)
    variables = {"PATH": f"{tmp_path}:/usr/bin:/bin", "ACCELERATOR": "gpu", "FUNGIBILITY_RUN_DIR": str(tmp_path)}
    printed = subprocess.run(["sh", "-c", hardware.LOOK], env=variables, capture_output=True, text=True, check=True).stdout
    found = hardware.facts(printed)
    assert int(found.pop("shm")) > 0
    assert found == {"role": "serving", "device": "GPU 0: NVIDIA L4", "driver": "580.95.05"}
