#!/usr/bin/env python3
"""A chat page, and an OpenAI-compatible API that passes the allowed requests on to a model's server.

It adds to the server: a stable name for the model, a limit on each client address's requests, the server's key (so that clients need
none), and a limit on a request's size. Streams are passed on as they arrive; one that breaks off breaks off here too, so that no
client takes it for complete. It uses only the standard library. Left out: TLS, logins, and limits shared between replicas.

Environment: UPSTREAM_URL (ending in /v1), UPSTREAM_MODEL, and optional MODEL_ALIAS, REQUESTS_PER_MINUTE, PORT, UPSTREAM_API_KEY.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

PAGE = Path(__file__).resolve().parent / "page.html"

#: A chat of a few hundred thousand characters; more would not fit the model's context.
MOST_BYTES = 1024 * 1024

#: The connection of a client that sends and takes no byte for this long is closed.
_CLIENT_SECONDS = 30.0
#: The most time between two bytes of the server.
_UPSTREAM_SECONDS = 300.0
_PIECE_BYTES = 65536
#: The number of clients whose rate is remembered.
_MOST_CLIENTS = 10_000

#: Headers that belong to one connection (RFC 9110, 7.6.1), or that the gateway sets itself.
_OWN_HEADERS = frozenset(
    (
        "connection", "keep-alive", "proxy-authenticate", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
        "date", "server", "content-length", "set-cookie",
    )
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings from the environment."""

    upstream_url: str
    model: str
    alias: str
    requests_per_minute: int
    port: int
    #: If empty, the client's own credential is passed on.
    api_key: str

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> Settings:
        """Raises `ValueError`, which names a variable that is missing or wrong."""
        url = _required(environment, "UPSTREAM_URL").rstrip("/")
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or not parts.path.endswith("/v1"):
            raise ValueError(f"UPSTREAM_URL={url!r} is not a base URL that ends in /v1")
        model = _required(environment, "UPSTREAM_MODEL")
        return cls(
            upstream_url=url,
            model=model,
            alias=environment.get("MODEL_ALIAS") or model,
            requests_per_minute=_number(environment, "REQUESTS_PER_MINUTE", 30, 1_000_000),
            port=_number(environment, "PORT", 8080, 65535),
            api_key=environment.get("UPSTREAM_API_KEY", ""),
        )


def _required(environment: Mapping[str, str], name: str) -> str:
    if not environment.get(name):
        raise ValueError(f"{name} is not set")
    return environment[name]


def _number(environment: Mapping[str, str], name: str, default: int, most: int) -> int:
    text = environment.get(name) or str(default)
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= most:
        raise ValueError(f"{name}={text!r} is not a whole number from 1 to {most}")
    return int(text)


