"""The process: arguments, the start-up time of a real server, serving, and the end on SIGTERM.

Like vLLM, it binds its port at once and listens on it when the start-up is over, so that until then connections are refused. After SIGTERM
it goes on to listen, closes no connection by itself and answers 500 to each new request, while those under way have the seconds of
--shutdown-timeout=N and are then cut off with finish_reason "abort"; without the flag that is at once. Then the process ends.

Two faults on demand: SIGUSR1 hangs the engine while the server goes on to say that it is healthy, and a server that finds the
file SANDBOX_CRASH_FILE does not start.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import uvicorn
from starlette.routing import Route

from . import VERSION
from .app import make_app
from .engine import Engine
from .flags import parser
from .metrics import Metrics
from .settings import Settings

_log = logging.getLogger("vllm")

_LOADING = (
    "no model is loaded: this is a stand-in for vLLM, and its start-up time of %.1f s stands for downloading, loading, "
    "compiling and warming up"
)


def main() -> None:
    """Runs until SIGTERM or SIGINT."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(asctime)s [standin] %(message)s", datefmt="%m-%d %H:%M:%S")
    # `vllm serve MODEL ...`, or the older `python3 -m vllm.entrypoints.openai.api_server --model=MODEL ...`.
    arguments = parser().parse_args(sys.argv[2:] if sys.argv[1:2] == ["serve"] else sys.argv[1:])
    try:
        settings = Settings.read(arguments, os.environ)
    except ValueError as error:
        sys.exit(f"api_server.py: error: {error}")
    _log.info("vLLM API server version %s (sandbox stand-in), serving model %s", VERSION, settings.model)
    given = {name: value for name, value in vars(arguments).items() if value not in (None, False)}
    secret = {"api_key", "hf_token"}
    _log.info("non-default args: %s", {name: "***" if name in secret else value for name, value in given.items()})
    sock = _bind(settings)
    _start_up(settings)
    asyncio.run(_serve(settings, sock))


def _bind(settings: Settings) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((settings.host, settings.port))
    return sock


def _start_up(settings: Settings) -> None:
    """Takes the time that a real start takes, of which this process has had some; SIGTERM has its default effect meanwhile."""
    _log.info(_LOADING, settings.startup_seconds)
    begun = time.monotonic() - _age()
    steps = ("Loading weights took", "Compilation took", "init engine (profile, create kv cache, warmup model) took")
    for number, step in enumerate(steps, start=1):
        time.sleep(max(0.0, begun + settings.startup_seconds * number / len(steps) - time.monotonic()))
        if settings.crashes:
            # vLLM's own last words.
            sys.exit("RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {} (simulated)")
        _log.info("%s %.2f seconds (simulated)", step, settings.startup_seconds / len(steps))


def _age() -> float:
    """Seconds since this process was started, by Linux's own account."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    return time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")


async def _serve(settings: Settings, sock: socket.socket) -> None:
    metrics = Metrics(settings.served_names[0])
    engine = Engine(max_num_seqs=settings.max_num_seqs, token_seconds=settings.token_seconds, metrics=metrics)
    app = make_app(settings, engine, metrics)
    server = _Server(uvicorn.Config(app, log_level="info", access_log=settings.access_log))
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    loop.add_signal_handler(signal.SIGUSR1, engine.hang)
    host, port = sock.getsockname()[:2]
    _log.info("Starting vLLM server on http://%s:%d", settings.host or host, port)
    _log.info("Available routes are:")
    for route in app.routes:
        if isinstance(route, Route):
            _log.info("Route: %s, Methods: %s", route.path, ", ".join(sorted(route.methods or ())))
    stepping = asyncio.create_task(engine.run())
    serving = asyncio.create_task(server.serve(sockets=[sock]))
    await ended.wait()
    mode = "drain" if settings.shutdown_timeout else "abort"
    _log.info("[shutdown] API server: stopping engine client mode=%s timeout=%ss", mode, settings.shutdown_timeout)
    await engine.end(settings.shutdown_timeout)
    server.should_exit = True
    await serving
    stepping.cancel()


class _Server(uvicorn.Server):
    """With the signals left to `_serve`."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
