"""The health command against roles that real entrypoints wrote, and servers that answer well, badly, late or not."""

import ctypes
import os
import re
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from tests.images.image_fakes import ENTRYPOINT, HEALTH, SERVER, EngineServer, metrics, write_program

#: linux/prctl.h
_PR_SET_CHILD_SUBREAPER = 36


@dataclass
class Probed:
    """A container's environment as its probes see it, and the entrypoint that runs in it."""

    environment: dict[str, str]
    entrypoint: subprocess.Popen[bytes] | None = None

    def start(self, role: str, *arguments: str) -> None:
        """Runs the entrypoint until it has the role: serving and idle on a TPU node, waiting on one without devices."""
        accelerator = "gpu" if role == "idle" else "tpu"
        device = "/nowhere" if role == "waiting" else "/dev/null"
        self.environment |= {"ACCELERATOR": accelerator, "TPU_DEVICE": device}
        with (Path(self.environment["RECORD"]) / "log").open("ab") as log:
            self.entrypoint = subprocess.Popen([ENTRYPOINT, *arguments], env=self.environment, stdout=log, stderr=log)
        deadline = time.monotonic() + 10
        while self.role_file.read_text().split("\n", 1)[0] != f"role={role}" if self.role_file.exists() else True:
            assert time.monotonic() < deadline, f"the entrypoint did not take the role {role}"
            time.sleep(0.02)

    @property
    def role_file(self) -> Path:
        return Path(self.environment["FUNGIBILITY_RUN_DIR"]) / f"role.{self.environment['ACCELERATOR']}"

    def health(self, *arguments: str, **environment: str) -> tuple[int, str]:
        """The exit code and what it said, on one line."""
        # A file, not a pipe: a process that outlived the command would hold a pipe, and this test, open.
        with tempfile.TemporaryFile("w+") as output:
            done = subprocess.run(
                [HEALTH, *arguments], check=False, env=self.environment | environment, stdout=output, stderr=subprocess.STDOUT, timeout=20
            )
            output.seek(0)
            (said,) = output.read().splitlines()
        return done.returncode, said


@pytest.fixture
def probed(tmp_path: Path) -> Iterator[Probed]:
    write_program(tmp_path / "bin" / "python3", SERVER)
    probed = Probed(
        {
            "PATH": f"{tmp_path}/bin:{os.environ['PATH']}",
            "RECORD": str(tmp_path),
            "FUNGIBILITY_RUN_DIR": str(tmp_path / "run"),
            "NVIDIA_SMI": "/nowhere",
            "NVIDIA_DEVICE": "/nowhere",
            "ACCELERATOR": "tpu",
        }
    )
    yield probed
    if probed.entrypoint is not None:
        probed.entrypoint.terminate()
        probed.entrypoint.wait(timeout=10)


