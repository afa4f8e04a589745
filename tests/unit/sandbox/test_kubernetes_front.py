"""What clients outside of a cluster meet before its API server: true answers, faulty ones, and whose token is good."""

import http.client
import json
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from sandbox.control_plane.kubernetes_front import KubernetesFront
from sandbox.google.access_tokens import AccessTokens, Login
from sandbox.google.faults import KUBERNETES, FaultStore, Rule
from sandbox.host.certificates import Certificates
from sandbox.host.ports import free_ports
from tests.unit.sandbox.helpers import eventually, running

ADMINISTRATOR = "the-administrator's-token"


class _ApiServer(BaseHTTPRequestHandler):
    """Says what it was asked; `/watch` sends a line, and after `go` another."""

    protocol_version = "HTTP/1.1"
    server: Any

    def do_GET(self) -> None:
        self.server.seen.append(f"{self.command} {self.path}")
        if self.headers.get("Upgrade"):
            self.send_response(101)
            self.end_headers()
            self.wfile.write(self.rfile.readline().upper())
            self.close_connection = True
            return
        if self.path.startswith("/watch"):
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self._chunk(b"first\n")
            self.server.go.wait(10)
            self._chunk(b"second\n")
            self._chunk(b"")
            return
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        answer = json.dumps({"authorization": self.headers.get("Authorization"), "body": body}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_POST = do_GET

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@dataclass
class World:
    front: KubernetesFront
    port: int
    server: Any
    faults: FaultStore
    tokens: AccessTokens
    ca: Path

    def connection(self) -> http.client.HTTPSConnection:
        context = ssl.create_default_context(cafile=str(self.ca))
        return http.client.HTTPSConnection("localhost", self.port, context=context, timeout=10)

    def ask(self, method: str = "GET", *, token: str = "its-own", body: str = "") -> tuple[int, dict[str, Any], str]:
        connection = self.connection()
        connection.request(method, "/api?x=1", body=body or None, headers={"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read()), answer.headers.get("Retry-After", "")

    def fault(self, answer: str, burst: int = 1, seconds: float = 0.0) -> None:
        self.faults.set(Rule(api=KUBERNETES, answer=answer, burst=burst, seconds=seconds))


@pytest.fixture
def world(tmp_path: Path, certificates: Certificates) -> Iterator[World]:
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), _ApiServer)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # a connection that the front has cut
    server.seen, server.go = [], threading.Event()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates.server, certificates.server_key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    faults, tokens = FaultStore(tmp_path), AccessTokens(tmp_path)
    tokens.prepare()
    port = free_ports(1)[0]
    front = KubernetesFront(
        port=port,
        api_server=server.server_address[1],
        certificate=certificates.server,
        key=certificates.server_key,
        authority=certificates.ca,
        administrator=ADMINISTRATOR,
        tokens=tokens,
        faults=faults,
    )
    with running(server):
        front.start()
        yield World(front, port, server, faults, tokens, certificates.ca)
        server.go.set()
        front.stop()


def test_a_watch_s_lines_arrive_as_they_are_sent(world: World) -> None:
    connection = world.connection()
    connection.request("GET", "/watch")
    answer = connection.getresponse()
    assert answer.readline() == b"first\n"
    world.server.go.set()
    assert answer.read() == b"second\n"


def test_an_access_token_speaks_for_the_administrator_until_it_ends(world: World) -> None:
    status, answer, _ = world.ask(token=world.tokens.give())
    assert (status, answer["authorization"]) == (200, f"Bearer {ADMINISTRATOR}")
    world.tokens.set_login(Login(lifetime=0.0))
    status, answer, _ = world.ask(token=world.tokens.give())
    assert (status, answer["reason"]) == (401, "Unauthorized")
    assert len(world.server.seen) == 1


@pytest.mark.parametrize(
    ("code", "reason", "retry_after"),
    [(409, "Conflict", ""), (429, "TooManyRequests", "1"), (500, "InternalError", ""), (503, "ServiceUnavailable", "")],
)
def test_a_refusal_is_a_status_and_only_too_many_requests_says_when_to_come_again(
    world: World, code: int, reason: str, retry_after: str
) -> None:
    world.fault(str(code))
    status, answer, after = world.ask("POST", body="x")
    assert (status, answer["kind"], answer["reason"], after) == (code, "Status", reason, retry_after)
    assert world.server.seen == []
    assert world.ask("POST", body="x")[0] == 200


def test_after_an_upgrade_both_ends_send_what_they_like(world: World) -> None:
    connection = world.connection()
    connection.request("POST", "/portforward", headers={"Connection": "Upgrade", "Upgrade": "SPDY/3.1"})
    assert connection.getresponse().status == 101
    connection.sock.sendall(b"hello\n")
    assert connection.sock.recv(100) == b"HELLO\n"
    assert connection.sock.recv(100) == b""


def test_a_dropped_request_is_not_carried_out_and_a_lost_one_is(world: World) -> None:
    for answer, carried_out in (("dropped", 0), ("lost", 1)):
        world.fault(answer)
        with pytest.raises((ConnectionError, ssl.SSLError)):
            world.ask("POST", body="x")
        assert len(world.server.seen) == carried_out
        assert world.ask("POST", body="x")[0] == 200
        world.server.seen.clear()


def test_an_api_server_that_is_away_is_a_broken_connection(world: World) -> None:
    world.server.shutdown()
    world.server.server_close()
    with pytest.raises((ConnectionError, ssl.SSLError)):
        world.ask()


def test_an_answer_whose_client_has_gone_is_asked_for_no_longer(world: World) -> None:
    connection = world.connection()
    connection.request("GET", "/watch")
    connection.getresponse().readline()
    (upstream,) = world.front._open.values()
    assert upstream is not None
    connection.close()
    eventually(lambda: upstream.sock is None)


def test_stopping_cuts_what_is_open_and_may_come_twice(world: World) -> None:
    connection = world.connection()
    connection.request("GET", "/watch")
    answer = connection.getresponse()
    answer.readline()
    world.front.stop()
    with pytest.raises((ConnectionError, http.client.HTTPException, ssl.SSLError)):
        answer.read()
    world.front.stop()
