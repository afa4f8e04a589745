"""Servers as a container of a pod runs them: the image's entrypoint, the Deployment's arguments, a pod's address.

Left out: the node agent and everything above it; `tests/sandbox` and `python -m sandbox up --server vllm` have those.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import requests

from sandbox.node_agent.devices import GPU_LABEL, TPU_LABEL, NodeDevices
from sandbox.node_agent.images import search_path
from sandbox.servers.model_server import ModelServer

_IMAGES = Path(__file__).resolve().parents[2] / "images"

MODEL = "Qwen/Qwen2-1.5B"
PORT = 8000

_START_SECONDS = 600.0
_ANSWER_SECONDS = 120.0


class Server:
    """One container's run. `end` has to be called."""

    def __init__(self, server: ModelServer, accelerator: str, arguments: Sequence[str], *, folder: Path, loopback: str) -> None:
        self.arguments = tuple(arguments)
        self.log = folder / "log"
        self.url = f"http://{loopback}:{PORT}"
        self._environment = _environment(server, accelerator, folder, loopback)
        begun = time.monotonic()
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [str(_IMAGES / "fungibility-entrypoint"), *arguments],
                env=self._environment,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._begun = begun
        #: Until /health said 200.
        self.start_seconds = float("nan")

    def wait_until_healthy(self) -> Server:
        deadline = self._begun + _START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                if self.get("/health").status_code == 200:
                    self.start_seconds = time.monotonic() - self._begun
                    return self
            except requests.ConnectionError:
                time.sleep(0.2)
        raise AssertionError(f"no 200 of {self.url}/health (exit code {self._process.poll()}); its log ends:\n{self.last_words()}")

    def last_words(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-40:])

    def request(self, method: str, path: str, **options: Any) -> requests.Response:
        return requests.request(method, self.url + path, timeout=_ANSWER_SECONDS, **options)

    def get(self, path: str, **options: Any) -> requests.Response:
        return self.request("GET", path, **options)

    def post(self, path: str, body: object, **options: Any) -> requests.Response:
        return self.request("POST", path, json=body, **options)

    # --- what a kubelet runs in its container

    def drain(self, *arguments: str) -> None:
        """The preStop hook, until it is over."""
        subprocess.run([_IMAGES / "fungibility-drain", *arguments], env=self._environment, check=True, timeout=300)

    def health(self, probe: str, **variables: str) -> tuple[int, str]:
        """Exit code of the health command, and what it said."""
        done = subprocess.run(
            [_IMAGES / "fungibility-health", probe],
            env=self._environment | variables,
            check=False,
            capture_output=True,
            text=True,
            timeout=30,
        )
        return done.returncode, done.stdout.strip()

    # --- its processes

    @property
    def command_line(self) -> list[str]:
        """The command line of the main process, as the kernel has it."""
        return Path(f"/proc/{self._process.pid}/cmdline").read_bytes().decode().split("\0")[:-1]

    def processes(self) -> list[int]:
        """Every live process of the run."""
        return [pid for pid in _all_processes() if _session(pid) == self._process.pid]

    def memory_bytes(self) -> int:
        """The memory of all its processes; shared pages are divided among them."""
        total = 0
        for pid in self.processes():
            if found := re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE):
                total += int(found[1]) * 1024
        return total

    def processes_left(self, within: float) -> list[int]:
        """What still runs after so many seconds; the engine's processes end a moment after the main one."""
        deadline = time.monotonic() + within
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return left

    def listening_addresses(self) -> set[str]:
        """Where the machine listens on the server's port, over IPv4 and IPv6; `0.0.0.0` is every address."""
        found = set()
        for name in ("tcp", "tcp6"):
            for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
                _, local, _, state, *_ = line.split()
                address, _, port = local.partition(":")
                if state == "0A" and int(port, 16) == PORT:
                    found.add(_address(address))
        return found

    def hang_engine(self) -> None:
        """The engine does no step any more, and the server goes on: the real one has a process of its own for it."""
        engines = [pid for pid in self.processes() if b"EngineCore" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        for pid in engines:
            os.kill(pid, signal.SIGSTOP)
        if not engines:
            self._process.send_signal(signal.SIGUSR1)

    def send_sigterm(self) -> None:
        """To the main process alone, as a container runtime sends it."""
        self._process.send_signal(signal.SIGTERM)

    def terminate(self) -> tuple[int, float]:
        """SIGTERM to the main process alone, as a container runtime sends it; returns exit code and seconds."""
        begun = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(timeout=60)
        return code, time.monotonic() - begun

    def wait(self) -> int:
        """The exit code, of one that ends by itself."""
        return self._process.wait(timeout=_START_SECONDS)

    def end(self) -> None:
        for pid in self.processes():
            os.kill(pid, signal.SIGKILL)
        self._process.wait()


def _environment(server: ModelServer, accelerator: str, folder: Path, loopback: str) -> dict[str, str]:
    """What the node agent gives a container, on a node that has this accelerator and not the other."""
    devices = NodeDevices(folder / "node")
    devices.make("node-1", {"gpu": {GPU_LABEL: "nvidia-l4"}, "tpu": {TPU_LABEL: "tpu-v6e-slice"}}[accelerator])
    for name in ("home", "tmp", "run"):
        (folder / name).mkdir(parents=True)
    return {
        "LANG": "C.UTF-8",
        "PATH": search_path(folder, server.program_folders, None),
        "PYTHONPATH": os.pathsep.join(map(str, server.python_paths)),
        "HOME": str(folder / "home"),
        "TMPDIR": str(folder / "tmp"),
        "FUNGIBILITY_RUN_DIR": str(folder / "run"),
        "ACCELERATOR": accelerator,
        # As the Secret's, for a model that needs no token.
        "HUGGING_FACE_HUB_TOKEN": "",
        **server.variables,
        **devices.environment,
        "SANDBOX_POD_ADDRESS": loopback,
        "POD_LOOPBACK": loopback,
        # The stand-in's start-up time.
        "SANDBOX_SPEED": "1000",
    }


def metrics(text: str) -> Mapping[str, str]:
    """Name -> type of every metric family of a Prometheus exposition, less the times at which others were created."""
    families = re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE)
    return {name: kind for name, kind in families if not name.endswith("_created")}


def run_python(server: ModelServer, program: str) -> list[str]:
    """What the program prints as JSON in its last line, run by the server's Python."""
    result = subprocess.run(
        [str(server.program_folders[-1] / "python3"), "-c", program],
        env={"PYTHONPATH": os.pathsep.join(map(str, server.python_paths)), "PATH": os.defpath, **server.variables},
        capture_output=True,
        text=True,
        check=True,
    )
    found: list[str] = json.loads(result.stdout.splitlines()[-1])
    return found


def _all_processes() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _session(pid: int) -> int | None:
    """None of a zombie, too."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[3])


def _address(text: str) -> str:
    """An address from the kernel's hexadecimal words in the machine's byte order; IPv4 in IPv6 as IPv4."""
    words = [bytes.fromhex(text[start : start + 8])[::-1] for start in range(0, len(text), 8)]
    if len(words) == 4 and words[:3] != [bytes(4), bytes(4), b"\0\0\xff\xff"]:
        return "0.0.0.0" if not any(b"".join(words)) else b"".join(words).hex(":", 2)
    return ".".join(map(str, words[-1]))