class RateLimiter:
    """A token bucket for each client: it holds a minute's requests and is refilled evenly. Thread-safe."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._capacity = float(per_minute)
        self._per_second = per_minute / 60
        self._clock = clock
        self._lock = threading.Lock()
        #: Client -> tokens left, and when that was; the client that was silent longest is first.
        self._buckets: dict[str, tuple[float, float]] = {}

    def wait_seconds(self, client: str) -> float:
        """0 if the request is allowed, else the seconds until one will be."""
        with self._lock:
            now = self._clock()
            tokens, then = self._buckets.pop(client, (self._capacity, now))
            tokens = min(self._capacity, tokens + (now - then) * self._per_second)
            allowed = tokens >= 1
            self._buckets[client] = (tokens - 1 if allowed else tokens, now)
            if len(self._buckets) > _MOST_CLIENTS:
                del self._buckets[next(iter(self._buckets))]
            return 0.0 if allowed else (1 - tokens) / self._per_second


class Gateway(ThreadingHTTPServer):
    """The server; `server_close` waits for the answers under way."""

    daemon_threads = False
    block_on_close = True
    request_queue_size = 128

    def __init__(self, settings: Settings, host: str = "0.0.0.0") -> None:  # noqa: S104 - a container's own network
        super().__init__((host, settings.port), Handler)
        self.settings = settings
        self.limiter = RateLimiter(settings.requests_per_minute)
        self.page = PAGE.read_bytes()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Logs an unexpected error in one line; a client that has left is not an error."""
        error = sys.exc_info()[1]
        if not isinstance(error, (ConnectionError, TimeoutError)):
            print(f"gateway: {client_address[0]}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)


class Refused(Exception):
    """A refusal, which becomes an answer in OpenAI's format."""

    def __init__(self, status: HTTPStatus, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after


class Handler(BaseHTTPRequestHandler):
    """Handles one request for each connection, so that replicas end in order and load balancers spread requests evenly."""

    server: Gateway
    protocol_version = "HTTP/1.1"
    server_version = "chat-gateway"
    sys_version = ""
    timeout = _CLIENT_SECONDS

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/":
            self._send(HTTPStatus.OK, "text/html; charset=utf-8", self.server.page, _PAGE_HEADERS)
        elif path == "/healthz":
            self._send(HTTPStatus.OK, "text/plain", b"ok\n")
        elif path == "/health":
            self._answer(lambda: self._pass_on("GET", "/health", None))
        elif path == "/v1/models":
            self._answer(self._models)
        else:
            self._answer(self._unknown)

    def do_POST(self) -> None:
        path = self.path.partition("?")[0]
        if path in ("/v1/chat/completions", "/v1/completions"):
            self._answer(lambda: self._generate(path))
        else:
            self._answer(self._unknown)

    # --- requests

    def _unknown(self) -> None:
        raise Refused(HTTPStatus.NOT_FOUND, f"there is no {self.command} {self.path.partition('?')[0]} here")

    def _models(self) -> None:
        settings = self.server.settings
        names = dict.fromkeys((settings.alias, settings.model))
        cards = [{"id": name, "object": "model", "owned_by": "chat-gateway", "root": settings.model} for name in names]
        self._send_json(HTTPStatus.OK, {"object": "list", "data": cards})

    def _generate(self, path: str) -> None:
        body = self._body()
        settings = self.server.settings
        model = body.get("model", settings.alias)
        if model not in (settings.alias, settings.model):
            raise Refused(HTTPStatus.NOT_FOUND, f"The model `{model}` does not exist. Valid names: {settings.alias}, {settings.model}.")
        if wait := self.server.limiter.wait_seconds(self.client_address[0]):
            raise Refused(
                HTTPStatus.TOO_MANY_REQUESTS,
                f"more than {settings.requests_per_minute} requests in a minute; try again in {wait:.0f} s",
                retry_after=wait,
            )
        self._pass_on("POST", path, json.dumps({**body, "model": settings.model}).encode())

    def _body(self) -> dict[str, Any]:
        length = self.headers.get("Content-Length", "")
        if not length.isascii() or not length.isdigit():
            raise Refused(HTTPStatus.LENGTH_REQUIRED, "a request needs a Content-Length")
        if int(length) > MOST_BYTES:
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a request may have {MOST_BYTES} bytes")
        try:
            body = json.loads(self.rfile.read(int(length)))
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise Refused(HTTPStatus.BAD_REQUEST, "the body is not a JSON object")
        return body

    # --- passing on

    def _pass_on(self, method: str, path: str, body: bytes | None) -> None:
        settings = self.server.settings
        parts = urlsplit(settings.upstream_url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        headers = {"Accept": self.headers.get("Accept", "*/*")}
        if body is not None:
            headers["Content-Type"] = "application/json"
        credential = f"Bearer {settings.api_key}" if settings.api_key else self.headers.get("Authorization")
        if credential:
            headers["Authorization"] = credential
        connection = kind(parts.hostname or "", parts.port, timeout=_UPSTREAM_SECONDS)
        with contextlib.closing(connection):
            try:
                # The URL already ends in `/v1`, and /health is beside it.
                connection.request(method, parts.path.removesuffix("/v1") + path, body, headers)
                response = connection.getresponse()
            except (OSError, http.client.HTTPException) as error:
                raise Refused(
                    HTTPStatus.BAD_GATEWAY, f"the model's server does not answer ({type(error).__name__}); try again soon"
                ) from error
            self._relay(response)

    def _relay(self, response: http.client.HTTPResponse) -> None:
        self.send_response(response.status)
        for name, value in response.getheaders():
            if name.lower() not in _OWN_HEADERS:
                self.send_header(name, value)
        self.send_header("Transfer-Encoding", "chunked")
        self._end_headers()
        try:
            while piece := response.read1(_PIECE_BYTES):
                self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            if response.length:
                raise http.client.IncompleteRead(b"", response.length)
        except (http.client.HTTPException, OSError) as error:
            # Without the last chunk the client notices that something is missing.
            self.log_error("broke off: %s", type(error).__name__)
            return
        self.wfile.write(b"0\r\n\r\n")

    # --- answers

    def _answer(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Refused as refusal:
            error = {"message": str(refusal), "type": refusal.status.phrase, "param": None, "code": int(refusal.status)}
            headers = {} if refusal.retry_after is None else {"Retry-After": str(int(refusal.retry_after) + 1)}
            self._send_json(refusal.status, {"error": error}, headers)

    def _send_json(self, status: HTTPStatus, content: Any, headers: Mapping[str, str] | None = None) -> None:
        self._send(status, "application/json", json.dumps(content).encode(), headers or {})

    def _send(self, status: HTTPStatus, kind: str, data: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self._end_headers()
        self.wfile.write(data)

    def _end_headers(self) -> None:
        self.send_header("Connection", "close")
        self.close_connection = True
        self.end_headers()

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Logs a request without its content and credentials; probes are left out."""
        path = self.path.partition("?")[0]
        if path != "/healthz":
            self._log(f"{self.command} {path} {int(code)}")

    def log_message(self, format: str, *args: Any) -> None:
        self._log(format % args)

    def _log(self, text: str) -> None:
        line = "".join(each if each.isprintable() else "?" for each in text)
        print(f"gateway: {self.client_address[0]} {line}", flush=True)


_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def main() -> int:
    try:
        gateway = Gateway(Settings.read(os.environ))
    except ValueError as error:
        print(f"gateway: {error}", file=sys.stderr)
        return 2

    def end(*_: Any) -> None:
        # `shutdown` waits for the loop, which runs on this thread.
        threading.Thread(target=gateway.shutdown).start()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    print(f"gateway: listens on port {gateway.settings.port}, model {gateway.settings.model}", flush=True)
    with gateway:
        gateway.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
