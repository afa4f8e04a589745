"""The images: what is built from what, for which platform, and who may pull it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.program import ROOT, Run, run_program, schema

IMAGE = "docker:index/image:Image"
REPOSITORY = "gcp:artifactregistry/repository:Repository"
SERVER = "asia-northeast1-docker.pkg.dev"


@pytest.fixture(scope="module")
def dev() -> Run:
    return run_program()


def test_repository_is_for_docker_images_in_the_cluster_s_region(dev: Run) -> None:
    repository = dev.only(REPOSITORY).inputs
    assert (repository["format"], repository["location"], repository["repositoryId"]) == (
        "DOCKER",
        "asia-northeast1",
        "docker-repo",
    )


@pytest.mark.parametrize("kind", ["gpu", "tpu"])
def test_image_is_built_from_its_own_dockerfile_on_its_base_for_the_nodes_platform(dev: Run, kind: str) -> None:
    image = dev.named(IMAGE, f"images-{kind}").inputs
    assert image["imageName"] == f"{SERVER}/my-project/docker-repo/vllm-fungibility:{kind.upper()}"
    build = image["build"]
    assert build["args"] == {"BASE_IMAGE": schema()[f"{kind}BaseImage"]["default"]}
    assert build["platform"] == "linux/amd64"
    # Both are relative to the program, whose folder the engine runs it in.
    assert build["dockerfile"] == f"images/{kind}.Dockerfile"
    assert (ROOT / build["dockerfile"]).is_file()
    assert Path(build["context"]) == Path("images")


@pytest.mark.parametrize("kind", ["gpu", "tpu"])
def test_dockerfile_takes_the_base_image_that_the_build_gives(kind: str) -> None:
    text = (ROOT / "images" / f"{kind}.Dockerfile").read_text()
    assert "ARG BASE_IMAGE" in text
    assert "FROM ${BASE_IMAGE}" in text


@pytest.mark.parametrize("kind", ["gpu", "tpu"])
def test_default_of_the_dockerfile_is_that_of_the_settings(kind: str) -> None:
    default = schema()[f"{kind}BaseImage"]["default"]
    assert f"ARG BASE_IMAGE={default}\n" in (ROOT / "images" / f"{kind}.Dockerfile").read_text()


def test_images_are_pushed_with_an_access_token_of_whoever_runs_the_program(dev: Run) -> None:
    for image in dev.of_type(IMAGE):
        assert (image.inputs["registry"]["server"], image.inputs["registry"]["username"]) == (
            SERVER,
            "oauth2accesstoken",
        )
        assert any(path.startswith("registry") for path in image.secrets)


def test_images_are_known_to_others_by_digest_alone(dev: Run) -> None:
    for reference in dev.outputs["images"].values():
        assert reference.startswith(f"{SERVER}/my-project/docker-repo/vllm-fungibility@sha256:")
