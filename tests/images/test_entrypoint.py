"""The entrypoint as a process on this machine, with fake devices in a temporary folder: quick, and needs no Docker.

Left out: what only a container shows (process 1, a read-only root file system, the image's environment), which
test_containers.py does.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.images.image_fakes import ENTRYPOINT, MIDDLEWARE, NVIDIA_SMI, SERVER, SERVER_EXIT_CODE, write_program

SERVER_MODULE = ["-m", "vllm.entrypoints.openai.api_server"]
PROMPT = 3.0
"""Seconds within which a container must be gone after a signal, on a busy machine too: Spot gives pods 15 in all."""


class Container:
    """One running entrypoint, with what it wrote and what it left."""

    def __init__(self, command: list[str], environment: Mapping[str, str], folder: Path) -> None:
        self.record = Path(environment["RECORD"])
        self.role_file = Path(environment["FUNGIBILITY_RUN_DIR"]) / f"role.{environment.get('ACCELERATOR', '')}"
        self._mark = f"TEST_MARK={environment['TEST_MARK']}".encode()
        self._log = folder / f"log.{uuid.uuid4().hex}"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def role(self) -> str:
        """The role that a probe reads now; empty before there is one."""
        return self.published.get("role", "")

    @property
    def published(self) -> dict[str, str]:
        if not self.role_file.exists():
            return {}
        return dict(line.split("=", 1) for line in self.role_file.read_text().splitlines())

    @property
    def server_arguments(self) -> list[str]:
        return (self.record / "arguments").read_text().split("\0")[:-1]

    @property
    def server_environment(self) -> dict[str, str]:
        lines = (self.record / "environment").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def processes(self) -> list[int]:
        """Every process that descends from this container's entrypoint, itself included, zombies not."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    if self._mark in (entry / "environ").read_bytes().split(b"\0"):
                        found.append(int(entry.name))
                except OSError:
                    continue
        return found

    def wait_for_role(self, *roles: str, timeout: float = 10) -> Container:
        wait_until(lambda: self.role in roles, f"role {' or '.join(roles)}", self, timeout)
        return self

    def wait_for_server(self, timeout: float = 10) -> Container:
        wait_until((self.record / "started").exists, "the server", self, timeout)
        return self

    def end(self, number: int = signal.SIGTERM) -> int:
        """Sends the signal and returns the exit code; fails unless it is over at once and nothing is left."""
        started = time.monotonic()
        self.process.send_signal(number)
        code = self.process.wait(timeout=10)
        assert time.monotonic() - started < PROMPT, f"took {time.monotonic() - started:.1f} s to end:\n{self.log}"
        # busybox's `timeout` watches from a process of its own, which looks up once a second.
        wait_until(lambda: not self.processes(), "end of all processes", self, timeout=5)
        return code


