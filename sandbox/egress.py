"""The way out of the API server to pods and nodes, as GKE's control plane has one (Konnectivity): an HTTP CONNECT proxy.

The API server knows pods by the addresses that its objects give (10.88.a.b); here those become the loopback addresses
that the pods' processes have. Everything else (the kubelets' port on loopback) is passed on as it is. Left out:
authentication, so every program of this machine can use it to reach what it could reach anyway.
"""

from __future__ import annotations

import http.server
import logging
import selectors
import socket
import threading
from typing import Any

from sandbox.addresses import to_loopback

logger = logging.getLogger(__name__)

_CONNECT_SECONDS = 5.0
_CHUNK_BYTES = 65536


class EgressProxy:
    """Listens on a free port of 127.0.0.1 from when it is made, and serves from `start` to `stop`."""

    def __init__(self) -> None:
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def configuration(self) -> dict[str, Any]:
        """For kube-apiserver's `--egress-selector-config-file`; `cluster` is the way to pods, Services and kubelets."""
        transport = {"tcp": {"url": f"http://127.0.0.1:{self.port}"}}
        return {
            "apiVersion": "apiserver.k8s.io/v1beta1",
            "kind": "EgressSelectorConfiguration",
            "egressSelections": [
                {"name": "cluster", "connection": {"proxyProtocol": "HTTPConnect", "transport": transport}},
            ],
        }

    def start(self) -> None:
        self._thread = threading.Thread(target=self._server.serve_forever, name="egress", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Takes no new connections; those that are open end with either of their ends."""
        if self._thread is not None:
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    # Connections end with the API server, which is ended before this is.
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        logger.info("egress: a connection broke", exc_info=True)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_CONNECT(self) -> None:
        self.close_connection = True
        host, _, port = self.path.rpartition(":")
        try:
            upstream = socket.create_connection((_real_host(host), int(port)), timeout=_CONNECT_SECONDS)
        except (OSError, ValueError) as error:
            self.send_error(502, f"{self.path} cannot be reached: {error}")
            return
        with upstream:
            upstream.settimeout(None)
            self.send_response(200, "Connection established")
            self.end_headers()
            _exchange(self.connection, upstream)

    def log_message(self, format: str, *args: Any) -> None:
        logger.debug(format, *args)


def _real_host(host: str) -> str:
    try:
        return to_loopback(host)
    except ValueError:
        return host


def _exchange(one: socket.socket, other: socket.socket) -> None:
    """Both directions, until both have ended or one is broken."""
    with selectors.DefaultSelector() as selector:
        selector.register(one, selectors.EVENT_READ, other)
        selector.register(other, selectors.EVENT_READ, one)
        while selector.get_map():
            for key, _ in selector.select():
                source, peer = key.fileobj, key.data
                assert isinstance(source, socket.socket)
                try:
                    if data := source.recv(_CHUNK_BYTES):
                        peer.sendall(data)
                        continue
                    peer.shutdown(socket.SHUT_WR)
                except OSError:
                    return
                selector.unregister(source)
