"""The stand-in docker provider over a real channel: what makes a diff, what makes a digest, what is refused."""

import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox.google.latencies import Clock
from sandbox.images.image_builder import ImageBuilder
from sandbox.images.image_store import ImageStore
from sandbox.providers.docker import IMAGE, DockerProvider
from sandbox.providers.serve import programs
from sandbox.providers.server import Urn
from sandbox.providers.wire import UNKNOWN, Secret
from tests.unit.provider_client import Client, Engine, urn

ROOT = Path(__file__).resolve().parents[3]
URN = urn(IMAGE, "images-gpu")
#: Nothing takes time.
AT_ONCE = Clock(math.inf)
REPOSITORY = "asia-northeast1-docker.pkg.dev/p/docker-repo/vllm"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "images", tmp_path / "project" / "images")
    return tmp_path / "project"


@pytest.fixture
def client(builder: ImageBuilder, project: Path) -> Iterator[Client]:
    with Engine(lambda: DockerProvider(builder, project, clock=AT_ONCE)) as engine:
        yield engine.connect()


def inputs(**more: Any) -> dict[str, Any]:
    return {
        "imageName": f"{REPOSITORY}:GPU",
        "build": {
            "context": "images",
            "dockerfile": "images/gpu.Dockerfile",
            "platform": "linux/amd64",
            "args": {"BASE_IMAGE": "docker.io/base:1"},
        },
        "registry": {"server": "asia-northeast1-docker.pkg.dev", "username": "u", "password": Secret("hunter2")},
        **more,
    }


def checked(client: Client, given: dict[str, Any]) -> dict[str, Any]:
    result = client.check(URN, given)
    assert result.failures == []
    return result.inputs


def test_nothing_differs_when_only_the_credentials_are_new(client: Client) -> None:
    old = checked(client, inputs())
    registry = {"server": "asia-northeast1-docker.pkg.dev", "username": "v", "password": Secret("new")}
    assert not client.diff(URN, old, checked(client, inputs(registry=registry))).changed


def test_a_changed_file_of_the_context_makes_a_diff_and_another_digest(client: Client, project: Path) -> None:
    old = checked(client, inputs())
    id, outputs = client.create(URN, old)
    with (project / "images/fungibility-health").open("a") as file:
        file.write("# changed\n")
    new = checked(client, inputs())
    assert client.diff(URN, old, new).details == {"build.contextDigest": "UPDATE"}
    after = client.update(URN, id, old, outputs, new)
    assert after["repoDigest"] != outputs["repoDigest"]


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"imageName": f"{REPOSITORY}:other"}, "imageName"),
        ({"build": {**inputs()["build"], "args": {"BASE_IMAGE": "docker.io/base:2"}}}, "build.args.BASE_IMAGE"),
        ({"build": {**inputs()["build"], "platform": "linux/arm64"}}, "build.platform"),
        ({"registry": {**inputs()["registry"], "server": "other.example"}}, "registry.server"),
    ],
)
def test_names_and_content_make_a_diff_that_never_replaces(client: Client, change: dict[str, Any], path: str) -> None:
    old, new = checked(client, inputs()), checked(client, inputs(**change))
    assert client.diff(URN, old, new).details == {path: "UPDATE"}


def test_a_preview_builds_nothing_and_knows_no_digest(client: Client, store: ImageStore) -> None:
    id, outputs = client.create(URN, checked(client, inputs()), preview=True)
    assert (id, outputs["repoDigest"], outputs["imageName"]) == ("", UNKNOWN, f"{REPOSITORY}:GPU")
    assert store.resolve(f"{REPOSITORY}:GPU") is None


def test_inputs_that_are_not_known_yet_pass_a_check(client: Client) -> None:
    given = inputs(imageName=UNKNOWN, registry={"password": Secret(UNKNOWN), "server": UNKNOWN})
    assert checked(client, given)["imageName"] is UNKNOWN
    assert checked(client, inputs(build=UNKNOWN))["build"] is UNKNOWN


@pytest.mark.parametrize(
    ("change", "path", "message"),
    [
        ({"dockerfile": "none.Dockerfile"}, "dockerfile", 'relative path "none.Dockerfile": no such file or directory'),
        ({"dockerfile": "gpu.Dockerfile"}, "dockerfile", 'Try setting `dockerfile` to "images/gpu.Dockerfile"'),
        ({"context": "none"}, "context", "none' is not a folder"),
        ({"context": None}, "context", "missing: the sandbox has no default for it"),
        ({"contxt": "images"}, "contxt", "unknown key; did you mean context?"),
        ({"target": "final"}, "target", "builds one stage"),
    ],
)
def test_a_build_that_cannot_be_is_refused_before_anything_is_made(client: Client, change: dict[str, Any], path: str, message: str) -> None:
    build = {key: value for key, value in {**inputs()["build"], **change}.items() if value is not None}
    ((where, reason),) = client.check(URN, inputs(build=build)).failures
    assert where == f"build.{path}"
    assert message in reason


def test_a_secret_name_stays_secret_and_the_password_leaves_no_trace(client: Client, tmp_path: Path) -> None:
    _, outputs = client.create(URN, checked(client, inputs(imageName=Secret(f"{REPOSITORY}:GPU"))))
    assert outputs["imageName"] == Secret(f"{REPOSITORY}:GPU")
    assert isinstance(outputs["repoDigest"], Secret)
    assert "hunter2" not in str(outputs)
    kept = [path.read_bytes() for path in (tmp_path / "store").rglob("*") if path.is_file()]
    assert kept
    assert not any(b"hunter2" in content for content in kept)


def test_relative_paths_count_from_the_folder_of_the_program_that_builds(builder: ImageBuilder, project: Path) -> None:
    def provider() -> DockerProvider:
        return DockerProvider(builder, project / "elsewhere", {"project": project}, clock=AT_ONCE)

    assert Urn(URN).project == "project"
    with Engine(provider) as engine:
        assert engine.connect().check(URN, inputs()).failures == []


def test_programs_of_this_repository_are_found_by_name() -> None:
    found = programs(ROOT)
    assert found["tpu-gpu-fungibility"] == ROOT
    for file in ROOT.glob("examples/*/Pulumi.yaml"):
        assert file.parent in found.values()
