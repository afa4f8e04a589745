"""Fakes that the image tests share: stand-ins for the server and its answers, and a root file system small enough to build on.

Both tiers use one stand-in for the server: the shell tier puts it on PATH as `python3`, the container tier into the base.
Left out: anything of vLLM. What these tests prove is what reaches the server, not what the server does with it.
"""

from __future__ import annotations

import http.server
import io
import re
import shutil
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

IMAGES = Path(__file__).resolve().parents[2] / "images"
ENTRYPOINT = IMAGES / "fungibility-entrypoint"
HEALTH = IMAGES / "fungibility-health"
DRAIN = IMAGES / "fungibility-drain"
MIDDLEWARE = IMAGES / "fungibility_drain.py"

SERVER_EXIT_CODE = 7
"""What the server stand-in exits with when it gets SIGTERM: a code that nothing else here uses."""

SERVER = f"""#!/bin/sh
# Stands in for python3 and for vllm: writes down how it was called, serves /health on request, ends on SIGTERM.
trap 'echo TERM >"$RECORD/signal"; kill "$!"; exit {SERVER_EXIT_CODE}' TERM
printf '%s\\0' "$@" >"$RECORD/arguments"
env >"$RECORD/environment"
if [ -n "${{SERVE_HEALTH:-}}" ]; then
    busybox httpd -p "127.0.0.1:$SERVE_HEALTH" -h /www
fi
echo "$$" >"$RECORD/started"
sleep 600 &
wait "$!"
"""

NVIDIA_SMI = """#!/bin/sh
[ "$*" = -L ] || exit 2
echo 'GPU 0: NVIDIA L4 (UUID: GPU-6d0a8fd3-4a3c-4a8c-8f0e-4b3a3f3c1d7e)'
"""
"""Lists one GPU, in the words of the real command."""

_PROGRAMS = ("sh", "bash", "env", "timeout", "sleep", "cat", "mkdir", "mv", "rm", "mknod", "busybox")


def write_program(path: Path, text: str) -> Path:
    """Makes an executable script and returns its path. It appears whole: who waits for it never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.draft")
    draft.write_text(text)
    draft.chmod(0o755)
    draft.rename(path)
    return path


def missing_programs() -> list[str]:
    """The programs of this machine that `write_root_file_system` needs and does not find."""
    return [name for name in (*_PROGRAMS, "ldd") if shutil.which(name) is None]


def _libraries(program: Path) -> set[Path]:
    """The shared libraries that a program loads, the dynamic linker included; none for a static one."""
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=False)
    return {Path(match) for match in re.findall(r"(?:=> |^\s+)(/\S+) \(0x", listed.stdout, re.MULTILINE)}


def write_root_file_system(path: Path) -> None:
    """Writes a tar file with shells and tools as vLLM's images have them, taken from this machine, and the stand-in.

    What is in it is what the entrypoint may rely on: a POSIX shell, bash and the core utilities; no grep, curl or init.
    """
    with tarfile.open(path, "w") as tar:

        def add(name: str, content: bytes, mode: int = 0o755) -> None:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            tar.addfile(entry, io.BytesIO(content))

        for folder in ("usr", "usr/bin", "usr/local", "usr/local/bin", "tmp", "www", "record", "dev", "proc", "sys"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
            tar.addfile(entry)
        link = tarfile.TarInfo("bin")
        link.type, link.linkname = tarfile.SYMTYPE, "usr/bin"
        tar.addfile(link)

        libraries: set[Path] = set()
        for name in _PROGRAMS:
            program = Path(shutil.which(name) or name).resolve(strict=True)
            add(f"usr/bin/{name}", program.read_bytes())
            libraries |= _libraries(program)
        for library in sorted(libraries):
            add(str(library).lstrip("/"), library.read_bytes())
        add("usr/bin/python3", SERVER.encode())
        add("www/health", b"", 0o644)


class EngineServer:
    """Answers `/health` with `health`, whatever its engine does; `metrics` are what that last said, `answers` whether it makes a token."""

    def __init__(self, health: int = 200, address: str = "127.0.0.1") -> None:
        self.metrics: Callable[[], str] = lambda: "vllm:num_requests_running{} 0.0"
        self.answers = True
        self.status = 200
        self.asked: list[tuple[str, str]] = []
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                owner.asked.append((self.path, ""))
                self._say(*{"/health": (health, ""), "/metrics": (200, owner.metrics())}.get(self.path, (404, "")))

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                owner.asked.append((f"{self.path} {body}", self.headers.get("Authorization", "")))
                if owner.answers:
                    self._say(owner.status, "{}")
                else:
                    owner._ended.wait(10)

            def _say(self, status: int, body: str) -> None:
                self.send_response(status)
                self.end_headers()
                self.wfile.write(body.encode() + b"\n")

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._ended = threading.Event()
        self._server = http.server.ThreadingHTTPServer((address, 0), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def __enter__(self) -> EngineServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def tokens_asked(self) -> list[tuple[str, str]]:
        """Requests for a token, with their credentials."""
        return [each for each in self.asked if each[0].startswith("/v1/")]


def metrics(*, running: int, waiting: int, tokens: int = 0) -> str:
    """As vLLM writes them, among others that do not count, one of which begins as the name of one that does."""
    labels = '{engine="0",model_name="Qwen/Qwen2-1.5B served"}'
    return f"""# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{labels} {running}.0
vllm:num_requests_waiting_by_reason{{engine="0",reason="capacity"}} {waiting}.0
vllm:num_requests_waiting{labels} {waiting}.0
vllm:generation_tokens_total{labels} {tokens}.0
process_cpu_seconds_total {time.monotonic()}"""
