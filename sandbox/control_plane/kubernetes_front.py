"""What stands before a cluster's API server for everybody outside of the sandbox: Google's front end, as far as clients see it.

It ends TLS with the API server's own certificate, knows the access tokens of the sandbox's account (`access_tokens`) and speaks
for their owner with the administrator's token, and gives the faulty answers that were asked for (`faults`) as an API server gives
them: a Status, and with 429 a Retry-After of a second (apiserver/pkg/server/filters, priority and fairness); 500 and 503 come
without one, as from an API server whose etcd elects a leader or that is not up yet. The cluster's own programs go past it.

HTTP/1.1 alone, which every client falls back to; one connection to the API server for each of a client's.
"""

import contextlib
import json
import logging
import select
import socket
import ssl
import struct
import threading
import time
from http.client import HTTPException, HTTPResponse, HTTPSConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from sandbox.google.access_tokens import PREFIX, AccessTokens
from sandbox.google.faults import KUBERNETES, FaultStore

logger = logging.getLogger(__name__)

_CHUNK_BYTES: Final = 1 << 16

#: How often an answer under way (a watch) is looked at for a client that has gone.
_LOOK_SECONDS: Final = 1.0

_READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})

#: Answer -> (reason of the Status, message).
_STATUSES: Final = {
    401: ("Unauthorized", "Unauthorized"),
    403: ("Forbidden", "forbidden: the user has no right to do this"),
    409: (
        "Conflict",
        "Operation cannot be fulfilled: the object has been modified; please apply your changes to the latest version and try again",
    ),
    429: ("TooManyRequests", "too many requests, please try again later"),
    500: ("InternalError", "etcdserver: leader changed"),
    503: ("ServiceUnavailable", "apiserver not ready"),
}


class KubernetesFront(ThreadingHTTPServer):
    """Listens on loopback from `start` to `stop`, with a thread for each connection."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 512

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
        super().__init__(("127.0.0.1", port), _Connection, bind_and_activate=False)
        self.administrator, self.tokens, self.faults = administrator, tokens, faults
        self._api_server = api_server
        self._listening = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._listening.load_cert_chain(certificate, key)
        self._asking = ssl.create_default_context(cafile=str(authority))
        self._serving = False
        #: A client's open connection -> the one to the API server, if there is one.
        self._open: dict[socket.socket, HTTPSConnection | None] = {}

    def start(self) -> None:
        """Raises `OSError` when the port cannot be had."""
        self.server_bind()
        self.server_activate()
        self._serving = True
        for task in (self.serve_forever, self._watch_clients):
            threading.Thread(target=task, name="kubernetes-front", daemon=True).start()

    def stop(self) -> None:
        """Cuts every connection; harmless if it was never started or has already stopped."""
        self.server_close()
        if not self._serving:
            return
        self._serving = False
        self.shutdown()
        for client in list(self._open):
            self._cut(client)

    # --- connections

    def get_request(self) -> tuple[Any, Any]:
        connection, address = super().get_request()
        # The handshake is left to the first read, in the connection's own thread.
        return self._listening.wrap_socket(connection, server_side=True, do_handshake_on_connect=False), address

    def connect(self, client: socket.socket) -> HTTPSConnection:
        """The client's connection to the API server, a new one if need be."""
        if (found := self._open.get(client)) is None:
            found = self._open[client] = HTTPSConnection("127.0.0.1", self._api_server, context=self._asking)
        return found

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open[request] = None
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        if upstream := self._open.pop(request, None):
            upstream.close()
        super().shutdown_request(request)

    def handle_error(self, request: object, client_address: object) -> None:
        # Mostly a client that has gone.
        logger.debug("a connection to the API server ends", exc_info=True)

    def _watch_clients(self) -> None:
        """Ends the API server's side of an answer whose client has gone: a watch may have nothing to say for minutes."""
        while self._serving:
            time.sleep(_LOOK_SECONDS)
            poll = select.poll()
            clients = {client.fileno(): client for client, upstream in list(self._open.items()) if upstream}
            clients.pop(-1, None)
            for descriptor in clients:
                poll.register(descriptor, select.POLLRDHUP)
            for descriptor, _ in poll.poll(0):
                self._cut(clients[descriptor])

    def _cut(self, client: socket.socket) -> None:
        upstream = self._open.get(client)
        for each in (client, upstream.sock if upstream else None):
            if each is not None:
                with contextlib.suppress(OSError):
                    # Past TLS, which another thread reads.
                    socket.socket.shutdown(each, socket.SHUT_RDWR)


