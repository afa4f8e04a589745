"""Both images, really built and really run, with fake devices: what a process on this machine cannot show.

The base is a few shells and tools instead of gigabytes of vLLM; the Dockerfiles, the entrypoint and the health command
are those that ship. A GPU is a folder mounted at /usr/local/nvidia, as the Deployment mounts the driver's; a TPU is a
device.
Left out: the real bases (no test pulls ten gigabytes), real accelerators, and whatever the scripts do in any shell (test_entrypoint.py,
test_health.py).
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.images.image_docker import Docker
from tests.images.image_fakes import IMAGES, NVIDIA_SMI, SERVER_EXIT_CODE, write_program, write_root_file_system

pytestmark = pytest.mark.docker

SERVER_MODULE = ["-m", "vllm.entrypoints.openai.api_server"]
TPU = ("--device", "/dev/null:/dev/vfio/0")
PROMPT = 8.0
"""Seconds for `docker stop` on a busy machine; what ignores SIGTERM takes the 20 s that it is given."""


@pytest.fixture(scope="session")
def base(docker: Docker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    archive = tmp_path_factory.mktemp("base") / "root.tar"
    write_root_file_system(archive)
    name = f"fungibility-test/base:{uuid.uuid4().hex[:12]}"
    docker.run("import", str(archive), name)
    probe = docker.try_run("run", "--rm", "--network=none", name, "/usr/bin/cat", "/dev/null")
    assert probe.returncode == 0, f"this Docker cannot run a container: {probe.stderr}"
    yield name
    docker.run("rmi", "--force", name)


@pytest.fixture(scope="session")
def images(docker: Docker, base: str) -> Iterator[dict[str, str]]:
    """Both images' names, by accelerator."""
    built = {}
    for accelerator in ("gpu", "tpu"):
        built[accelerator] = f"fungibility-test/{accelerator}:{uuid.uuid4().hex[:12]}"
        docker.build(IMAGES / f"{accelerator}.Dockerfile", built[accelerator], {"BASE_IMAGE": base})
    yield built
    for name in built.values():
        docker.run("rmi", "--force", name)


class Container:
    """A container of one of the images, with what its server recorded."""

    def __init__(self, docker: Docker, name: str, record: Path) -> None:
        self.docker, self.name, self.record = docker, name, record

    @property
    def log(self) -> str:
        return self.docker.run("logs", self.name)

    @property
    def running(self) -> bool:
        return bool(self.docker.inspect(self.name)["State"]["Running"])

    @property
    def exit_code(self) -> int:
        return int(self.docker.inspect(self.name)["State"]["ExitCode"])

    @property
    def server_arguments(self) -> list[str]:
        return (self.record / "arguments").read_text().split("\0")[:-1]

    def health(self, *arguments: str) -> int:
        return self.docker.try_run("exec", self.name, "fungibility-health", *arguments).returncode

    def wait_for(self, condition: Callable[[], bool], what: str, timeout: float = 20) -> Container:
        deadline = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < deadline, f"no {what} after {timeout} s; log:\n{self.log}"
            time.sleep(0.05)
        return self

    def wait_for_role(self, role: str) -> Container:
        return self.wait_for(lambda: f"role={role} " in self.log, f"role {role}")

    def wait_for_server(self) -> Container:
        return self.wait_for((self.record / "started").exists, "server")

    def wait_for_end(self, timeout: float = 20) -> int:
        self.wait_for(lambda: not self.running, "end", timeout)
        return self.exit_code

    def stop(self) -> int:
        """Stops it as a kubelet does, by SIGTERM and a grace period; fails unless it is over at once."""
        started = time.monotonic()
        self.docker.run("stop", "--time=20", self.name)
        took = time.monotonic() - started
        assert took < PROMPT, f"took {took:.1f} s to stop; log:\n{self.log}"
        return self.exit_code


Start = Callable[..., Container]