@contextmanager
def says(reply: bytes) -> Iterator[int]:
    """Accepts one connection, says the reply and holds the connection open; yields the port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        held: list[socket.socket] = []

        def accept() -> None:
            connection, _ = listening.accept()
            held.append(connection)
            connection.sendall(reply)

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield listening.getsockname()[1]
        finally:
            for connection in held:
                connection.close()


@pytest.fixture
def engine(probed: Probed) -> Iterator[EngineServer]:
    """Behind a container that serves, whose probes are impatient."""
    probed.environment |= {f"HEALTH_{each}_SECONDS": "0" for each in ("STALL", "IDLE", "FULL")} | {"HEALTH_TOKEN_SECONDS": "0.5"}
    with EngineServer() as found:
        probed.start("serving", f"--port={found.port}", "--model=Qwen/Qwen2-1.5B")
        yield found


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


PROBES = pytest.mark.parametrize("probe", [("live",), ("ready",)], ids=["live", "ready"])


@PROBES
def test_idle_is_healthy_though_nothing_listens(probed: Probed, probe: tuple[str, ...]) -> None:
    probed.start("idle", f"--port={unused_port()}")
    assert probed.health(*probe) == (0, "healthy: idle")


@PROBES
def test_serving_is_healthy_when_the_server_is(probed: Probed, probe: tuple[str, ...]) -> None:
    with EngineServer() as server:
        probed.start("serving", f"--port={server.port}")
        assert probed.health(*probe) == (0, "healthy: serving")


@PROBES
@pytest.mark.parametrize("status", [503, 204])
def test_serving_is_not_healthy_when_the_server_says_anything_else(probed: Probed, probe: tuple[str, ...], status: int) -> None:
    with EngineServer(status) as server:
        probed.start("serving", f"--port={server.port}")
        assert probed.health(*probe) == (1, f"not healthy: http://127.0.0.1:{server.port}/health answered {status}")


@PROBES
def test_serving_is_not_healthy_when_nothing_listens(probed: Probed, probe: tuple[str, ...]) -> None:
    port = unused_port()
    probed.start("serving", f"--port={port}")
    assert probed.health(*probe) == (1, f"not healthy: no answer from http://127.0.0.1:{port}/health")


def test_a_server_that_accepts_and_does_not_answer_is_given_up_on(probed: Probed) -> None:
    with says(b"") as port:
        probed.start("serving", f"--port={port}")
        started = time.monotonic()
        code, _ = probed.health(HEALTH_TIMEOUT_SECONDS="1")
        assert code == 1
        assert 0.5 < time.monotonic() - started < 4


@pytest.mark.parametrize("reply", [b"SSH-2.0-OpenSSH\r\n", b"\r\n"])
def test_what_is_not_http_is_not_healthy(probed: Probed, reply: bytes) -> None:
    with says(reply) as port:
        probed.start("serving", f"--port={port}")
        assert probed.health()[0] == 1


def test_a_status_line_without_a_reason_counts(probed: Probed) -> None:
    with says(b"HTTP/1.1 200\r\n\r\n") as port:
        probed.start("serving", f"--port={port}")
        assert probed.health(HEALTH_TIMEOUT_SECONDS="1")[0] == 0


@PROBES
def test_an_engine_without_steps_and_tokens_is_not_healthy_though_the_server_reports_healthy(
    probed: Probed, engine: EngineServer, probe: tuple[str, ...]
) -> None:
    engine.metrics, engine.answers = lambda: metrics(running=2, waiting=1, tokens=5), False
    assert probed.health(*probe) == (0, "healthy: serving")
    for _ in range(2):
        code, said = probed.health(*probe)
        assert code == 1
        assert re.fullmatch(
            r"not healthy: no step of the engine for \d+ s \(3 requests under way\), and no answer to a request for one token", said
        )


def test_an_engine_that_does_steps_is_healthy_and_is_not_asked_for_a_token(probed: Probed, engine: EngineServer) -> None:
    engine.answers = False
    for tokens in range(3):
        engine.metrics = partial(metrics, running=1, waiting=0, tokens=tokens)
        assert probed.health() == (0, "healthy: serving")
    assert engine.tokens_asked == []


def test_an_engine_that_idles_is_healthy_because_it_makes_a_token(probed: Probed, engine: EngineServer) -> None:
    engine.metrics = lambda: metrics(running=0, waiting=0, tokens=5)
    for _ in range(3):
        assert probed.health() == (0, "healthy: serving")
    assert engine.tokens_asked == [('/v1/completions {"model": "Qwen/Qwen2-1.5B", "prompt": ".", "max_tokens": 1}', "")] * 2


@pytest.mark.parametrize("status", [500, 503])
def test_a_token_that_the_server_refuses_does_not_count(probed: Probed, engine: EngineServer, status: int) -> None:
    engine.metrics, engine.status = lambda: metrics(running=0, waiting=0, tokens=5), status
    assert probed.health()[0] == 0
    code, said = probed.health()
    assert code == 1
    assert said.endswith(f"and no answer to a request for one token but HTTP {status}")


def test_a_request_refused_before_the_engine_proves_nothing_and_is_logged_once(
    probed: Probed, engine: EngineServer, tmp_path: Path
) -> None:
    engine.metrics, engine.status = lambda: metrics(running=0, waiting=0, tokens=5), 400
    said = "healthy: serving, by /health alone: a request for one token of model 'Qwen/Qwen2-1.5B' was answered 400"
    assert [probed.health() for _ in range(3)] == [(0, "healthy: serving"), (0, said), (0, said)]
    assert (tmp_path / "log").read_text().count("fungibility-health: ") == 1


def test_probes_that_run_into_their_limits_leave_no_process_behind(probed: Probed, engine: EngineServer) -> None:
    """Process 1 of a container reaps none. Here this test is the one to whom orphans come."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
    try:
        engine.metrics, engine.answers = lambda: metrics(running=0, waiting=0, tokens=5), False
        assert [probed.health()[0] for _ in range(2)] == [0, 1]
        with says(b"") as port:
            probed.role_file.write_text(re.sub("port=.*", f"port={port}", probed.role_file.read_text()))
            assert probed.health(HEALTH_TIMEOUT_SECONDS="0.5")[0] == 1
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        states = {pid: Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] for pid in children}
        assert [pid for pid, state in states.items() if state == "Z"] == []
    finally:
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 0)


