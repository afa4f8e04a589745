"""The kubelet's HTTPS port, as far as `kubectl logs` and `kubectl port-forward` need it: the API server forwards their requests here.

For all nodes of a cluster at once, on loopback. Left out: authentication, so every user of this machine can read the
logs and reach the pods; `exec` and `attach`, which say so; statistics.
"""

from __future__ import annotations

import datetime
import http.server
import logging
import select
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from sandbox.node_agent.logs import LogOptions, read_log
from sandbox.node_agent.port_forward import PROTOCOL, PortForward
from sandbox.node_agent.timestamps import parse_timestamp

logger = logging.getLogger(__name__)

_IDLE_SECONDS = 60.0

_NOT_SIMULATED = ("exec", "run", "attach")


#: namespace, pod, container, whether of the run before -> the log's file, and whether nothing will be added to it any more.
#: Raises `LookupError` with a message for the user.
FindLog = Callable[[str, str, str, bool], tuple[Path, Callable[[], bool]]]

#: namespace, pod -> the address where its servers really listen. Raises `LookupError`.
FindPod = Callable[[str, str], str]


def log_options(query: dict[str, list[str]]) -> LogOptions:
    """PodLogOptions from a query string. Raises `ValueError`."""

    def number(name: str) -> int | None:
        return int(query[name][0]) if name in query else None

    def flag(name: str) -> bool:
        return query.get(name, ["false"])[0].lower() in ("true", "1")

    since = None
    if "sinceTime" in query:
        since = parse_timestamp(query["sinceTime"][0])
    elif (seconds := number("sinceSeconds")) is not None:
        since = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=seconds)
    return LogOptions(follow=flag("follow"), timestamps=flag("timestamps"), tail_lines=number("tailLines"), since=since)


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, port: int, find_log: FindLog, find_pod: FindPod, context: ssl.SSLContext) -> None:
        self.find_log = find_log
        self.find_pod = find_pod
        self._context = context
        super().__init__(("127.0.0.1", port), _Handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        connection.settimeout(_IDLE_SECONDS)
        # The handshake is left to the first read, in the request's own thread, so that a slow one does not block others.
        return self._context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False), address

    def handle_error(self, request: object, client_address: object) -> None:
        # Mostly a client that has gone.
        logger.debug("a request to the kubelet's port broke off", exc_info=True)


class _Handler(http.server.BaseHTTPRequestHandler):
    # Pieces of a log are many and small.
    wbufsize = 1 << 15
    protocol_version = "HTTP/1.1"
    server: _Server
    connection: ssl.SSLSocket

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        parts = [unquote(part) for part in url.path.strip("/").split("/")]
        if parts == ["healthz"]:
            self._answer(200, "ok")
        elif parts[0] in _NOT_SIMULATED:
            self._answer(
                501,
                f"the sandbox's nodes do not simulate {parts[0]}: containers are processes of this machine; `ps` shows "
                "them, `kubectl logs` what they say, and a pod with the address 10.88.a.b listens on 127.88.a.b",
            )
        elif parts[0] == "containerLogs" and len(parts) == 4:
            self._log(*parts[1:], query=parse_qs(url.query))
        elif parts[0] == "portForward" and len(parts) == 3:
            self._forward(*parts[1:])
        else:
            self._answer(404, f"the sandbox's nodes have no {url.path}")

    do_POST = do_GET

    def _log(self, namespace: str, pod: str, container: str, *, query: dict[str, list[str]]) -> None:
        try:
            options = log_options(query)
        except ValueError as error:
            self._answer(400, f"log options: {error}")
            return
        previous = query.get("previous", ["false"])[0].lower() in ("true", "1")
        try:
            path, ended = self.server.find_log(namespace, pod, container, previous)
        except LookupError as error:
            # As the kubelet: of a 404 `kubectl logs` does not show the message.
            self._answer(400, str(error.args[0]))
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Transfer-Encoding", "chunked")
        self.send_header("Connection", "close")
        self.end_headers()
        for piece in read_log(path, options, ended=ended):
            if piece:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                continue
            # There is nothing new: what is buffered has to go out.
            self.wfile.flush()
            # Who follows a log sends nothing more: something to read is the end of the connection.
            if select.select([self.connection], [], [], 0)[0]:
                return
        self.wfile.write(b"0\r\n\r\n")

    def _forward(self, namespace: str, pod: str) -> None:
        if self.headers.get("Upgrade", "").upper() != "SPDY/3.1":
            self._answer(400, f"a port is forwarded over SPDY/3.1, not over {self.headers.get('Upgrade', 'HTTP')}")
            return
        try:
            address = self.server.find_pod(namespace, pod)
        except LookupError as error:
            self._answer(404, str(error.args[0]))
            return
        self.send_response(101)
        for name, value in (("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1"), ("X-Stream-Protocol-Version", PROTOCOL)):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.flush()
        self.close_connection = True
        self.connection.settimeout(None)
        PortForward(self.connection, lambda port: socket.create_connection((address, port))).serve()

    def _answer(self, status: int, text: str) -> None:
        body = text.encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        # The next request may be for the agent that comes after this one on the same port.
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        logger.debug(format, *args)


class KubeletApi:
    """Listens from construction on, and answers after `start`.

    `port_file` keeps the port over a restart: node objects name it.
    """

    def __init__(self, find_log: FindLog, find_pod: FindPod, *, cert_file: Path, key_file: Path, port_file: Path) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert_file, key_file)
        wanted = int(port_file.read_text()) if port_file.exists() else 0
        try:
            self._server = _Server(wanted, find_log, find_pod, context)
        except OSError as error:
            if not wanted:
                raise
            logger.warning("port %d is taken (%s): `kubectl logs` will not reach nodes from before", wanted, error)
            self._server = _Server(0, find_log, find_pod, context)
        port_file.parent.mkdir(parents=True, exist_ok=True)
        port_file.write_text(str(self.port))
        self._thread = threading.Thread(target=self._server.serve_forever, name="kubelet port", daemon=True)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()
