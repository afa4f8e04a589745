"""The stack on images that Docker really built and a registry really has: what runs is what its digest names."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from sandbox.cli.client import Sandbox
from tests.images.conftest import REQUIRED
from tests.images.image_docker import NoDocker, some_docker
from tests.sandbox.conftest import ROOT, SPEED, take_down

pytestmark = pytest.mark.docker

_UP = "up.txt"
_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json"


@pytest.fixture(scope="module")
def real() -> Iterator[Sandbox]:
    """A sandbox of its own state, up on images of a Docker daemon: the reachable one, or one of the test's own."""
    sandbox = Sandbox(ROOT / ".sandbox" / "test-state-images", SPEED)
    try:
        with some_docker() as docker, pytest.MonkeyPatch.context() as patch:
            if docker.host.startswith("unix://") and "DOCKER_HOST" not in os.environ:
                patch.setenv("DOCKER_HOST", docker.host)
            sandbox.command("down", check=False)
            try:
                up = sandbox.command("up")
                (sandbox.state / _UP).write_text(up.stdout)
                yield sandbox
            finally:
                take_down(sandbox)
    except NoDocker as absent:
        if os.environ.get(REQUIRED):
            pytest.fail(f"{REQUIRED} is set, but {absent}", pytrace=False)
        pytest.skip(f"NO REAL IMAGE WAS TESTED: {absent}")


def _running(sandbox: Sandbox) -> dict[str, str]:
    """Image ID of each container of the service's one pod that stays, as its node reports it."""
    pods = json.loads(sandbox.kubectl("get", "pods", "--selector=app=vllm", "--output=json"))["items"]
    # One that ends lets its requests finish first.
    (pod,) = [each for each in pods if "deletionTimestamp" not in each["metadata"]]
    return {each["name"].removeprefix("vllm-"): each["imageID"] for each in pod["status"]["containerStatuses"]}


def _get(sandbox: Sandbox, reference: str, kind: str, digest: str) -> bytes:
    """What the registry behind the sandbox has under a digest, asked for without the sandbox's own code."""
    settings = yaml.safe_load((sandbox.state / "registry" / "config.yml").read_text())
    path = reference.partition("@")[0].partition("/")[2]
    response = requests.get(f"http://{settings['http']['addr']}/v2/{path}/{kind}/{digest}", headers={"Accept": _MANIFEST}, timeout=10)
    assert response.ok, response.text
    assert f"sha256:{hashlib.sha256(response.content).hexdigest()}" == digest
    return response.content


def test_pods_run_by_the_digests_of_what_the_registry_has(real: Sandbox) -> None:
    images = real.outputs()["images"]
    assert set(images) == {"gpu", "tpu"}
    assert _running(real) == images
    for kind, reference in images.items():
        assert reference.startswith("asia-northeast1-docker.pkg.dev/sandbox-project/docker-repo/vllm-fungibility@")
        manifest: dict[str, Any] = json.loads(_get(real, reference, "manifests", reference.partition("@")[2]))
        config = json.loads(_get(real, reference, "blobs", manifest["config"]["digest"]))
        assert f"ACCELERATOR={kind}" in config["config"]["Env"]
        assert config["os"] == "linux"
        for layer in manifest["layers"]:
            _get(real, reference, "blobs", layer["digest"])


def test_containers_run_the_files_of_the_pushed_layers(real: Sandbox) -> None:
    assert "role=idle accelerator=gpu" in real.kubectl("logs", "--selector=app=vllm", "--container=vllm-gpu")
    for reference in real.outputs()["images"].values():
        digest = reference.partition("@sha256:")[2]
        # The base's own file is in its layer alone, and so tells the image's layers from a copy of the build context.
        rootfs = Path(real.state, "images", "by-digest", digest, "rootfs")
        assert (rootfs / "etc/sandbox-base").is_file()
        entrypoint = (rootfs / "usr/local/bin/fungibility-entrypoint").read_bytes()
        assert entrypoint == (ROOT / "images/fungibility-entrypoint").read_bytes()


def test_state_status_and_up_say_that_docker_built_and_what_stands_for_the_base(real: Sandbox) -> None:
    notes = {name.rpartition(":")[2].lower(): note for name, note in real.status()["images"].items()}
    assert set(notes) == {"gpu", "tpu"}
    bases = {"gpu": "docker.io/vllm/vllm-openai:", "tpu": "docker.io/vllm/vllm-tpu:"}
    images = real.outputs()["images"]
    up = (real.state / _UP).read_text()
    # In its summary, and beside each resource while it was made.
    assert up.count("built by Docker") >= 2 * len(images)
    state = json.loads(real.pulumi("stack", "export").stdout)["deployment"]["resources"]
    for kind, note in notes.items():
        assert images[kind].endswith(note["digest"])
        assert "built by Docker" in note["how"]
        assert bases[kind] in note["how"]
        assert "was not pulled" in note["how"]
        (resource,) = [each for each in state if each["urn"].endswith(f"Image::images-{kind}")]
        assert resource["outputs"]["sandbox"] == note["how"]


def test_an_unchanged_build_shows_no_change(real: Sandbox) -> None:
    assert real.preview() == {}


def test_prebuilt_images_run_by_digest_and_nothing_is_built(real: Sandbox) -> None:
    images = real.outputs()["images"]
    gone = {f"docker:index/image:Image::images-{kind}": "delete" for kind in images}
    # Naming the very images that run touches no pod.
    assert real.preview(images=images) == gone
    real.pulumi("up", "--yes", "--skip-preview", "--non-interactive", overrides={"images": images})
    assert real.outputs()["images"] == images
    assert _running(real) == images
    # New pods find the images, too, although no resource of the stack made them.
    real.kubectl("delete", "pods", "--selector=app=vllm", "--wait=false")
    real.kubectl("rollout", "status", "deployment/vllm", "--timeout=100s")
    assert _running(real) == images