@pytest.fixture
def privileged(docker: Docker, base: str) -> str:
    """The option that the Deployment's containers run with, where this machine's Docker may use it."""
    probe = docker.try_run("run", "--rm", "--network=none", "--privileged", base, "/usr/bin/cat", "/dev/null")
    if probe.returncode != 0:
        pytest.skip(f"Docker may not run privileged containers here: {probe.stderr.strip()}")
    return "--privileged"


@pytest.fixture
def start(docker: Docker, images: dict[str, str], tmp_path: Path) -> Iterator[Start]:
    started: list[Container] = []

    def start(accelerator: str, *arguments: str, options: tuple[str, ...] = ()) -> Container:
        record = tmp_path / f"record{len(started)}"
        record.mkdir()
        record.chmod(0o777)  # a container may run as anyone
        network = () if any(option.startswith("--network") for option in options) else ("--network=none",)
        name = docker.run(
            "run", "--detach", *network, f"--volume={record}:/record", "--env=RECORD=/record", *options, images[accelerator], *arguments
        )
        started.append(Container(docker, name, record))
        return started[-1]

    yield start
    for container in reversed(started):
        docker.run("rm", "--force", container.name)


@pytest.fixture
def gpu(tmp_path: Path) -> tuple[str, ...]:
    """Options of a container on a GPU node whose driver is installed."""
    write_program(tmp_path / "nvidia" / "bin" / "nvidia-smi", NVIDIA_SMI)
    return (f"--volume={tmp_path}/nvidia:/usr/local/nvidia",)


# --- the images themselves --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("accelerator", ["gpu", "tpu"])
def test_the_image_is_its_base_the_scripts_and_the_servers_middleware(
    docker: Docker, base: str, images: dict[str, str], accelerator: str
) -> None:
    image, below = docker.inspect(images[accelerator]), docker.inspect(base)
    layers, lower = image["RootFS"]["Layers"], below["RootFS"]["Layers"]
    assert layers[: len(lower)] == lower
    assert len(layers) == len(lower) + 2
    assert 0 < image["Size"] - below["Size"] < 64_000


@pytest.mark.parametrize("accelerator", ["gpu", "tpu"])
def test_the_image_says_what_it_is(docker: Docker, base: str, images: dict[str, str], accelerator: str) -> None:
    config = docker.inspect(images[accelerator])["Config"]
    assert config["Entrypoint"] == ["/usr/local/bin/fungibility-entrypoint"]
    assert not config["Cmd"], "arguments of the base's command would reach the server"
    assert f"ACCELERATOR={accelerator}" in config["Env"]
    assert config["Labels"]["org.opencontainers.image.base.name"] == base
    assert accelerator.upper() in config["Labels"]["org.opencontainers.image.title"]
    assert "serves on" in config["Labels"]["org.opencontainers.image.description"]


def test_a_second_build_changes_nothing_runs_nothing_and_is_sent_no_more_than_the_scripts(
    docker: Docker, base: str, images: dict[str, str]
) -> None:
    tag = f"fungibility-test/again:{uuid.uuid4().hex[:12]}"
    log = docker.build(IMAGES / "gpu.Dockerfile", tag, {"BASE_IMAGE": base})
    again = docker.inspect(tag)["Id"]
    docker.run("rmi", "--force", tag)
    assert again == docker.inspect(images["gpu"])["Id"]
    assert not re.search(r"\bRUN\b|apt|pip", log)
    transferred = re.findall(r"transferring context: ([\d.]+)(k?)B", log)
    assert transferred, log
    assert sum(float(size) * (1000 if kilo else 1) for size, kilo in transferred) < 32_000, "the context is more than the scripts"


