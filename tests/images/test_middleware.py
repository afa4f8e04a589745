"""The middleware that closes connections while a pod drains; that vLLM loads it is proven in tests/vllm."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from images.fungibility_drain import CloseWhileDraining


async def _app(scope: Any, receive: Any, send: Any) -> None:
    """Streams two pieces, as it does in answer to a chat."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    await send({"type": "http.response.body", "body": b"1", "more_body": True})
    await send({"type": "http.response.body", "body": b"2"})


def _messages(app: CloseWhileDraining, path: str = "/v1/chat/completions") -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(dict(message))

    async def receive() -> Any:
        raise AssertionError("nothing of the request is read")

    # `asyncio.run` would leave the thread without a loop, which other tests of the process rely on.
    loop = asyncio.new_event_loop()
    loop.run_until_complete(app({"type": "http", "path": path}, receive, send))
    loop.close()
    return sent


@pytest.mark.parametrize("draining", [False, True])
def test_connections_are_closed_by_the_answers_of_a_pod_that_drains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, draining: bool
) -> None:
    monkeypatch.setenv("FUNGIBILITY_DRAINING_FILE", str(tmp_path / "draining.gpu"))
    app = CloseWhileDraining(_app)
    if draining:
        (tmp_path / "draining.gpu").touch()
    start, *pieces = _messages(app)
    assert start["headers"] == [(b"content-type", b"text/event-stream"), *([(b"connection", b"close")] if draining else [])]
    assert [piece["body"] for piece in pieces] == [b"1", b"2"]
    assert start["status"] == 200
    # Load balancers that ask by themselves send no more.
    assert _messages(app, "/health")[0]["status"] == (503 if draining else 200)


def test_without_a_folder_for_the_file_answers_are_the_servers_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FUNGIBILITY_DRAINING_FILE", raising=False)
    assert _messages(CloseWhileDraining(_app))[0]["headers"] == [(b"content-type", b"text/event-stream")]
