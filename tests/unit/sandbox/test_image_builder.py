"""Building with a Docker command and a registry that only note what is asked of them: the two ways, and what is said of each."""

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox.host.processes import Spawner
from sandbox.images.build_context import BuildContext
from sandbox.images.docker_engine import DockerEngine, NoDocker
from sandbox.images.image_builder import BuildRequest, BuiltImage, ImageBuilder, read_notes
from sandbox.images.image_store import ImageStore
from sandbox.images.local_registry import RegistryError
from tests.unit.sandbox.helpers import install
from tests.unit.sandbox.test_oci_image import Blobs, layer

ROOT = Path(__file__).resolve().parents[3]
REPOSITORY = "asia-northeast1-docker.pkg.dev/p/docker-repo/vllm"
BASE = "docker.io/vllm/vllm-openai:v1"

#: Notes each call with the variables that matter, answers from the folder of $FAKE.
_DOCKER = f"""#!{sys.executable}
import json, os, sys, time
fake, arguments = os.environ["FAKE"], sys.argv[1:]
with open(f"{{fake}}/calls", "a") as calls:
    print(json.dumps([arguments, {{k: v for k, v in os.environ.items() if k in ("BASE_IMAGE", "BUILDX_CONFIG")}}]), file=calls)
answers = json.load(open(f"{{fake}}/answers"))
status, text = answers.get(arguments[0], [0, ""])
time.sleep(answers.get("seconds", 0))
print(text, file=sys.stderr if status else sys.stdout)
sys.exit(status)
"""

#: Serves the files of $FAKE/v2 as Debian's does, or ends at once when there are none.
_REGISTRY = f"""#!{sys.executable}
import hashlib, http.server, os, sys, yaml
assert sys.argv[1] == "serve"
if not os.path.isdir(os.environ["FAKE"] + "/v2"):
    sys.exit("no storage")
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        path = os.environ["FAKE"] + self.path
        known = os.path.exists(path)
        content = open(path, "rb").read() if os.path.isfile(path) else b"not here"
        self.send_response(200 if known else 404)
        self.send_header("Docker-Content-Digest", "sha256:" + hashlib.sha256(content).hexdigest())
        self.end_headers()
        self.wfile.write(content)
host, _, port = yaml.safe_load(open(sys.argv[2]))["http"]["addr"].partition(":")
http.server.ThreadingHTTPServer((host, int(port)), Handler).serve_forever()
"""


class Machine:
    """A machine with a Docker of `version`, whose builds all give the same image."""

    def __init__(self, folder: Path) -> None:
        self.fake = folder / "fake"
        self.bin = folder / "bin"
        self.state = folder / "state"
        for each in (self.fake, self.bin, self.state):
            each.mkdir()
        self.environment = {"PATH": str(self.bin), "FAKE": str(self.fake), "HOME": str(folder)}
        self.images = ImageStore(self.state / "images")
        self.answers: dict[str, Any] = {}
        self.answer(version=[0, "26.1.5"])
        self._script("docker", _DOCKER)
        self.blobs = Blobs()
        self.digest = self.blobs.image(layer(("usr/local/bin/run", b"#!")), config={"Entrypoint": ["/usr/local/bin/run"], "Env": ["A=b"]})
        self.spawner = Spawner()
        self.builder = ImageBuilder(self.images, state_dir=self.state, spawner=self.spawner, environment=self.environment)

    def _script(self, name: str, text: str) -> None:
        install(self.bin / name, text)

    def answer(self, **answers: Any) -> None:
        self.answers |= answers
        (self.fake / "answers").write_text(json.dumps(self.answers))

    def install_registry(self) -> None:
        self._script("docker-registry", _REGISTRY)
        path = self.fake / "v2" / "p/docker-repo/vllm"
        for name, content in self.blobs.items():
            for kind in ("manifests", "blobs") if name != self.digest else ("manifests",):
                (path / kind).mkdir(parents=True, exist_ok=True)
                (path / kind / name).write_bytes(content)
        (path / "manifests" / "GPU").write_bytes(self.blobs[self.digest])

    def calls(self) -> list[tuple[list[str], dict[str, str]]]:
        return [(words, environment) for words, environment in map(json.loads, (self.fake / "calls").open())]

    def build(self, dockerfile: Path = ROOT / "images/gpu.Dockerfile") -> BuiltImage:
        return self.builder.build(
            BuildRequest(
                name=f"{REPOSITORY}:GPU",
                context=BuildContext(ROOT / "images", dockerfile),
                platform="linux/amd64",
                args={"BASE_IMAGE": BASE},
            )
        )


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path)
    machine.install_registry()
    yield machine
    machine.spawner.stop()


