"""A small HTTP/1.1 server on asyncio and h11 (the parser that vLLM's own server uses).

Handled: keep-alive, chunked bodies, streamed answers, a client that leaves before its answer is complete, and the end:
no new connections, idle ones closed, answers under way finished. Left out: TLS, HTTP/2, WebSockets, upgrades.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

import h11

#: uvicorn's.
_KEEP_ALIVE_SECONDS = 5.0
_MAX_BODY_BYTES = 64 * 1024 * 1024
_READ_BYTES = 65536


@dataclass(frozen=True, kw_only=True)
class Request:
    """Header names are in lower case; `client` is `ADDRESS:PORT`."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    client: str


@dataclass(kw_only=True)
class Response:
    """`body` is all of it, or its pieces as they come; the latter is closed when the client leaves."""

    status: int = 200
    content_type: str | None = None
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes | AsyncIterator[bytes] = b""

    @classmethod
    def json(cls, content: object, status: int = 200) -> Response:
        text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
        return cls(status=status, content_type="application/json", body=text.encode())


Handler = Callable[[Request], Awaitable[Response]]


class HttpServer:
    """Serves a handler on a bound socket."""

    def __init__(self, handler: Handler, *, log: Callable[[Request, int], None]) -> None:
        self._handler = handler
        self._log = log
        self._connections: dict[asyncio.Task[None], _Connection] = {}
        self._server: asyncio.Server | None = None
        self._stopping = False

    async def start(self, sock: socket.socket) -> None:
        self._server = await asyncio.start_server(self._connected, sock=sock, backlog=2048)

    async def stop(self) -> None:
        """Takes no more connections, and returns when the requests under way have been answered."""
        assert self._server is not None
        self._stopping = True
        self._server.close()
        for task, connection in self._connections.items():
            if not connection.busy:
                task.cancel()
        if self._connections:
            await asyncio.wait(list(self._connections))

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(reader, writer, self._handler, self._log, lambda: self._stopping)
        task = asyncio.current_task()
        assert task is not None
        self._connections[task] = connection
        try:
            await connection.serve()
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            del self._connections[task]
            writer.close()


class _ClientLeftError(Exception):
    pass


class _Connection:
    """One client connection and its requests, one after the other."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        handler: Handler,
        log: Callable[[Request, int], None],
        stopping: Callable[[], bool],
    ) -> None:
        self.busy = False
        self._reader = reader
        self._writer = writer
        self._handler = handler
        self._log = log
        self._stopping = stopping
        self._http = h11.Connection(h11.SERVER)
        address = writer.get_extra_info("peername")
        self._client = f"{address[0]}:{address[1]}" if address else "unknown"

    async def serve(self) -> None:
        while True:
            try:
                request = await self._read_request()
            except (h11.RemoteProtocolError, ValueError) as error:
                status = getattr(error, "error_status_hint", HTTPStatus.BAD_REQUEST)
                with contextlib.suppress(h11.LocalProtocolError):
                    await self._write(Response(status=status, body=b"Invalid HTTP request received."))
                return
            if request is None:
                return
            try:
                await self._answer(request)
            except _ClientLeftError:
                return
            if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE or self._stopping():
                return
            self._http.start_next_cycle()
            self.busy = False

    async def _read_request(self) -> Request | None:
        """The next request with its body, or None when the client has none."""
        head: h11.Request | None = None
        body = bytearray()
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                if self._http.they_are_waiting_for_100_continue:
                    self._send(h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue"))
                limit = None if self.busy else _KEEP_ALIVE_SECONDS
                try:
                    data = await asyncio.wait_for(self._reader.read(_READ_BYTES), limit)
                except TimeoutError:
                    return None
                self._http.receive_data(data)
                # From the first byte on this is a request under way, which the server's end waits for.
                self.busy = bool(data)
            elif isinstance(event, h11.Request):
                head = event
                self.busy = True
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > _MAX_BODY_BYTES:
                    raise ValueError("the body is too large")
            elif isinstance(event, h11.EndOfMessage):
                assert head is not None
                return Request(
                    method=head.method.decode(),
                    path=head.target.decode("latin-1").partition("?")[0],
                    headers={name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers},
                    body=bytes(body),
                    client=self._client,
                )
            else:
                return None

    async def _answer(self, request: Request) -> None:
        """Answers, unless the client leaves meanwhile: then what makes the answer is cancelled."""
        work = asyncio.ensure_future(self._respond(request))
        watch = asyncio.ensure_future(self._client_leaves())
        try:
            await asyncio.wait((work, watch), return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise _ClientLeftError
            work.result()
        finally:
            for task in (work, watch):
                task.cancel()
            await asyncio.gather(work, watch, return_exceptions=True)

    async def _client_leaves(self) -> None:
        """Returns at the end of the stream; what comes before it is the next request's, kept for then."""
        while data := await self._reader.read(_READ_BYTES):
            self._http.receive_data(data)

    async def _respond(self, request: Request) -> None:
        response = await self._handler(request)
        self._log(request, response.status)
        await self._write(response, with_body=request.method != "HEAD")

    async def _write(self, response: Response, *, with_body: bool = True) -> None:
        headers = [*response.headers]
        if response.content_type:
            headers.append(("content-type", response.content_type))
        if isinstance(response.body, bytes):
            headers.append(("content-length", str(len(response.body))))
        if self._stopping():
            headers.append(("connection", "close"))
        reason = HTTPStatus(response.status).phrase.encode()
        self._send(h11.Response(status_code=response.status, headers=headers, reason=reason))
        if isinstance(response.body, bytes):
            if with_body:
                self._send(h11.Data(data=response.body))
        else:
            pieces = response.body
            try:
                async for piece in pieces:
                    self._send(h11.Data(data=piece))
                    await self._writer.drain()
            finally:
                await pieces.aclose()  # type: ignore[attr-defined]
        self._send(h11.EndOfMessage())
        await self._writer.drain()

    def _send(self, event: h11.Event) -> None:
        data = self._http.send(event)
        if data:
            self._writer.write(data)
