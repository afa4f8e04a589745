"""The example's gateway before a model's server that behaves, and before one that does not."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import requests

from examples.consumer.gateway.gateway import MOST_BYTES, Gateway, RateLimiter, Settings
from ops.smoke import checks
from ops.smoke.checks import Limits
from ops.smoke.target import Target
from tests.unit.misbehaving_server import MODEL, TEXT, Server, breaks_off, closes, cut_short, later, says, serving, stream_events, streams

KEY = "sk-of-the-server"


@contextmanager
def gateway(upstream: str, **changes: Any) -> Iterator[str]:
    """The gateway's own base URL."""
    environment = {"UPSTREAM_URL": upstream, "UPSTREAM_MODEL": MODEL, "MODEL_ALIAS": "chat", **changes}
    read = Settings.read(environment)
    # Any free port.
    server = Gateway(Settings(**{**read.__dict__, "port": 0}), host="127.0.0.1")
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.01), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def ask(url: str, path: str = "/chat/completions", **changes: Any) -> requests.Response:
    body = {"model": "chat", "messages": [{"role": "user", "content": "hello"}], **changes}
    return requests.post(url + path, json=body, timeout=10)


def sent(server: Server) -> dict[str, Any]:
    """The last request's body and headers, as the model's server got it."""
    _, headers, body = server.seen[-1]
    return {**body, "headers": headers}


def test_smoke_test_passes_through_the_gateway() -> None:
    with serving() as server, gateway(server.url) as url:
        report = checks.run(Target(service_url=url, model=MODEL), limits=Limits(healthy=2.0), ask_cluster=False)
    assert report.ok, report.checks


@pytest.mark.parametrize("name", ["chat", MODEL])
def test_alias_and_name_both_reach_the_model(name: str) -> None:
    with serving() as server, gateway(server.url) as url:
        answer = ask(url, model=name, max_tokens=5)
        assert answer.json()["choices"][0]["message"]["content"] == TEXT
        assert sent(server)["model"] == MODEL
        assert sent(server)["max_tokens"] == 5


def test_without_a_model_the_alias_is_meant_and_another_is_refused() -> None:
    with serving() as server, gateway(server.url) as url:
        bare = requests.post(f"{url}/chat/completions", json={"messages": []}, timeout=10)
        assert bare.ok
        other = ask(url, model="gpt-4")
        assert other.status_code == 404
        assert other.json()["error"]["message"] == f"The model `gpt-4` does not exist. Valid names: chat, {MODEL}."
        assert len(server.seen) == 1


def test_stream_comes_as_it_is_made_and_not_at_its_end() -> None:
    with serving(stream=streams(*stream_events(), pause=0.05)) as server, gateway(server.url) as url:
        started = time.monotonic()
        with requests.post(f"{url}/chat/completions", json={"stream": True}, stream=True, timeout=10) as answer:
            lines = answer.iter_lines()
            first = next(lines)
            at_first = time.monotonic() - started
            rest = list(lines)
            at_end = time.monotonic() - started
    assert first.startswith(b"data: ")
    assert b"data: [DONE]" in rest
    assert at_first < at_end - 0.2


@pytest.mark.parametrize("reply", [breaks_off(*stream_events()[:3]), cut_short(b'{"a": 1}')])
def test_answer_that_breaks_off_breaks_off_here_too(reply: Any) -> None:
    with serving(stream=reply) as server, gateway(server.url) as url, pytest.raises(requests.exceptions.ChunkedEncodingError):
        ask(url, stream=True)


@pytest.mark.parametrize("reply", [closes, says(b"x", 500)])
def test_a_failing_server_differs_from_a_failing_gateway(reply: Any) -> None:
    with serving(chat=reply) as server, gateway(server.url) as url:
        answer = ask(url)
    if reply is closes:
        assert answer.status_code == 502
        assert "model's server does not answer (RemoteDisconnected)" in answer.json()["error"]["message"]
    else:
        assert (answer.status_code, answer.text) == (500, "x")


def test_server_that_is_away_makes_502_while_the_gateway_itself_is_well() -> None:
    with serving() as server:
        gone = server.url
    with gateway(gone) as url:
        assert ask(url).status_code == 502
        root = url.removesuffix("/v1")
        assert requests.get(f"{root}/health", timeout=10).status_code == 502
        assert requests.get(f"{root}/healthz", timeout=10).text == "ok\n"


def test_servers_key_is_added_and_the_clients_own_does_not_reach_it(capsys: pytest.CaptureFixture[str]) -> None:
    with serving() as server, gateway(server.url, UPSTREAM_API_KEY=KEY) as url:
        answer = requests.post(f"{url}/chat/completions", json={}, headers={"Authorization": "Bearer client"}, timeout=10)
        assert sent(server)["headers"]["Authorization"] == f"Bearer {KEY}"
        assert KEY not in answer.text + str(answer.headers)
    assert KEY not in "".join(capsys.readouterr())