# --- which role -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("devices", "serves"), [("tpu", "tpu"), ("gpu", "gpu"), ("both", "tpu")])
def test_a_pod_of_both_containers_serves_once_and_both_are_ready(start: Start, gpu: tuple[str, ...], devices: str, serves: str) -> None:
    """Containers of a pod share the network and /dev/shm, where both roles go as their root file systems are read-only."""
    node = {"tpu": TPU, "gpu": gpu, "both": (*TPU, *gpu)}[devices]
    shared = ("--read-only", "--env=SERVE_HEALTH=8000", *node)
    first = start("gpu", "--port=8000", options=("--ipc=shareable", *shared))
    second = start("tpu", "--port=8000", options=(f"--network=container:{first.name}", f"--ipc=container:{first.name}", *shared))
    pod = {"gpu": first, "tpu": second}
    server, idle = pod.pop(serves), next(iter(pod.values()))
    server.wait_for_server()
    idle.wait_for_role("idle")
    assert server.server_arguments == [*SERVER_MODULE, "--port=8000"]
    assert not (idle.record / "started").exists()
    if devices == "tpu":
        assert "machine doesn't contain GPUs (a TPU device is present at /dev/vfio/0)" in idle.log
    assert [container.health(probe) for container in (server, idle) for probe in ("live", "ready")] == [0] * 4


# --- signals, as process 1 --------------------------------------------------------------------------------------------


def test_stop_while_waiting(start: Start) -> None:
    assert start("gpu").wait_for_role("waiting").stop() == 143


def test_stop_while_serving_reaches_the_server(start: Start) -> None:
    server = start("tpu", options=TPU).wait_for_server()
    assert (server.record / "started").read_text() == "1\n", "the server is not process 1"
    assert server.stop() == SERVER_EXIT_CODE
    assert (server.record / "signal").read_text() == "TERM\n"


# --- what the server gets ---------------------------------------------------------------------------------------------


def test_the_references_own_command_line_and_environment(start: Start, privileged: str) -> None:
    arguments = ["--host=0.0.0.0", "--port=8000", "--max-model-len=8192", "--model=Qwen/Qwen2-1.5B"]
    environment = {"TPU_TOPOLOGY": "1x1", "TPU_SKIP_MDS_QUERY": "true", "TPU_ACCELERATOR_TYPE": "v6e-1", "HUGGING_FACE_HUB_TOKEN": "hf_x"}
    options = tuple(f"--env={name}={value}" for name, value in environment.items())
    server = start("tpu", *arguments, options=(privileged, *TPU, *options)).wait_for_server()
    assert server.server_arguments == [*SERVER_MODULE, *arguments]
    seen = (server.record / "environment").read_text().splitlines()
    assert {f"{name}={value}" for name, value in environment.items()} <= set(seen)
    assert "hf_x" not in server.log


# --- what a probe sees ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rights", ["plain", "privileged", "no rights"])
def test_read_only_root_file_system(start: Start, request: pytest.FixtureRequest, rights: str) -> None:
    if rights == "privileged":
        options: tuple[str, ...] = (request.getfixturevalue("privileged"),)
    else:
        options = ("--user=1000:1000", "--cap-drop=ALL") if rights == "no rights" else ()
    idle = start("gpu", options=("--read-only", *options, *TPU)).wait_for_role("idle")
    assert (idle.health(), idle.health("ready")) == (0, 0)
    server = start("tpu", options=("--read-only", *options, *TPU, "--env=SERVE_HEALTH=8000")).wait_for_server()
    assert (server.health(), server.health("ready")) == (0, 0)
    assert idle.stop() == 0


def test_a_restarted_container_decides_anew(start: Start, tmp_path: Path, docker: Docker) -> None:
    (tmp_path / "nvidia").mkdir()
    mount = (f"--volume={tmp_path}/nvidia:/usr/local/nvidia", "--env=DEVICE_WAIT_SECONDS=0")
    container = start("gpu", options=mount)
    assert container.wait_for_end() == 1
    write_program(tmp_path / "nvidia" / "bin" / "nvidia-smi", NVIDIA_SMI)
    docker.run("start", container.name)
    container.wait_for_server()
