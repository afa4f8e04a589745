"""A local HTTP server that answers as a test says: as vLLM does, or in any of the ways in which a service goes wrong."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODEL = "Qwen/Qwen2-1.5B"
TEXT = "Because of Rayleigh scattering."

Reply = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """`replies` of the server: path -> what is done; a POST with `stream` is at PATH?stream."""

    protocol_version = "HTTP/1.1"
    server: Server
    body: dict[str, Any]

    def do_GET(self) -> None:
        self._reply()

    def do_POST(self) -> None:
        self._reply()

    def _reply(self) -> None:
        self.body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        path = self.path + ("?stream" if self.body.get("stream") else "")
        self.server.seen.append((path, dict(self.headers), self.body))
        # Whatever a test leaves open ends with the request.
        self.close_connection = True
        self.server.replies[path](self)

    def end_headers(self) -> None:
        # A client that keeps connections must know, or its next request meets one that is being closed.
        self.send_header("Connection", "close")
        super().end_headers()

    def log_message(self, *_: Any) -> None:
        """Quiet."""


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, replies: dict[str, Reply]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.replies = replies
        self.seen: list[tuple[str, dict[str, str], dict[str, Any]]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, *_: Any) -> None:
        """A client that gave up is part of the test."""


@contextmanager
def serving(**changes: Reply) -> Iterator[Server]:
    """A server that answers well but for `changes`: `health`, `metrics`, `models`, `chat`, `stream`, `completions`."""
    paths = {
        "health": "/health",
        "metrics": "/metrics",
        "models": "/v1/models",
        "chat": "/v1/chat/completions",
        "stream": "/v1/chat/completions?stream",
        "completions": "/v1/completions",
        "completions_stream": "/v1/completions?stream",
    }
    good: dict[str, Reply] = {
        "health": says(b"", kind="text/plain"),
        "metrics": counts_requests,
        "models": says({"object": "list", "data": [{"id": MODEL}]}),
        "chat": says(chat()),
        "stream": streams(*stream_events()),
        "completions": says({"model": MODEL, "choices": [{"text": TEXT, "finish_reason": "stop"}]}),
        "completions_stream": streams(
            {"model": MODEL, "choices": [{"text": TEXT, "finish_reason": None}]},
            {"model": MODEL, "choices": [{"text": "", "finish_reason": "stop"}]},
            "[DONE]",
        ),
    }
    server = Server({paths[name]: reply for name, reply in (good | changes).items()})
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.01), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def chat(model: str = MODEL, text: str | None = TEXT) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    return {"model": model, "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}


def stream_events(model: str = MODEL, text: str = TEXT) -> list[Any]:
    """As vLLM sends them: the role, the text in pieces, the end, the usage, and [DONE]."""
    deltas: list[tuple[dict[str, Any], str | None]] = [
        ({"role": "assistant", "content": ""}, None),
        *(({"content": word}, None) for word in text.split(" ")),
        ({"content": ""}, "stop"),
    ]
    events: list[Any] = [{"model": model, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]} for delta, reason in deltas]
    return [*events, {"model": model, "choices": [], "usage": {"total_tokens": 9}}, "[DONE]"]


def says(content: Any, status: int = 200, *, kind: str = "application/json", **headers: str) -> Reply:
    """An answer of one piece: JSON, or bytes as they are."""
    data = content if isinstance(content, bytes) else json.dumps(content).encode()

    def reply(handler: Handler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(data)

    return reply


def echoes_credentials(status: int) -> Reply:
    """A server careless enough to repeat the key."""

    def reply(handler: Handler) -> None:
        says({"error": f"bad header {handler.headers.get('Authorization')}"}, status)(handler)

    return reply


def streams(*events: Any, kind: str = "text/event-stream; charset=utf-8", pause: float = 0.0) -> Reply:
    """Server-sent events in chunks, ended properly; a string is sent as it is."""

    def reply(handler: Handler) -> None:
        _begin_chunks(handler, kind)
        for event in events:
            time.sleep(pause)
            data = event if isinstance(event, str) else json.dumps(event)
            _chunk(handler, f"data: {data}\n\n".encode())
        handler.wfile.write(b"0\r\n\r\n")

    return reply


def breaks_off(*events: Any) -> Reply:
    """A stream whose connection ends without the last chunk, as when the pod is killed."""

    def reply(handler: Handler) -> None:
        _begin_chunks(handler, "text/event-stream")
        for event in events:
            _chunk(handler, f"data: {json.dumps(event)}\n\n".encode())

    return reply


def cut_short(content: bytes) -> Reply:
    """Promises twice as many bytes as it sends."""

    def reply(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(2 * len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    return reply


def closes(handler: Handler) -> None:
    """Ends the connection without a word."""
    handler.connection.shutdown(socket.SHUT_RDWR)


def later(seconds: float, reply: Reply) -> Reply:
    def wait(handler: Handler) -> None:
        time.sleep(seconds)
        reply(handler)

    return wait


def trickles(seconds: float) -> Reply:
    """Sends a byte now and then, so that no single read takes long."""

    def reply(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", "1000000")
        handler.end_headers()
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            handler.wfile.write(b" ")
            time.sleep(0.02)

    return reply


def counts_requests(handler: Handler) -> None:
    """As vLLM's /metrics, of all requests for a completion so far."""
    count = sum("completions" in path for path, _, _ in handler.server.seen)
    says(f'vllm:request_success_total{{finished_reason="stop"}} {count}.0\n'.encode(), kind="text/plain")(handler)


def in_turn(*replies: Reply) -> Reply:
    """One after the other; the last again and again."""
    left = list(replies)

    def reply(handler: Handler) -> None:
        (left.pop(0) if len(left) > 1 else left[0])(handler)

    return reply


def _begin_chunks(handler: Handler, kind: str) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", kind)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()


def _chunk(handler: Handler, data: bytes) -> None:
    handler.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
    handler.wfile.flush()
