"""What pods keep between starts: where, for which container, and that no stale compilation is taken for a new one."""

from __future__ import annotations

from typing import Any

import pytest

from components.catalog.machines import KINDS, MACHINE_TYPES
from components.serving.model_caches import (
    ModelCaches,
    cache_annotations,
    cache_environment,
    cache_mounts,
    cache_volumes,
    mount_options,
    xla_cache_key,
)
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


def test_folder_on_the_node_is_only_mounted_by_the_tpu_container() -> None:
    caches = ModelCaches(xla=True)
    assert cache_mounts("gpu", caches) == []
    assert cache_environment("gpu", MACHINE_TYPES["g2-standard-4"], caches, image="i", arguments=[]) == []
    (mount,) = cache_mounts("tpu", caches)
    (volume,) = cache_volumes(("tpu",), caches)
    assert mount["name"] == volume["name"]
    assert volume["host_path"]["type"] == "DirectoryOrCreate"
    assert cache_volumes(("gpu",), caches) == []


def test_nothing_is_mounted_where_nothing_is_kept() -> None:
    for kind in KINDS:
        assert cache_mounts(kind, NOTHING) == []
        assert cache_environment(kind, V6E, NOTHING, image="i", arguments=[]) == []
    assert cache_volumes(KINDS, NOTHING) == []
    assert cache_annotations(NOTHING) == cache_annotations(ModelCaches(xla=True)) == {}


def test_mount_options_are_one_text_without_spaces_as_the_driver_wants_them() -> None:
    assert mount_options(44032).split(",") == [
        "implicit-dirs",
        "file-cache:enable-parallel-downloads:true",
        "file-cache:max-size-mb:44032",
        "metadata-cache:ttl-secs:0",
        "metadata-cache:negative-ttl-secs:0",
    ]