def wait_until(condition: Callable[[], bool], what: str, container: Container, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"no {what} after {timeout} s; log:\n{container.log}"
        time.sleep(0.002)


class Node:
    """A node with the accelerators that a test gives it, on which containers run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tpu_device = folder / "dev" / "vfio" / "0"
        self.nvidia_device = folder / "dev" / "nvidia0"
        self.script = ENTRYPOINT
        self.shell: tuple[str, ...] = ()
        self.server = "python3"
        self.containers: list[Container] = []
        (folder / "dev" / "vfio").mkdir(parents=True)

    def add_tpu(self) -> None:
        self.tpu_device.symlink_to("/dev/null")

    def add_gpu(self, nvidia_smi: str = NVIDIA_SMI) -> None:
        write_program(self.folder / "nvidia" / "nvidia-smi", nvidia_smi)

    def add_nvidia_device(self) -> None:
        self.nvidia_device.symlink_to("/dev/null")

    def run(self, accelerator: str, *arguments: str, **environment: str) -> Container:
        record = self.folder / f"record.{uuid.uuid4().hex}"
        write_program(record / "bin" / self.server, SERVER)
        inherited = {
            "PATH": f"{record}/bin:{self.folder}/nvidia:{os.environ['PATH']}",
            "RECORD": str(record),
            "TEST_MARK": uuid.uuid4().hex,
        }
        settings = {
            "ACCELERATOR": accelerator,
            "TPU_DEVICE": str(self.tpu_device),
            "NVIDIA_DEVICE": str(self.nvidia_device),
            # By path, so that a machine with a real GPU runs these tests as well.
            "NVIDIA_SMI": str(self.folder / "nvidia" / "nvidia-smi"),
            "FUNGIBILITY_RUN_DIR": str(self.folder / "run"),
        }
        container = Container([*self.shell, str(self.script), *arguments], inherited | settings | environment, self.folder)
        self.containers.append(container)
        return container


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path)
    yield node
    for container in node.containers:
        container.process.kill()
        container.process.wait()
        for process in container.processes():
            os.kill(process, signal.SIGKILL)


SHELLS = {"shebang": (), "bash": ("bash", "--posix"), "busybox": ("busybox", "sh")}


@pytest.fixture(params=SHELLS)
def each_shell(request: pytest.FixtureRequest, node: Node) -> None:
    """Runs a test with each shell that a base may have as /bin/sh: this machine's own, bash, and busybox's."""
    node.shell = SHELLS[request.param]
    if node.shell and shutil.which(node.shell[0]) is None:
        pytest.skip(f"{node.shell[0]} is not installed")


# --- which role -------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("each_shell")
def test_gpu_container_serves_on_a_gpu_node(node: Node) -> None:
    node.add_gpu()
    container = node.run("gpu", "--port=8000").wait_for_server()
    assert container.role == "serving"
    assert container.server_arguments == [*SERVER_MODULE, "--port=8000"]
    assert "role=serving accelerator=gpu: this node has a GPU" in container.log


@pytest.mark.usefixtures("each_shell")
def test_an_image_with_the_program_vllm_is_served_by_it(node: Node) -> None:
    node.add_gpu()
    node.server = "vllm"
    container = node.run("gpu", "--port=8000", "--model=Qwen/Qwen2-1.5B", "--model-impl=auto", "--served-model-name=a b").wait_for_server()
    assert container.server_arguments == ["serve", "Qwen/Qwen2-1.5B", "--port=8000", "--model-impl=auto", "--served-model-name=a b"]


@pytest.mark.parametrize("accelerator", ["gpu", "tpu"])
def test_container_idles_on_a_node_of_the_other_kind_and_says_why(node: Node, accelerator: str) -> None:
    other = "tpu" if accelerator == "gpu" else "gpu"
    node.add_tpu() if other == "tpu" else node.add_gpu()
    container = node.run(accelerator).wait_for_role("idle")
    assert f"role=idle accelerator={accelerator}: machine doesn't contain {accelerator.upper()}s (" in container.log
    assert f"this container idles and the {other.upper()} container of the pod serves" in container.log
    assert not (container.record / "started").exists()


def test_tpu_container_without_the_driver_files_idles_on_nvidias_device_file(node: Node) -> None:
    node.add_nvidia_device()
    assert f"a GPU device is present at {node.nvidia_device}" in node.run("tpu").wait_for_role("idle").log


def test_a_device_file_is_not_enough_for_the_gpu_container_to_serve(node: Node) -> None:
    node.add_nvidia_device()
    container = node.run("gpu", DEVICE_WAIT_SECONDS="0")
    assert container.process.wait(timeout=10) == 1
    assert not (container.record / "started").exists()


@pytest.mark.parametrize(("tpu", "gpu", "server"), [(True, False, "tpu"), (False, True, "gpu"), (True, True, "tpu")])
def test_exactly_one_container_of_a_pod_serves(node: Node, tpu: bool, gpu: bool, server: str) -> None:
    if tpu:
        node.add_tpu()
    if gpu:
        node.add_gpu()
    pod = {accelerator: node.run(accelerator).wait_for_role("serving", "idle") for accelerator in ("gpu", "tpu")}
    assert {accelerator for accelerator, container in pod.items() if container.role == "serving"} == {server}


@pytest.mark.parametrize(
    "nvidia_smi",
    [
        pytest.param("exit 9", id="no-driver"),
        pytest.param("echo 'No devices found.'", id="no-device"),
        pytest.param("echo 'Unable to determine the device handle for GPU0: 0000:00:04.0: Unknown Error'; exit 15", id="lost"),
        pytest.param("echo 'Unable to determine the device handle for GPU 0: Unknown Error'", id="lost-quietly"),
        pytest.param("echo 'GPU 0: NVIDIA L4 (UUID: GPU-1)'; exit 15", id="lists-and-fails"),
        pytest.param("echo 'GPU 0: NVIDIA L4 (UUID: GPU-1)' >&2", id="not-on-stdout"),
    ],
)
def test_a_gpu_that_does_not_answer_does_not_count(node: Node, nvidia_smi: str) -> None:
    node.add_gpu(f"#!/bin/sh\n{nvidia_smi}\n")
    container = node.run("gpu", DEVICE_WAIT_SECONDS="0")
    assert container.process.wait(timeout=10) == 1
    assert not (container.record / "started").exists()


def test_a_gpu_listed_after_a_warning_is_a_gpu(node: Node) -> None:
    node.add_gpu(NVIDIA_SMI.replace("echo 'GPU 0", "echo 'WARNING: infoROM is corrupted'\necho 'GPU 0"))
    assert node.run("gpu").wait_for_server().role == "serving"


@pytest.mark.parametrize("kind", ["file", "folder", "dangling link"])
def test_only_a_character_device_is_a_tpu(node: Node, kind: str) -> None:
    if kind == "file":
        node.tpu_device.touch()
    elif kind == "folder":
        node.tpu_device.mkdir()
    else:
        node.tpu_device.symlink_to(node.folder / "gone")
    assert node.run("tpu", DEVICE_WAIT_SECONDS="0").process.wait(timeout=10) == 1


def test_nvidia_smi_is_found_by_name_on_path(node: Node) -> None:
    write_program(node.folder / "nvidia" / "gpu-lister", NVIDIA_SMI)
    assert node.run("gpu", NVIDIA_SMI="gpu-lister").wait_for_server().role == "serving"


# --- waiting ----------------------------------------------------------------------------------------------------------


def test_without_a_device_it_fails_at_the_limit_and_names_what_it_looked_for(node: Node) -> None:
    started = time.monotonic()
    pod = {accelerator: node.run(accelerator, DEVICE_WAIT_SECONDS="3") for accelerator in ("gpu", "tpu")}
    for accelerator, container in pod.items():
        container.wait_for_role("waiting")
        assert container.process.wait(timeout=15) == 1
        assert 2 < time.monotonic() - started < 10
        failure = container.log.splitlines()[-1]
        assert failure.startswith(f"role=failed accelerator={accelerator}: ")
        assert str(node.tpu_device) in failure
        assert f"{node.folder}/nvidia/nvidia-smi -L: not found" in failure
        assert "within 3 s (DEVICE_WAIT_SECONDS)" in failure
        assert not (container.record / "started").exists()


@pytest.mark.parametrize(("added", "server", "other"), [("gpu", "gpu", "tpu"), ("tpu", "tpu", "gpu")])
def test_a_device_that_appears_later_is_noticed_by_both(node: Node, added: str, server: str, other: str) -> None:
    pod = {accelerator: node.run(accelerator).wait_for_role("waiting") for accelerator in ("gpu", "tpu")}
    node.add_gpu() if added == "gpu" else node.add_tpu()
    pod[server].wait_for_role("serving")
    pod[other].wait_for_role("idle")


def test_an_nvidia_smi_that_hangs_does_not_hold_the_loop_up(node: Node) -> None:
    node.add_gpu("#!/bin/sh\ntrap '' TERM\nsleep 600\n")
    container = node.run("gpu", NVIDIA_SMI_SECONDS="1").wait_for_role("waiting")
    assert "no answer within 1 s" in container.log
    node.add_gpu()
    container.wait_for_server()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ACCELERATOR", "npu"),
        ("ACCELERATOR", ""),
        ("DEVICE_WAIT_SECONDS", "5m"),
        ("DEVICE_WAIT_SECONDS", "-1"),
        ("NVIDIA_SMI_SECONDS", "0"),
    ],
)
def test_a_wrong_environment_is_refused_by_name_value_and_fix(node: Node, name: str, value: str) -> None:
    node.add_gpu()
    container = node.run("gpu", **{name: value})
    assert container.process.wait(timeout=10) == 64
    assert f"{name} is '{value}'" in container.log
    assert "must be" in container.log


# --- signals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.usefixtures("each_shell")
def test_idle_ends_at_once_with_0(node: Node, number: int) -> None:
    node.add_tpu()
    container = node.run("gpu").wait_for_role("idle")
    assert container.end(number) == 0


def test_idle_ends_at_once_right_after_it_began(node: Node) -> None:
    """The moment in which the shell is starting its child: a signal to a child between fork and exec is lost."""
    node.add_tpu()
    for _ in range(25):
        container = node.run("gpu").wait_for_role("idle")
        assert container.end() == 0
        container.role_file.unlink()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.usefixtures("each_shell")
def test_waiting_ends_at_once_with_the_signals_code(node: Node, number: int, code: int) -> None:
    container = node.run("gpu").wait_for_role("waiting")
    assert container.end(number) == code


def test_waiting_ends_at_once_while_nvidia_smi_hangs(node: Node) -> None:
    node.add_gpu(f"#!/bin/sh\n: >'{node.folder}/hangs'\nsleep 600\n")
    container = node.run("gpu")
    wait_until((node.folder / "hangs").exists, "nvidia-smi", container, 10)
    assert container.end() == 143


@pytest.mark.usefixtures("each_shell")
def test_the_server_gets_the_signal_itself_and_its_exit_code_counts(node: Node) -> None:
    node.add_gpu()
    container = node.run("gpu").wait_for_server()
    assert int((container.record / "started").read_text()) == container.process.pid, "the server is not exec'd"
    assert container.end() == SERVER_EXIT_CODE
    assert (container.record / "signal").read_text() == "TERM\n"


def test_a_server_that_cannot_start_ends_the_container_with_an_error(node: Node) -> None:
    node.add_tpu()
    container = node.run("tpu", PATH="/nowhere")
    assert container.process.wait(timeout=10) in (126, 127)


# --- what the server gets ---------------------------------------------------------------------------------------------

ODD_ARGUMENTS = ["--model=Qwen/Qwen2-1.5B", "a b", 'c"d', "e'f", "", "*", "$HOME", "`id`", "\\", "g\nh", "--"]


@pytest.mark.parametrize("accelerator", ["gpu", "tpu"])
@pytest.mark.usefixtures("each_shell")
def test_arguments_reach_the_server_as_they_are(node: Node, accelerator: str) -> None:
    node.add_gpu() if accelerator == "gpu" else node.add_tpu()
    container = node.run(accelerator, *ODD_ARGUMENTS).wait_for_server()
    assert container.server_arguments == [*SERVER_MODULE, *ODD_ARGUMENTS]


@pytest.mark.parametrize("gpus", [1, 2, 8])
@pytest.mark.usefixtures("each_shell")
def test_a_server_takes_as_many_gpus_as_its_node_has_if_a_pool_has_so_many(node: Node, gpus: int) -> None:
    node.add_gpu("#!/bin/sh\n" + "".join(f"echo 'GPU {number}: NVIDIA L4 (UUID: GPU-{number})'\n" for number in range(gpus)))
    container = node.run("gpu", "--port=8000", GPU_COUNTS="1,8")
    if gpus != 2:
        assert container.wait_for_server().server_arguments == [*SERVER_MODULE, "--port=8000", f"--tensor-parallel-size={gpus}"]
        return
    assert container.process.wait(timeout=10) == 1
    assert "this node has 2 GPUs, and a pool's machine has 1,8 (GPU_COUNTS)" in container.log


def test_the_environment_reaches_the_server(node: Node) -> None:
    node.add_tpu()
    given = {
        "TPU_TOPOLOGY": "1x1",
        "TPU_TOPOLOGY_WRAP": "false,false,false",
        "HUGGING_FACE_HUB_TOKEN": "hf_x y",
        "LD_LIBRARY_PATH": "/base/lib",
    }
    container = node.run("tpu", **given).wait_for_server()
    assert given.items() <= container.server_environment.items()


def test_the_gpu_server_finds_the_drivers_files_where_the_deployment_mounts_them(node: Node) -> None:
    node.add_gpu()
    environment = node.run("gpu", LD_LIBRARY_PATH="/base/lib").wait_for_server().server_environment
    assert environment["LIBRARY_PATH"] == "/usr/local/nvidia/lib64"
    assert environment["LD_LIBRARY_PATH"] == "/usr/local/nvidia/lib64:/base/lib"
    assert environment["PATH"].endswith(":/usr/local/nvidia/bin")


def test_paths_that_name_the_drivers_files_already_stay_as_they_are(node: Node) -> None:
    node.add_gpu()
    libraries = "/base/lib:/usr/local/nvidia/lib64"
    server = node.run("gpu", LD_LIBRARY_PATH=libraries).wait_for_server()
    assert server.server_environment["LD_LIBRARY_PATH"] == libraries


def test_arguments_and_tokens_are_not_logged(node: Node) -> None:
    node.add_gpu()
    container = node.run("gpu", "--api-key=sk-secret", HUGGING_FACE_HUB_TOKEN="hf_secret").wait_for_server()
    assert "secret" not in container.log
    assert "secret" not in container.role_file.read_text()


# --- what a probe reads -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "port", "model"),
    [
        ([], "8000", ""),
        (["--port=8001", "--model=Qwen/Qwen2-1.5B"], "8001", "Qwen/Qwen2-1.5B"),
        (["--port=1", "--port=8003", "--served-model-name=given", "--model=/models/a"], "8003", "given"),
        (["--port=many", '--model=a"b'], "8000", ""),
    ],
)
def test_the_servers_port_and_its_models_name_are_published(node: Node, arguments: list[str], port: str, model: str) -> None:
    node.add_gpu()
    published = node.run("gpu", *arguments).wait_for_server().published
    assert (published["port"], published["model"]) == (port, model)


def test_the_server_finds_the_middleware_and_a_restarted_container_does_not_drain(node: Node) -> None:
    node.add_gpu()
    (node.folder / "run").mkdir()
    file = node.folder / "run" / "draining.gpu"
    file.touch()
    server = node.run("gpu", PYTHONPATH="/given").wait_for_server().server_environment
    assert server["PYTHONPATH"] == f"{MIDDLEWARE.parent}:/given"
    assert server["FUNGIBILITY_DRAINING_FILE"] == str(file)
    assert not file.exists()


def test_containers_that_share_a_folder_keep_their_roles_apart(node: Node) -> None:
    node.add_tpu()
    gpu, tpu = node.run("gpu", "--port=1"), node.run("tpu", "--port=2")
    gpu.wait_for_role("idle"), tpu.wait_for_role("serving")
    assert gpu.role_file.parent == tpu.role_file.parent
    assert (gpu.published["port"], tpu.published["port"]) == ("1", "2")
