"""The process: arguments, the start-up time of a real server, serving, and the end on SIGTERM.

Like vLLM, it binds its port at once and listens on it when the start-up is over, so that until then connections are
refused. On SIGTERM no connection is accepted any more. With --shutdown-timeout=N requests under way have N seconds, and
are then cut off with finish_reason "abort"; without the flag that is at once. A second SIGTERM ends the process at once.

Two faults on demand: SIGUSR1 hangs the engine while the server goes on to say that it is healthy, and a server that finds the
file SANDBOX_CRASH_FILE does not start.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import time
from pathlib import Path

from . import VERSION
from .app import App
from .engine import Engine
from .flags import parser
from .http_server import HttpServer, Request
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
    app = App(settings, engine, metrics)
    server = HttpServer(app.handle, log=_access_log if settings.access_log else _no_log)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()

    def end() -> None:
        if ended.is_set():
            os._exit(128 + signal.SIGTERM)
        ended.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    loop.add_signal_handler(signal.SIGUSR1, engine.hang)
    stepping = asyncio.create_task(engine.run())
    await server.start(sock)
    _announce(app, settings, sock)
    await ended.wait()
    _log.info("Shutting down: %d requests under way", engine.unfinished)
    loop.call_later(settings.shutdown_timeout, engine.abort_all)
    await server.stop()
    stepping.cancel()
    print(f"INFO:     Finished server process [{os.getpid()}]", flush=True)


def _announce(app: App, settings: Settings, sock: socket.socket) -> None:
    _log.info("Available routes are:")
    for path, methods in app.routes.items():
        _log.info("Route: %s, Methods: %s", path, ", ".join(methods))
    host, port = sock.getsockname()[:2]
    print(f"INFO:     Started server process [{os.getpid()}]")
    print("INFO:     Waiting for application startup.")
    print("INFO:     Application startup complete.")
    print(f"INFO:     Uvicorn running on http://{settings.host or host}:{port} (Press CTRL+C to quit)", flush=True)


def _access_log(request: Request, status: int) -> None:
    print(f'INFO:     {request.client} - "{request.method} {request.path} HTTP/1.1" {status}', flush=True)


def _no_log(request: Request, status: int) -> None:
    """--disable-uvicorn-access-log."""
