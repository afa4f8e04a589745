"""What pods keep between starts: where, for which container, and that no stale compilation is taken for a new one."""

from __future__ import annotations

from typing import Any

import pytest

from components.catalog.machines import MACHINE_TYPES
from components.serving.model_caches import ModelCaches, xla_cache_key
from tests.unit.program import OTHER_IMAGES, run_program

DEPLOYMENT = "kubernetes:apps/v1:Deployment"
V6E = MACHINE_TYPES["ct6e-standard-1t"]
NOTHING = ModelCaches()


def _key(**changes: Any) -> str:
    facts: dict[str, Any] = {"image": OTHER_IMAGES["tpu"], "arguments": ["--model=Qwen/Qwen2-1.5B"], "machine": V6E}
    return xla_cache_key(**{**facts, **changes})


def _xla_path(**overrides: Any) -> str:
    """Where the program tells the TPU server to keep what it compiles."""
    pod = run_program(overrides).only(DEPLOYMENT).inputs["spec"]["template"]["spec"]
    (path,) = [
        str(variable["value"])
        for container in pod["containers"]
        for variable in container["env"]
        if variable["name"] == "VLLM_XLA_CACHE_PATH"
    ]
    return path


@pytest.mark.parametrize(
    "change",
    [
        {"image": OTHER_IMAGES["gpu"]},
        {"arguments": ["--model=Qwen/Qwen2-1.5B", "--max-num-seqs=8"]},
        {"arguments": ["--model=Qwen/Qwen2-7B"]},
        {"machine": MACHINE_TYPES["ct6e-standard-4t"]},
        {"machine": MACHINE_TYPES["ct5lp-hightpu-1t"]},
    ],
    ids=["image", "argument", "model", "topology", "generation"],
)
def test_every_change_that_may_affect_compilation_opens_a_new_folder(change: dict[str, Any]) -> None:
    assert _key(**change) != _key()


def test_arguments_are_not_confused_with_their_parts() -> None:
    assert _key(arguments=["a b"]) != _key(arguments=["a", "b"])


def test_setting_that_reaches_the_server_s_arguments_changes_the_folder_of_the_program() -> None:
    assert _xla_path(maxModelLen=4096) != _xla_path()


def test_compiled_programs_are_on_the_node_until_there_is_a_bucket() -> None:
    on_node, in_bucket = _xla_path(), _xla_path(weightsCache=True, gpuEphemeralStorageLimit="38Gi")
    assert on_node.startswith("/var/cache/vllm-xla/")
    assert in_bucket.startswith("/var/cache/model-bucket/xla/")
    assert on_node.rpartition("/")[2] == in_bucket.rpartition("/")[2]
