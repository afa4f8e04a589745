"""A TCP proxy on loopback: listeners, each with backends that may change at any time.

It knows nothing of Kubernetes. A connection goes to one backend and stays there until it ends, also when the backend leaves
the list meanwhile, as connections through a network load balancer do; nor is another backend tried when that one refuses, as
none is behind kube-proxy: the client sees it. Backends take turns, where kube-proxy draws lots. Left out: health checks (the
list says what is healthy), TLS, UDP, anything of HTTP.
"""

import asyncio
import contextlib
import itertools
import logging
import socket
import threading
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, TypeVar

logger = logging.getLogger(__name__)

#: (host, port)
Address = tuple[str, int]

_T = TypeVar("_T")

_CONNECT_SECONDS = 3.0
_CHUNK_BYTES = 65536
_BACKLOG = 1024


def choose(backends: Sequence[Address], used: Mapping[Address, int]) -> Address:
    """The backend that was longest unused; `used` numbers each one's last choice, and a missing one is 0."""
    return min(backends, key=lambda backend: used.get(backend, 0))


class TcpProxy:
    """One event loop in a thread of its own. The methods block, and may be called from any other thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tcp-proxy", daemon=True)
        self._servers: dict[Address, asyncio.Server] = {}
        self._backends: dict[Address, tuple[Address, ...]] = {}
        self._connections: set[asyncio.Task[None]] = set()
        self._used: dict[Address, int] = {}
        self._choices = itertools.count(1)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Closes the listeners and cuts every connection."""
        self._call(self._shut_down())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def listen(self, address: Address, backends: Sequence[Address] = ()) -> None:
        """Opens a listener. Raises `OSError` when the address cannot be had."""
        self._call(self._listen(address, tuple(backends)))

    def set_backends(self, address: Address, backends: Sequence[Address]) -> None:
        """Changes where new connections of an open listener go."""
        self._call(self._set_backends(address, tuple(backends)))

    def close(self, address: Address) -> None:
        """Closes a listener; its connections go on until they end."""
        self._call(self._close(address))

    def _call(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    # --- on the loop

    async def _listen(self, address: Address, backends: tuple[Address, ...]) -> None:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            # A port that was closed a moment ago may be had again; one that is listened on may not.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(address)
            server = await asyncio.start_server(lambda reader, writer: self._accepted(address, reader, writer), sock=sock, backlog=_BACKLOG)
        except OSError:
            sock.close()
            raise
        self._servers[address] = server
        self._backends[address] = backends

    async def _set_backends(self, address: Address, backends: tuple[Address, ...]) -> None:
        if address in self._servers:
            self._backends[address] = backends

    async def _close(self, address: Address) -> None:
        self._servers.pop(address).close()
        del self._backends[address]

    async def _shut_down(self) -> None:
        for address in list(self._servers):
            await self._close(address)
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accepted(self, address: Address, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await self._forward(self._backends.get(address, ()), reader, writer)
        except asyncio.CancelledError:
            # The proxy stops, and no caller is left to tell.
            pass
        finally:
            self._connections.discard(task)
            writer.transport.abort()

    async def _forward(self, backends: Sequence[Address], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not backends:
            return
        backend = choose(backends, self._used)
        self._used[backend] = next(self._choices)
        try:
            connect = asyncio.open_connection(*backend)
            upstream_reader, upstream = await asyncio.wait_for(connect, _CONNECT_SECONDS)
        except (OSError, TimeoutError) as error:
            logger.info("backend %s:%d does not answer (%s), the client is told so", *backend, error)
            return
        try:
            await _exchange((reader, writer), (upstream_reader, upstream))
        finally:
            upstream.transport.abort()


_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _exchange(client: _Streams, backend: _Streams) -> None:
    """Both directions until both have ended; a broken connection ends both."""
    directions = [asyncio.ensure_future(_pump(client[0], backend[1])), asyncio.ensure_future(_pump(backend[0], client[1]))]
    try:
        await asyncio.gather(*directions)
    except OSError:
        return
    finally:
        for direction in directions:
            direction.cancel()
        await asyncio.gather(*directions, return_exceptions=True)
    # What was written last is on its way before the caller aborts.
    for _, writer in (client, backend):
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One direction; its end is passed on as the end of this direction only."""
    while data := await reader.read(_CHUNK_BYTES):
        writer.write(data)
        await writer.drain()
    writer.write_eof()