class _Connection(BaseHTTPRequestHandler):
    """One client's connection; `close_connection` ends it."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: KubernetesFront

    def _serve(self) -> None:
        body = self._body()
        rule = self.server.faults.draw(KUBERNETES, f"{self.command} {self.path.partition('?')[0]}", writes=self.command not in _READS)
        if rule is not None and rule.answer == "dropped":
            return self._reset()
        if rule is not None and rule.answer == "slow":
            time.sleep(rule.seconds)
        elif rule is not None and rule.answer.isdigit():
            return self._refuse(int(rule.answer))
        if not self._authenticated():
            return self._refuse(401)
        try:
            answer = self._ask(body)
            if rule is not None and rule.answer == "lost":
                answer.read()
        except (OSError, HTTPException):
            # The API server is away: its front end in Google's cloud resets connections as well.
            return self._reset()
        if rule is not None and rule.answer == "lost":
            return self._reset()
        return self._pass_on(answer)

    do_GET = do_HEAD = do_OPTIONS = do_POST = do_PUT = do_PATCH = do_DELETE = _serve

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", "").lower():
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        body = b"".join(parts)
        del self.headers["Transfer-Encoding"]
        self.headers["Content-Length"] = str(len(body))
        return body

    def _authenticated(self) -> bool:
        """Puts the administrator's token in the place of a good access token; any other is the API server's to judge."""
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.startswith(PREFIX):
            return True
        if not self.server.tokens.valid(token):
            return False
        self.headers.replace_header("Authorization", f"Bearer {self.server.administrator}")
        return True

    def _ask(self, body: bytes) -> HTTPResponse:
        upstream = self.server.connect(self.connection)
        fresh = upstream.sock is None
        try:
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                upstream.putheader(name, value)
            upstream.endheaders(body or None)
            return upstream.getresponse()
        except (OSError, HTTPException):
            upstream.close()
            # A connection that lay idle may have been closed by the API server; a new one that breaks is a restart.
            if fresh:
                raise
            return self._ask(body)

    def _pass_on(self, answer: HTTPResponse) -> None:
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.getheaders():
            self.send_header(name, value)
        self.end_headers()
        if answer.status == 101:
            return self._tunnel(self.server.connect(self.connection).sock)
        while data := answer.read1(_CHUNK_BYTES):
            self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data) if answer.chunked else data)
        if answer.chunked and self.command != "HEAD":
            self.wfile.write(b"0\r\n\r\n")
        elif answer.length:
            raise ConnectionError("the API server's answer ends too early")
        self.close_connection |= answer.will_close
        return None

    def _tunnel(self, upstream: Any) -> None:
        """After 101 both ends send what they like. One thread for both ways: TLS is not read and written by two at once."""
        self.close_connection = True
        other = {self.connection: upstream, upstream: self.connection}
        while True:
            for each in [each for each in other if each.pending()] or select.select(list(other), [], [])[0]:
                if not (data := each.recv(_CHUNK_BYTES)):
                    return
                other[each].sendall(data)

    def _refuse(self, code: int) -> None:
        reason, message = _STATUSES[code]
        status = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
            "reason": reason,
            "code": code,
        }
        body = json.dumps(status).encode()
        self.send_response_only(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if code == 429:
            self.send_header("Retry-After", "1")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        logger.debug(format, *args)

    def _reset(self) -> None:
        """`connection reset by peer`, and not an orderly end."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        socket.socket.close(self.connection)
        self.close_connection = True
