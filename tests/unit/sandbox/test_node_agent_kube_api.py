"""Requests and watches against an API server of the test's own, which can break off, forget and refuse."""

import json
import queue
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from kubernetes import client

from sandbox.kube.kube_api import ApiError, KubeApi, Watcher
from tests.unit.sandbox.helpers import running

Object = dict[str, Any]

#: What a watch of the server does next: an event to send, or one of these.
BREAK, END = "break", "end"


class Server(ThreadingHTTPServer):
    """`lists` are answered one after the other, the last one for ever; `events` feed whichever watch is open."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.lists: list[Object] = []
        self.events: queue.Queue[Any] = queue.Queue()
        self.requests: list[tuple[str, str, dict[str, str], Any]] = []
        self.headers: list[dict[str, str]] = []
        self.refusal: tuple[int, bytes] | None = None
        self.gone_from: set[str] = set()

    def watched_from(self) -> list[str]:
        return [query["resourceVersion"] for _, _, query, _ in self.requests if query.get("watch")]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = {key: values[-1] for key, values in parse_qs(url.query, keep_blank_values=True).items()}
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        self.server.requests.append((self.command, url.path, query, body))
        self.server.headers.append(dict(self.headers))
        if self.server.refusal:
            status, text = self.server.refusal
            self._answer(status, text)
        elif query.get("watch"):
            self._watch(query["resourceVersion"])
        else:
            lists = self.server.lists
            answer = lists.pop(0) if len(lists) > 1 else lists[0] if lists else {"kind": "Thing"}
            self._answer(200, json.dumps(answer).encode())

    do_POST = do_PATCH = do_DELETE = do_GET

    def _watch(self, version: str) -> None:
        if version in self.server.gone_from:
            self._answer(410, json.dumps({"kind": "Status", "code": 410, "message": "too old"}).encode())
            return
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while True:
            event = self.server.events.get()
            if event == BREAK:
                self.close_connection = True
                return
            if event == END:
                self.wfile.write(b"0\r\n\r\n")
                return
            line = json.dumps(event).encode() + b"\n"
            # In two pieces: a line need not come at once.
            for piece in (line[:7], line[7:]):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                self.wfile.flush()
            if event["type"] == "ERROR":
                # Its last word, as the API server's.
                self.wfile.write(b"0\r\n\r\n")
                return

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with running(Server()) as server:
        yield server
        server.events.put(BREAK)


@pytest.fixture
def api(server: Server) -> KubeApi:
    configuration = client.Configuration()
    configuration.host = f"http://127.0.0.1:{server.server_address[1]}"
    configuration.api_key = {"authorization": "Bearer t0k3n"}
    return KubeApi(client.ApiClient(configuration))


def pod(name: str, version: int) -> Object:
    return {"metadata": {"name": name, "resourceVersion": str(version)}}


def listing(version: int, *pods: Object) -> Object:
    return {"metadata": {"resourceVersion": str(version)}, "items": list(pods)}


class Seen:
    """A watcher and what it told, in order: `=a,b` for a list, `ADDED a` for an event."""

    def __init__(self, api: KubeApi, query: dict[str, str] | None = None) -> None:
        self._told: queue.Queue[str] = queue.Queue()
        self.fail_once_on = ""
        self.watcher = Watcher(api, "/api/v1/pods", on_sync=self._sync, on_event=self._event, query=query)

    def _sync(self, objects: list[Object]) -> None:
        self._told.put("=" + ",".join(each["metadata"]["name"] for each in objects))

    def _event(self, kind: str, obj: Object) -> None:
        name = obj["metadata"]["name"]
        self._told.put(f"{kind} {name}")
        if name == self.fail_once_on:
            self.fail_once_on = ""
            raise RuntimeError("a bug of the listener")

    def next(self) -> str:
        return self._told.get(timeout=10)

    def nothing_more(self) -> bool:
        time.sleep(0.2)
        return self._told.empty()


@pytest.fixture
def seen(api: KubeApi) -> Iterator[Seen]:
    seen = Seen(api, {"fieldSelector": "spec.nodeName!="})
    yield seen
    seen.watcher.stop()


def event(kind: str, obj: Object) -> Object:
    return {"type": kind, "object": obj}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"kind":"Status","message":"pods \\"p\\" not found"}', 'pods "p" not found'),
        (b"plain words\n", "plain words"),
        (b"", "status 404"),
    ],
)
def test_a_refusal_tells_status_and_message(server: Server, api: KubeApi, body: bytes, message: str) -> None:
    server.refusal = (404, body)
    with pytest.raises(ApiError) as caught:
        api.get("/api/v1/namespaces/default/pods/p")
    assert (caught.value.status, str(caught.value)) == (404, message)


@pytest.mark.parametrize("how", [BREAK, END])
def test_a_watch_that_ends_is_taken_up_where_it_was(server: Server, seen: Seen, how: str) -> None:
    server.lists = [listing(5)]
    seen.watcher.start()
    seen.next()
    server.events.put(event("ADDED", pod("a", 6)))
    server.events.put(event("BOOKMARK", pod("", 9)))
    server.events.put(how)
    server.events.put(event("ADDED", pod("b", 10)))
    assert [seen.next(), seen.next()] == ["ADDED a", "ADDED b"]
    assert server.watched_from() == ["5", "9"]
    assert seen.nothing_more()


@pytest.mark.parametrize("within", [True, False])
def test_what_the_server_has_forgotten_is_listed_again(server: Server, seen: Seen, within: bool) -> None:
    server.lists = [listing(5, pod("a", 3)), listing(20, pod("b", 19))]
    seen.watcher.start()
    assert seen.next() == "=a"
    if within:
        server.events.put(event("ERROR", {"kind": "Status", "code": 410, "message": "too old"}))
    else:
        server.gone_from.add("5")
        server.events.put(BREAK)
    assert seen.next() == "=b"
    server.events.put(event("ADDED", pod("c", 21)))
    assert seen.next() == "ADDED c"
    assert server.watched_from()[-1] == "20"


def test_an_event_that_cannot_be_handled_leads_to_a_new_list(server: Server, seen: Seen) -> None:
    server.lists = [listing(5), listing(7, pod("bad", 6))]
    seen.fail_once_on = "bad"
    seen.watcher.start()
    assert seen.next() == "="
    server.events.put(event("ADDED", pod("bad", 6)))
    assert [seen.next(), seen.next()] == ["ADDED bad", "=bad"]


def test_stopping_ends_a_watch_that_is_silent(server: Server, seen: Seen) -> None:
    server.lists = [listing(5)]
    seen.watcher.start()
    seen.next()
    while not server.watched_from():
        time.sleep(0.01)
    began = time.monotonic()
    seen.watcher.stop()
    assert time.monotonic() - began < 1
    assert not [thread for thread in threading.enumerate() if thread.name == "watch pods"]
