"""The way out of the API server to pods and nodes, as GKE's control plane has one (Konnectivity): an HTTP CONNECT proxy.

The API server knows pods by the addresses that its objects give (10.88.a.b); here those become the loopback addresses
that the pods' processes have. Everything else (the kubelets' port on loopback) is passed on as it is. Left out:
authentication, so every program of this machine can use it to reach what it could reach anyway.
"""

import http.server
import logging
import secrets
import selectors
import socket
import socketserver
import threading
from typing import Any

from sandbox.host.addresses import to_loopback

logger = logging.getLogger(__name__)

_CONNECT_SECONDS = 5.0
_CHUNK_BYTES = 65536


class EgressProxy:
    """Listens from when it is made, and serves from `start` to `stop`."""

    def __init__(self) -> None:
        # A socket of Linux's abstract namespace: a path would be longer than the kernel's 107 bytes allow, and over TCP
        # kube-apiserver wants TLS. It is gone with the process.
        self.name = f"@fungibility-egress-{secrets.token_hex(8)}"
        self._server = _Server(self.name.replace("@", "\0", 1), _Handler)
        self._thread: threading.Thread | None = None

    def configuration(self) -> dict[str, Any]:
        """For kube-apiserver's `--egress-selector-config-file`; `cluster` is the way to pods, Services and kubelets."""
        transport = {"uds": {"udsName": self.name}}
        return {
            "apiVersion": "apiserver.k8s.io/v1beta1",
            "kind": "EgressSelectorConfiguration",
            "egressSelections": [{"name": "cluster", "connection": {"proxyProtocol": "HTTPConnect", "transport": transport}}],
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


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 128
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

    def address_string(self) -> str:
        # The other end has no name.
        return "kube-apiserver"

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
