"""The requests that both servers are asked, by name; both run with `--api-key`, and `KEY` goes with each but a few."""

from collections.abc import Callable, Mapping
from typing import Any

import requests

from tests.vllm.servers import MODEL, Server

KEY = "the-key-of-the-test"
AUTHORISED = {"Authorization": f"Bearer {KEY}"}

MESSAGES = [{"role": "user", "content": "Why is the sky blue?"}]

Exchange = Callable[[Server], requests.Response]


def _get(path: str, headers: Mapping[str, str] = AUTHORISED) -> Exchange:
    return lambda server: server.get(path, headers=headers)


def _post(path: str, body: object, headers: Mapping[str, str] = AUTHORISED) -> Exchange:
    return lambda server: server.post(path, body, headers=headers)


def _raw(path: str, data: str, content_type: str) -> Exchange:
    return lambda server: server.request("POST", path, data=data, headers={**AUTHORISED, "Content-Type": content_type})


def _chat(**fields: Any) -> Exchange:
    body = {"model": MODEL, "messages": MESSAGES, "max_tokens": 4, **fields}
    return _post("/v1/chat/completions", {key: value for key, value in body.items() if value is not None})


def _completion(**fields: Any) -> Exchange:
    body = {"model": MODEL, "prompt": "The sky is", "max_tokens": 4, **fields}
    return _post("/v1/completions", {key: value for key, value in body.items() if value is not None})


_USAGE = {"stream": True, "stream_options": {"include_usage": True}}

SUCCESSES: dict[str, Exchange] = {
    "health": _get("/health"),
    "health without a key": _get("/health", headers={}),
    "ping": _get("/ping"),
    "ping by POST": _post("/ping", {}),
    "load": _get("/load"),
    "version": _get("/version"),
    "metrics": _get("/metrics"),
    "models": _get("/v1/models"),
    "chat": _chat(ignore_eos=True),
    "chat with max_completion_tokens": _chat(max_tokens=None, max_completion_tokens=4),
    "chat without a model": _chat(model=None, ignore_eos=True),
    "chat with more tokens than fit beside the prompt": _chat(max_tokens=8192),
    "chat of two choices": _chat(n=2, ignore_eos=True),
    "chat streamed": _chat(stream=True, ignore_eos=True),
    "chat streamed with usage": _chat(**_USAGE, ignore_eos=True),
    "completion": _completion(ignore_eos=True),
    "completion of two prompts": _completion(prompt=["The sky", "A pod"], ignore_eos=True),
    "completion of tokens": _completion(prompt=[101, 102, 103], ignore_eos=True),
    "completion streamed": _completion(stream=True, ignore_eos=True),
    "completion streamed with usage": _completion(**_USAGE, ignore_eos=True),
}

REFUSALS: dict[str, Exchange] = {
    "unknown route": _get("/nothing-here"),
    "unknown route below /v1": _get("/v1/nothing-here"),
    "wrong method": _get("/v1/chat/completions"),
    "wrong method on a read-only route": _post("/v1/models", {}),
    "no key": _get("/v1/models", headers={}),
    "no key for a chat": _post("/v1/chat/completions", {"model": MODEL, "messages": MESSAGES}, headers={}),
    "wrong key": _get("/v1/models", headers={"Authorization": "Bearer wrong"}),
    "key without a scheme": _get("/v1/models", headers={"Authorization": KEY}),
    "key of another scheme": _get("/v1/models", headers={"Authorization": f"Basic {KEY}"}),
    "no key for an unknown route": _get("/v1/nothing-here", headers={}),
    "unknown model": _chat(model="no/such-model"),
    "unknown model for a completion": _completion(model="no/such-model"),
    "not JSON": _raw("/v1/chat/completions", '{"model": ', "application/json"),
    "JSON that is not an object": _raw("/v1/chat/completions", "[1]", "application/json"),
    "another content type": _raw("/v1/chat/completions", '{"messages": []}', "text/plain"),
    "no messages": _chat(messages=None),
    "messages that are no list": _chat(messages="hello"),
    "a message without a role": _chat(messages=[{"content": "hello"}]),
    "stop that is a number": _chat(stop=5),
    "no prompt": _completion(prompt=None),
    "a prompt that is a number": _completion(prompt=7),
    "max_tokens that is a word": _chat(max_tokens="many"),
    "max_tokens of 0": _chat(max_tokens=0),
    "max_tokens below 0": _chat(max_tokens=-1),
    "max_tokens beyond the context": _chat(max_tokens=100_000),
    "a prompt beyond the context": _chat(messages=[{"role": "user", "content": "word " * 100_000}]),
    "no choice": _chat(n=0),
    "stream that is a word": _chat(stream="perhaps"),
    "stream_options without stream": _chat(stream_options={"include_usage": True}),
}

ALL = SUCCESSES | REFUSALS