def test_an_engine_that_works_again_is_healthy_again(probed: Probed, engine: EngineServer) -> None:
    engine.metrics, engine.answers = lambda: metrics(running=1, waiting=0, tokens=5), False
    assert [probed.health()[0] for _ in range(2)] == [0, 1]
    engine.metrics = lambda: metrics(running=1, waiting=0, tokens=6)
    assert probed.health()[0] == 0


@pytest.mark.parametrize(("running", "patience"), [(1, "HEALTH_STALL_SECONDS"), (0, "HEALTH_IDLE_SECONDS")])
def test_an_engine_may_stand_still_for_a_while(probed: Probed, engine: EngineServer, running: int, patience: str) -> None:
    engine.metrics, engine.answers = lambda: metrics(running=running, waiting=0, tokens=5), False
    assert [probed.health(**{patience: "60"})[0] for _ in range(3)] == [0, 0, 0]


def test_a_full_queue_counts_as_healthy_for_a_while(probed: Probed, engine: EngineServer) -> None:
    engine.metrics, engine.status = lambda: metrics(running=9, waiting=1, tokens=5), 503
    full = (0, "healthy: serving, with a full queue (10 requests under way)")
    assert [probed.health(HEALTH_FULL_SECONDS="60") for _ in range(2)] == [(0, "healthy: serving"), full]


def test_what_one_probe_has_seen_the_other_knows(probed: Probed, engine: EngineServer) -> None:
    engine.metrics, engine.answers = lambda: metrics(running=1, waiting=0, tokens=5), False
    assert [probed.health(probe)[0] for probe in ("live", "ready", "live")] == [0, 1, 1]


def test_a_server_with_an_api_key_is_asked_with_it(probed: Probed, engine: EngineServer) -> None:
    for _ in range(2):
        assert probed.health(VLLM_API_KEY="sk-of-a-test")[0] == 0
    assert [key for _, key in engine.tokens_asked] == ["Bearer sk-of-a-test"]


def test_a_server_without_such_metrics_is_healthy_by_its_own_answer(probed: Probed, engine: EngineServer) -> None:
    engine.metrics, engine.answers = lambda: "python_info 1.0", False
    assert [probed.health()[0] for _ in range(3)] == [0, 0, 0]
    assert engine.tokens_asked == []


def test_pod_loopback_stands_in_for_the_servers_address(probed: Probed) -> None:
    with EngineServer(address="127.0.0.3") as server:
        probed.start("serving", "--host=0.0.0.0", f"--port={server.port}")
        assert probed.health()[0] == 1
        assert probed.health(POD_LOOPBACK="127.0.0.3") == (0, "healthy: serving")


def test_waiting_is_live_but_not_ready(probed: Probed) -> None:
    probed.start("waiting")
    assert probed.health() == (0, "healthy: waiting for a device")
    assert probed.health("ready") == (3, "not ready: waiting for a device")


def test_waiting_past_the_limit_is_not_healthy(probed: Probed) -> None:
    probed.start("waiting")
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    role = re.sub("deadline=.*", f"deadline={int(uptime) - 100}", probed.role_file.read_text())
    probed.role_file.write_text(role)
    assert probed.health() == (1, "not healthy: still waiting for a device, past the limit")


def test_without_an_entrypoint_no_role_is_known(probed: Probed) -> None:
    code, said = probed.health()
    assert code == 2
    assert said.startswith("no role known")


def test_another_probe_is_refused(probed: Probed) -> None:
    code, said = probed.health("alive")
    assert code == 64
    assert "'alive'" in said
    assert "live" in said
    assert "ready" in said


def test_it_is_light(probed: Probed, engine: EngineServer) -> None:
    before = os.times()
    for tokens in range(20):
        # As much as vLLM says.
        text = metrics(running=1, waiting=0, tokens=tokens) + "\nvllm:some_bucket{} 1.0" * 800
        engine.metrics = partial(str, text)
        assert probed.health()[0] == 0
    after = os.times()
    spent = (after.children_user + after.children_system) - (before.children_user + before.children_system)
    assert spent / 20 < 0.02, f"{spent / 20 * 1000:.1f} ms of CPU a probe: a probe that starts Python takes 20 ms and more"
