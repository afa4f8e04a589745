"""The images: what is built from what, for which platform, and who may pull it."""

from __future__ import annotations

from typing import Any

import grpc  # type: ignore[import-untyped]
import pulumi
import pytest

from components.cluster.image_registry import promoted_image
from tests.unit import program
from tests.unit.program import OTHER_BASES, OTHER_IMAGES, ROOT, Run, default_of, run_program, run_program_anew

IMAGE = "docker:index/image:Image"
DEPLOYMENT = "kubernetes:apps/v1:Deployment"
SERVER = "asia-northeast1-docker.pkg.dev"


@pytest.mark.parametrize("kind", ["gpu", "tpu"])
def test_default_of_the_dockerfile_is_that_of_the_settings(kind: str) -> None:
    default = default_of(f"{kind}BaseImage")
    assert f"ARG BASE_IMAGE={default}\n" in (ROOT / "images" / f"{kind}.Dockerfile").read_text()


def _running(run: Run) -> dict[str, str]:
    containers = run.only(DEPLOYMENT).inputs["spec"]["template"]["spec"]["containers"]
    return {each["name"].removeprefix("vllm-"): each["image"] for each in containers}


def test_prebuilt_image_runs_as_it_is_and_the_other_is_built() -> None:
    run = run_program({"images": {"gpu": OTHER_IMAGES["gpu"]}})
    assert [image.name for image in run.of_type(IMAGE)] == ["images-tpu"]
    assert run.outputs["images"]["gpu"] == OTHER_IMAGES["gpu"]
    assert run.outputs["images"]["tpu"].startswith(f"{SERVER}/my-project/")
    assert _running(run) == run.outputs["images"]


def test_images_of_another_stack_run_and_nothing_is_built() -> None:
    run = run_program({"imagesFrom": "organization/tpu-gpu-fungibility/staging"})
    assert run.of_type(IMAGE) == []
    assert _running(run) == run.outputs["images"] == OTHER_IMAGES


def test_named_image_wins_over_that_of_another_stack() -> None:
    own = f"{SERVER}/other/repository/vllm@sha256:{'3' * 64}"
    run = run_program({"imagesFrom": "organization/tpu-gpu-fungibility/staging", "images": {"tpu": own}})
    assert run.of_type(IMAGE) == []
    assert run.outputs["images"] == {"gpu": OTHER_IMAGES["gpu"], "tpu": own}


def test_prebuilt_image_of_an_accelerator_without_pool_is_left_alone() -> None:
    pools = [{"name": "a", "machineType": "g2-standard-8", "maxNodeCount": 2}]
    run = run_program({"acceleratorPools": pools, "images": OTHER_IMAGES})
    assert run.outputs["images"] == {"gpu": OTHER_IMAGES["gpu"]}


@pytest.mark.parametrize(
    ("images", "found"),
    [(None, "nothing"), ({"gpu": OTHER_IMAGES["gpu"]}, "nothing"), ({"tpu": "docker.io/a/b:1"}, '"docker.io/a/b:1"'), ("text", "nothing")],
)
def test_another_stack_without_the_image_is_refused_with_a_message(images: Any, found: str) -> None:
    with pytest.raises(pulumi.RunError) as refused:
        promoted_image({"images": images, "base_images": OTHER_BASES}, "tpu", "o/p/dev", own_base="")
    message = str(refused.value)
    assert f'imagesFrom: "o/p/dev" has {found} as image of accelerator tpu' in message
    assert "Fix: run `pulumi up` on that stack" in message


_TAG = "docker.io/vllm/vllm-openai:v0.31.0"


@pytest.mark.parametrize(
    ("theirs", "own", "said"),
    [
        (_TAG, f"{_TAG}@sha256:{'4' * 64}", ""),
        (_TAG, "example.com/mirror/vllm:v0.31.2", ""),
        ("example.com/vllm:nightly", "example.com/vllm:nightly", ""),
        ("example.com/vllm:nightly", "example.com/vllm:weekly", "Fix: `pulumi config set gpuBaseImage example.com/vllm:nightly`"),
        ("docker.io/vllm/vllm-openai:v0.30.0", _TAG, f'gpuBaseImage: "{_TAG}" is another vLLM'),
        # Of the same release, and for another driver.
        (f"{_TAG}-cu129", _TAG, f"Fix: `pulumi config set gpuBaseImage {_TAG}-cu129`"),
        (None, _TAG, 'imagesFrom: "o/p/dev" does not say in its output `base_images`'),
    ],
)  # fmt: skip
def test_an_image_with_another_vllm_than_this_stack_makes_arguments_for_is_refused(theirs: str | None, own: str, said: str) -> None:
    outputs = {"images": OTHER_IMAGES, "base_images": theirs and {"gpu": theirs}}
    if not said:
        assert promoted_image(outputs, "gpu", "o/p/dev", own_base=own) == OTHER_IMAGES["gpu"]
        return
    with pytest.raises(pulumi.RunError) as refused:
        promoted_image(outputs, "gpu", "o/p/dev", own_base=own)
    assert said in str(refused.value)


class _Refusal(grpc.RpcError):  # type: ignore[misc]
    """As the engine hands a provider's error on."""

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.UNKNOWN

    def details(self) -> str:
        return 'invocation of getClientConfig returned an error: Error setting access_token: oauth2: "invalid_grant"'


def test_without_a_login_the_program_ends_with_how_to_log_in(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise _Refusal

    monkeypatch.setattr(program.Mocks, "call", fail)
    with pytest.raises(pulumi.RunError, match=r'access token .* "invalid_grant".*gcloud auth application-default login'):
        run_program_anew()