def test_without_a_key_the_clients_own_is_passed_on_and_nothing_else_of_it() -> None:
    with serving() as server, gateway(server.url) as url:
        headers = {"Authorization": "Bearer client", "Cookie": "session=1", "X-Forwarded-For": "1.2.3.4"}
        requests.post(f"{url}/chat/completions", json={}, headers=headers, timeout=10)
        got = {name.lower(): value for name, value in sent(server)["headers"].items()}
    assert got["authorization"] == "Bearer client"
    assert not {"cookie", "x-forwarded-for"} & set(got)


def test_log_has_requests_and_no_question(capsys: pytest.CaptureFixture[str]) -> None:
    with serving() as server, gateway(server.url) as url:
        ask(url, messages=[{"role": "user", "content": "a private question"}])
        requests.get(url.removesuffix("/v1") + "/healthz", timeout=10)
    printed = capsys.readouterr().out
    assert "127.0.0.1 POST /v1/chat/completions 200" in printed
    assert "private" not in printed
    assert "healthz" not in printed


@pytest.mark.parametrize(
    ("headers", "data", "status"),
    [({}, b"{broken", 400), ({}, b"[]", 400), ({"Content-Length": str(MOST_BYTES + 1)}, b"", 413), ({"Content-Length": "-1"}, b"", 411)],
)
def test_requests_that_cannot_be_are_refused_in_openai_shape(headers: dict[str, str], data: bytes, status: int) -> None:
    with serving() as server, gateway(server.url) as url:
        prepared = requests.Request("POST", f"{url}/chat/completions", data=data, headers=headers).prepare()
        prepared.headers.update(headers)
        answer = requests.Session().send(prepared, timeout=10)
        assert answer.status_code == status
        assert answer.json()["error"]["code"] == status
        assert server.seen == []


@pytest.mark.parametrize("path", ["/metrics", "/v1/../metrics", "/v1/embeddings"])
def test_nothing_else_of_the_server_can_be_reached(path: str) -> None:
    with serving() as server, gateway(server.url) as url:
        assert requests.get(url.removesuffix("/v1") + path, timeout=10).status_code == 404
        assert requests.post(url.removesuffix("/v1") + path, json={}, timeout=10).status_code == 404
        assert server.seen == []


def test_rate_of_each_client_is_its_own_and_comes_back() -> None:
    now = 0.0
    limiter = RateLimiter(6, clock=lambda: now)
    assert [limiter.wait_seconds("a") for _ in range(6)] == [0.0] * 6
    assert limiter.wait_seconds("a") == pytest.approx(10.0)
    assert limiter.wait_seconds("b") == 0.0
    now = 9.0
    assert limiter.wait_seconds("a") == pytest.approx(1.0)
    now = 10.5
    assert limiter.wait_seconds("a") == 0.0


def test_clients_beyond_number_are_forgotten_oldest_first() -> None:
    limiter = RateLimiter(1, clock=lambda: 0.0)
    for number in range(10_001):
        limiter.wait_seconds(f"10.0.{number // 256}.{number % 256}")
    assert len(limiter._buckets) == 10_000
    assert limiter.wait_seconds("10.0.39.16") > 0
    assert limiter.wait_seconds("10.0.0.0") == 0.0


def test_too_many_requests_say_when_to_try_again() -> None:
    with serving() as server, gateway(server.url, REQUESTS_PER_MINUTE="2") as url:
        assert [ask(url).status_code for _ in range(3)] == [200, 200, 429]
        refused = ask(url)
    assert 1 <= int(refused.headers["Retry-After"]) <= 31
    assert refused.json()["error"]["type"] == "Too Many Requests"


def test_answers_under_way_are_finished_when_the_gateway_ends() -> None:
    got: list[int] = []
    with serving(chat=later(0.3, says({"ok": True}))) as server:
        with gateway(server.url) as url:
            client = threading.Thread(target=lambda: got.append(ask(url).status_code))
            client.start()
            while not server.seen:
                time.sleep(0.01)
        client.join()
    assert got == [200]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"UPSTREAM_URL": ""}, "UPSTREAM_URL is not set"),
        ({"UPSTREAM_URL": "http://h"}, "not a base URL"),
        ({"UPSTREAM_MODEL": ""}, "UPSTREAM_MODEL is not set"),
        ({"REQUESTS_PER_MINUTE": "0"}, "REQUESTS_PER_MINUTE='0'"),
        ({"PORT": "http"}, "PORT='http'"),
    ],
)
def test_environment_that_is_wrong_is_named(changes: dict[str, str], told: str) -> None:
    good = {"UPSTREAM_URL": "http://h/v1", "UPSTREAM_MODEL": MODEL}
    assert json.dumps(Settings.read(good).__dict__)
    with pytest.raises(ValueError, match=told):
        Settings.read(good | changes)
