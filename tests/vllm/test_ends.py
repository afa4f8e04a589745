"""The ends of a pod, and what its probes see: real vLLM, and the stand-in held against it.

Both run behind the image's entrypoint with the Deployment's arguments; hook and probes are the images' own. Left out: the load balancer,
whose part the clients play (`clients`), and Kubernetes, whose order of events is that of `_end`.
"""

import http.client
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sandbox.servers.model_server import ModelServer
from tests.vllm.clients import PooledClients, ask
from tests.vllm.servers import PORT, Server

Start = Callable[..., Server]

_JSON = {"Content-Type": "application/json"}

#: Seconds that the hook lets a pod leave the load balancer, and the hook's limit.
_SETTLE, _LIMIT = 3, 100

#: What a long request takes, more or less: longer than the hook's settling.
_LONG_SECONDS = 6


@pytest.fixture(params=["vllm", "standin"])
def model_server(request: pytest.FixtureRequest) -> ModelServer:
    found: ModelServer = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def start(model_server: ModelServer, loopback: str, tmp_path: Path, deployed_arguments: dict[str, list[str]]) -> Iterator[Start]:
    """Starts a server with the GPU container's arguments, less those that begin with one of `without`."""
    servers: list[Server] = []

    def run(*more: str, without: tuple[str, ...] = ()) -> Server:
        arguments = (
            [each for each in deployed_arguments["vllm-gpu"] if not each.startswith(without)] if without else deployed_arguments["vllm-gpu"]
        )
        servers.append(Server(model_server, "gpu", [*arguments, *more], folder=tmp_path, loopback=loopback))
        return servers[-1].wait_until_healthy()

    yield run
    for server in servers:
        server.end()


def _end(server: Server, clients: PooledClients) -> None:
    """As Kubernetes ends a pod: out of the endpoints and the hook at the same time, a second for the endpoints, SIGTERM after the hook."""
    leaving = threading.Timer(1, clients.leave)
    leaving.start()
    server.drain(str(_SETTLE), str(_LIMIT))
    leaving.join()
    assert clients.still_connected(within=1) == 0, "the hook has not waited until every client was gone"
    server.send_sigterm()


def _long_tokens(server: Server) -> int:
    """Tokens that the server makes in `_LONG_SECONDS`, as busy as the machine is; the first request of its length is slower."""
    for _ in range(2):
        begun = time.monotonic()
        server.post("/v1/completions", {"prompt": "The sky", "max_tokens": 40, "ignore_eos": True})
    return min(int(40 * _LONG_SECONDS / (time.monotonic() - begun)), 6000)


def _ask_long(server: Server, tokens: int, *, stream: bool = False) -> tuple[threading.Thread, list[str | None]]:
    found: list[str | None] = []
    address = server.url.removeprefix("http://").partition(":")[0]

    def run() -> None:
        found.append(ask(http.client.HTTPConnection(address, PORT, timeout=120), tokens, stream=stream, headers=_JSON)[0])

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, found


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("path", ["server drains", "hook alone"])
def test_a_pod_that_ends_loses_no_request_of_clients_that_keep_their_connections(
    start: Start, path: str, stream: bool, record_property: Callable[[str, object], None]
) -> None:
    server = start(without=() if path == "server drains" else ("--shutdown-timeout",))
    tokens = _long_tokens(server)
    clients = PooledClients(server, 4, stream=stream)
    _wait_until(lambda: clients.results.answered >= 4)
    thread, long = _ask_long(server, tokens, stream=stream)
    time.sleep(0.5)
    _end(server, clients)
    thread.join(timeout=60)
    assert server.wait() == 0, server.last_words()
    record_property("answered", clients.results.answered)
    print(f"{path}, stream={stream}: {clients.results.answered} answered, {len(clients.results.lost)} lost")
    assert clients.results.lost == []
    assert clients.results.answered > 4
    assert long == [None]