def test_pushed_image_has_the_registry_s_digest_and_its_layers_files(machine: Machine) -> None:
    built = machine.build()
    assert built.stored.digest == machine.digest
    assert built.stored == machine.images.resolve(f"{REPOSITORY}@{machine.digest}")
    assert built.stored.config.entrypoint == ("/usr/local/bin/run",)
    assert (built.stored.rootfs / "usr/local/bin/run").read_bytes() == b"#!"
    assert "built by Docker 26.1.5 and pushed to a registry on this machine" in built.how
    assert f"{BASE} was not pulled: a small base made here stands for it" in built.how
    pushed = [words[-1] for words, _ in machine.calls() if words[0] == "push"]
    assert pushed == [f"{machine.builder.registry.address()}/p/docker-repo/vllm:GPU"]


def test_base_is_one_made_here_under_a_name_of_its_own_and_the_argument_keeps_the_real_name(machine: Machine) -> None:
    machine.build()
    builds = [(words, environment) for words, environment in machine.calls() if words[:2] == ["buildx", "build"]]
    (base, _), (image, environment) = builds
    name = base[base.index("--tag") + 1]
    assert name.startswith("tpu-gpu-fungibility-sandbox/base:")
    assert image[image.index("--build-context") + 1] == f"{BASE}=docker-image://{name}"
    # The value is not on the command line, which every user of the machine can read.
    assert image[image.index("--build-arg") + 1] == "BASE_IMAGE"
    assert environment["BASE_IMAGE"] == BASE
    assert environment["BUILDX_CONFIG"] == str(machine.state / "buildx")


def test_no_name_stays_in_the_daemon_even_after_a_failure(machine: Machine) -> None:
    machine.answer(push=[1, "no space left on device"])
    assert "no space left on device" in machine.build().how
    tags = {words[words.index("--tag") + 1] for words, _ in machine.calls() if "--tag" in words}
    assert tags == {words[2] for words, _ in machine.calls() if words[:2] == ["image", "rm"]}


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ({"version": [1, "Cannot connect to the Docker daemon"]}, "Cannot connect to the Docker daemon"),
        ({"version": [0, "20.10.24"]}, "the Docker daemon is version 20.10.24, older than 23"),
        ({"buildx": [1, "docker: 'buildx' is not a docker command."]}, "'buildx' is not a docker command"),
        ({"push": [1, "connection refused"]}, "the daemon cannot push to 127.0.0.1:"),
    ],
)
def test_without_a_docker_that_can_build_the_dockerfile_is_read(machine: Machine, answers: dict[str, Any], reason: str) -> None:
    machine.answer(**answers)
    built = machine.build()
    assert built.stored.digest != machine.digest
    assert built.stored.config.env == {"ACCELERATOR": "gpu"}
    assert built.how.startswith("read from its Dockerfile without Docker (")
    assert reason in built.how
    assert f"{BASE} was not pulled" in built.how


def test_daemon_that_does_not_answer_is_given_up_on(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandbox.images.docker_engine._ANSWER_SECONDS", 0.2)
    machine.answer(seconds=30)
    with pytest.raises(NoDocker, match=r"docker version did not end within 0\.2 s"):
        DockerEngine.find(machine.environment, machine.state)


def test_record_keeps_the_last_build_of_each_image(machine: Machine) -> None:
    assert read_notes(machine.state) == {}
    machine.build()
    machine.answer(version=[1, "gone"])
    second = machine.build()
    assert read_notes(machine.state) == {f"{REPOSITORY}:GPU": {"digest": second.stored.digest, "how": second.how}}


def test_registry_that_ends_at_once_says_why(machine: Machine) -> None:
    shutil.rmtree(machine.fake / "v2")
    with pytest.raises(RegistryError, match=r"did not start on 127\.0\.0\.1:\d+; the end of .*:\nno storage"):
        machine.builder.registry.address()
