"""What stands before a cluster's API server for everybody outside of the sandbox: Google's front end, as far as clients see it.

It ends TLS with the API server's own certificate, knows the access tokens of the sandbox's account (`access_tokens`) and speaks
for their owner with the administrator's token, and gives the faulty answers that were asked for (`faults`) as an API server gives
them: a Status, and with 429 a Retry-After of a second (apiserver/pkg/server/filters, priority and fairness); 500 and 503 come
without one, as from an API server whose etcd elects a leader or that is not up yet. The cluster's own programs go past it.

HTTP/1.1 alone, which every client falls back to; one connection to the API server for each of a client's.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import ssl
import struct
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sandbox.google.access_tokens import PREFIX, AccessTokens
from sandbox.google.faults import KUBERNETES, FaultStore, Rule

logger = logging.getLogger(__name__)

_CHUNK_BYTES: Final = 1 << 16
_HEAD_BYTES: Final = 1 << 20
_START_SECONDS: Final = 10.0

#: How often a quiet answer (a watch) is looked at for a client that has gone.
_LOOK_SECONDS: Final = 1.0

_READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})

#: Answer -> (reason of the HTTP status, reason of the Status, message).
_STATUSES: Final = {
    401: ("Unauthorized", "Unauthorized", "Unauthorized"),
    409: (
        "Conflict",
        "Conflict",
        "Operation cannot be fulfilled: the object has been modified; please apply your changes to the latest version and try again",
    ),
    403: ("Forbidden", "Forbidden", "forbidden: the user has no right to do this"),
    429: ("Too Many Requests", "TooManyRequests", "too many requests, please try again later"),
    500: ("Internal Server Error", "InternalError", "etcdserver: leader changed"),
    503: ("Service Unavailable", "ServiceUnavailable", "apiserver not ready"),
}


class _Gone(Exception):
    """One end of a connection has closed it."""


@dataclass
class _Head:
    """The first lines of a request or an answer."""

    first: str
    headers: list[tuple[str, str]]

    def get(self, name: str) -> str:
        return next((value for key, value in self.headers if key.lower() == name), "")

    def set(self, name: str, value: str) -> None:
        self.headers = [pair for pair in self.headers if pair[0].lower() != name.lower()] + [(name, value)]

    def encode(self) -> bytes:
        lines = [self.first, *(f"{key}: {value}" for key, value in self.headers), "", ""]
        return "\r\n".join(lines).encode("latin-1")


class KubernetesFront:
    """Listens on loopback from `start` to `stop`, in a thread of its own."""

    def __init__(
        self,
        *,
        port: int,
        api_server: int,
        certificate: Path,
        key: Path,
        authority: Path,
        administrator: str,
        tokens: AccessTokens,
        faults: FaultStore,
    ) -> None:
        """`port`, `api_server`: ports of 127.0.0.1. `administrator`: the token that the API server itself knows."""
        self._port = port
        self._api_server = api_server
        self._administrator = administrator
        self._tokens = tokens
        self._faults = faults
        self._listening = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._listening.load_cert_chain(certificate, key)
        self._asking = ssl.create_default_context(cafile=str(authority))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="kubernetes-front", daemon=True)
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Raises `OSError` when the port cannot be had."""
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(_START_SECONDS)

    def stop(self) -> None:
        """Cuts every connection; harmless if it was never started or has already stopped."""
        if not self._thread.is_alive():
            return
        asyncio.run_coroutine_threadsafe(self._shut_down(), self._loop).result(_START_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # --- on the loop

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(
            self._accepted, "127.0.0.1", self._port, ssl=self._listening, limit=_HEAD_BYTES, backlog=512
        )

    async def _shut_down(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        connection = _Connection(self, reader, writer)
        try:
            while await connection.serve_one():
                pass
        except (_Gone, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as error:
            logger.debug("a connection to the API server ends: %r", error)
        except asyncio.CancelledError:
            # The front stops, and its client is gone.
            pass
        finally:
            self._connections.discard(task)
            connection.abort()

    # --- for its connections

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self._api_server, ssl=self._asking, limit=_HEAD_BYTES)

    def fault(self, request: _Head) -> Rule | None:
        method, path, _ = request.first.split(" ", 2)
        return self._faults.draw(KUBERNETES, f"{method} {path.partition('?')[0]}", writes=method not in _READS)

    def authenticated(self, request: _Head) -> bool:
        """Puts the administrator's token in the place of a good access token; any other is the API server's to judge."""
        scheme, _, token = request.get("authorization").partition(" ")
        if scheme.lower() != "bearer" or not token.startswith(PREFIX):
            return True
        if not self._tokens.valid(token):
            return False
        request.set("Authorization", f"Bearer {self._administrator}")
        return True


class _Connection:
    """One client's connection, and the one to the API server that belongs to it."""

    def __init__(self, front: KubernetesFront, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._front = front
        self._reader = reader
        self._writer = writer
        self._upstream: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    def abort(self) -> None:
        for writer in (self._writer, self._upstream[1] if self._upstream else None):
            if writer is not None:
                writer.transport.abort()

    async def serve_one(self) -> bool:
        """One request and its answer; False when the connection ends with it. Raises as streams do."""
        request = await _head(self._reader)
        if request is None:
            return False
        body = await _body(self._reader, request)
        rule = self._front.fault(request)
        if rule is not None and rule.answer == "dropped":
            self._reset()
            return False
        if rule is not None and rule.answer == "slow":
            await asyncio.sleep(rule.seconds)
        elif rule is not None and rule.answer.isdigit():
            return await self._refuse(request, int(rule.answer))
        if not self._front.authenticated(request):
            return await self._refuse(request, 401)
        try:
            answer, reader = await self._ask(request, body)
        except (OSError, asyncio.IncompleteReadError, _Gone):
            # The API server is away: its front end in Google's cloud resets connections as well.
            self._reset()
            return False
        if rule is not None and rule.answer == "lost":
            await self._whole(reader, answer, request)
            self._reset()
            return False
        return await self._pass_on(request, answer, reader)

    async def _ask(self, request: _Head, body: bytes) -> tuple[_Head, asyncio.StreamReader]:
        fresh = self._upstream is None
        if self._upstream is None:
            self._upstream = await self._front.connect()
        reader, writer = self._upstream
        try:
            writer.write(request.encode() + body)
            await writer.drain()
            answer = await _head(reader)
        except (OSError, asyncio.IncompleteReadError):
            answer = None
        if answer is None:
            writer.transport.abort()
            self._upstream = None
            # A connection that lay idle may have been closed by the API server; a new one that breaks is a restart.
            if fresh:
                raise _Gone
            return await self._ask(request, body)
        return answer, reader

    async def _pass_on(self, request: _Head, answer: _Head, reader: asyncio.StreamReader) -> bool:
        self._writer.write(answer.encode())
        await self._writer.drain()
        if answer.first.split(" ", 2)[1] == "101":
            await self._tunnel(reader)
            return False
        keeps = await self._whole(reader, answer, request, self._send)
        return keeps and request.get("connection").lower() != "close"

    async def _send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def _whole(
        self, reader: asyncio.StreamReader, answer: _Head, request: _Head, send: Callable[[bytes], Awaitable[None]] | None = None
    ) -> bool:
        """Reads an answer's body, and sends it on as it comes; False when the API server's connection ends with it."""

        async def out(data: bytes) -> None:
            if send is not None:
                await send(data)

        if request.first.startswith("HEAD ") or answer.first.split(" ", 2)[1] in ("204", "304"):
            return True
        if "chunked" in answer.get("transfer-encoding").lower():
            while True:
                line = await self._patiently(reader.readuntil(b"\r\n"))
                size = int(line.split(b";")[0], 16)
                data = await self._patiently(reader.readexactly(size + 2))
                await out(line + data)
                if size == 0:
                    return True
        length = answer.get("content-length")
        if not length:
            while data := await self._patiently(reader.read(_CHUNK_BYTES)):
                await out(data)
            return False
        left = int(length)
        while left:
            data = await self._patiently(reader.read(min(left, _CHUNK_BYTES)))
            if not data:
                raise _Gone
            left -= len(data)
            await out(data)
        return True

    async def _patiently(self, reading: Awaitable[bytes]) -> bytes:
        """Waits for more of an answer as long as its client does."""
        task = asyncio.ensure_future(reading)
        try:
            while not (await asyncio.wait({task}, timeout=_LOOK_SECONDS))[0]:
                if self._reader.at_eof() or self._writer.is_closing():
                    raise _Gone
            return task.result()
        finally:
            task.cancel()

    async def _tunnel(self, reader: asyncio.StreamReader) -> None:
        """After 101 both ends say what they like."""
        assert self._upstream is not None

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(_CHUNK_BYTES):
                sink.write(data)
                await sink.drain()

        pumps = [asyncio.ensure_future(pump(reader, self._writer)), asyncio.ensure_future(pump(self._reader, self._upstream[1]))]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in pumps:
                each.cancel()

    async def _refuse(self, request: _Head, code: int) -> bool:
        http, reason, message = _STATUSES[code]
        body = json.dumps(
            {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message, "reason": reason, "code": code}
        ).encode()
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        if code == 429:
            headers.append(("Retry-After", "1"))
        head = _Head(f"HTTP/1.1 {code} {http}", headers)
        await self._send(head.encode() + (b"" if request.first.startswith("HEAD ") else body))
        return True

    def _reset(self) -> None:
        """`connection reset by peer`, and not an orderly end."""
        sock = self._writer.get_extra_info("socket")
        with contextlib.suppress(OSError, AttributeError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


async def _head(reader: asyncio.StreamReader) -> _Head | None:
    """None at the end of the connection."""
    try:
        text = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return None
    first, *lines = text.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    pairs = (line.partition(":") for line in lines)
    return _Head(first, [(key, value.strip()) for key, _, value in pairs])


async def _body(reader: asyncio.StreamReader, request: _Head) -> bytes:
    """A request's body as it came, chunks and all."""
    if "chunked" in request.get("transfer-encoding").lower():
        parts = []
        while True:
            line = await reader.readuntil(b"\r\n")
            size = int(line.split(b";")[0], 16)
            parts += [line, await reader.readexactly(size + 2)]
            if size == 0:
                return b"".join(parts)
    return await reader.readexactly(int(request.get("content-length") or 0))