@pytest.mark.parametrize("path", ["server drains", "hook alone"])
def test_a_connection_whose_stream_began_before_the_drain_may_be_used_again_after_a_pause(start: Start, path: str) -> None:
    """The stream outlasts the settling, and its answer does not close the connection."""
    server = start(without=() if path == "server drains" else ("--shutdown-timeout",))
    clients = PooledClients(server, 2, stream=True, tokens=_long_tokens(server), pause=2)
    time.sleep(1)
    _end(server, clients)
    assert server.wait() == 0, server.last_words()
    assert clients.results.lost == []
    # The stream, and one more over the same connection.
    assert clients.results.answered == 4


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_after_sigterm_a_server_that_drains_finishes_what_it_has_and_answers_500_to_the_rest(start: Start) -> None:
    server = start(without=("--middleware",))
    tokens = _long_tokens(server)
    clients = PooledClients(server, 4, stream=False)
    thread, long = _ask_long(server, tokens)
    _wait_until(lambda: clients.results.answered >= 4)
    server.send_sigterm()
    _wait_until(lambda: bool(clients.results.lost))
    clients.stop()
    assert clients.still_connected(within=15) == 0
    thread.join(timeout=60)
    assert long == [None]
    # What was under way is answered; each client has lost what it sent after that.
    assert set(clients.results.lost) == {"HTTP 500"}


def test_after_sigterm_a_server_that_does_not_drain_loses_what_it_has(start: Start) -> None:
    """It answers with `abort`, or on a busy machine not at all: vLLM then kills its engine before that has said so."""
    server = start(without=("--middleware", "--shutdown-timeout"))
    thread, long = _ask_long(server, _long_tokens(server))
    time.sleep(1)
    server.send_sigterm()
    time.sleep(3)
    server.end()
    thread.join(timeout=60)
    assert long != [None]


def test_an_engine_that_hangs_is_found_though_the_server_says_that_it_is_healthy(start: Start) -> None:
    server = start()
    impatient = {"HEALTH_STALL_SECONDS": "1", "HEALTH_IDLE_SECONDS": "1", "HEALTH_TOKEN_SECONDS": "2"}
    assert server.health("live", **impatient)[0] == 0
    time.sleep(2)
    # Idle: one token is asked for and comes.
    assert server.health("live", **impatient) == (0, "healthy: serving")
    server.hang_engine()
    assert server.get("/health").status_code == 200
    server.health("live", **impatient)
    time.sleep(2)
    code, said = server.health("live", **impatient)
    assert code == 1
    assert "no answer to a request for one token" in said


def test_a_busy_server_is_healthy_and_the_hook_waits_for_it(start: Start) -> None:
    server = start("--max-num-seqs=2", without=("--shutdown-timeout",))
    tokens = _long_tokens(server)
    asked = [_ask_long(server, tokens) for _ in range(6)]
    time.sleep(1)
    assert server.health("live") == (0, "healthy: serving")
    assert server.health("ready") == (0, "healthy: serving")
    server.drain("0", "120")
    # Seconds without requests, and the last bytes are out.
    for thread, _ in asked:
        thread.join(timeout=5)
    assert [found for _, found in asked] == [[None]] * 6


def test_a_full_server_answers_503_and_is_healthy(start: Start) -> None:
    server = start("--max-num-queued-reqs=2")
    tokens = _long_tokens(server)
    asked = [_ask_long(server, tokens) for _ in range(2)]
    time.sleep(1)
    refused = server.post("/v1/completions", {"prompt": "The sky", "max_tokens": 1})
    assert refused.status_code == 503
    assert refused.json()["error"]["code"] == 503
    assert server.health("live")[0] == server.health("ready")[0] == 0
    for thread, _ in asked:
        thread.join(timeout=60)
    assert [found for _, found in asked] == [[None]] * 2
    assert server.post("/v1/completions", {"prompt": "The sky", "max_tokens": 1}).status_code == 200
