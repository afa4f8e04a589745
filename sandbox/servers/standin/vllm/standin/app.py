"""The routes of the server, and the answers' shapes (vLLM's, which are OpenAI's with a little more).

On starlette, as vLLM's own server is, so that what `--middleware` names is loaded and called as vLLM does it. Left out: CORS.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import secrets
import time
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from . import VERSION
from .engine import Engine
from .metrics import CONTENT_TYPE, Metrics
from .requests import ApiError, Job, JobMaker, chat_job, completion_job, parse_json
from .settings import Settings

#: Where vLLM asks for an API key; the rest is open with one too.
_GUARDED = ("/v1", "/v2", "/inference")


def make_app(settings: Settings, engine: Engine, metrics: Metrics) -> Starlette:
    """Raises `ImportError` or `AttributeError` for a middleware that is not there."""
    handlers = _Handlers(settings, engine, metrics)
    routes = [
        Route(path, handler, methods=methods)
        for path, handler, methods in (
            ("/health", handlers.health, ["GET"]),
            ("/ping", handlers.health, ["GET", "POST"]),
            ("/load", handlers.load, ["GET"]),
            ("/version", handlers.version, ["GET"]),
            ("/metrics", handlers.metrics_text, ["GET"]),
            ("/v1/models", handlers.models, ["GET"]),
            ("/v1/chat/completions", handlers.chat, ["POST"]),
            ("/v1/completions", handlers.completions, ["POST"]),
        )
    ]
    for route in routes:
        # Starlette answers HEAD wherever it answers GET, and vLLM's framework does not.
        if route.methods is not None:
            route.methods.discard("HEAD")
    own = [Middleware(_Authentication, keys=settings.api_keys), Middleware(_Place, headers=settings.place.headers)]
    return Starlette(
        routes=routes,
        # The last that is named is the outermost, as with vLLM.
        middleware=[*(Middleware(_imported(name)) for name in reversed(settings.middleware)), *own],
        exception_handlers={ApiError: _api_error, HTTPException: _detail},
    )


def _imported(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


class _Authentication:
    def __init__(self, app: ASGIApp, keys: tuple[str, ...]) -> None:
        self._app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._allowed(Request(scope)):
            await JSONResponse({"error": "Unauthorized"}, HTTPStatus.UNAUTHORIZED)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _allowed(self, request: Request) -> bool:
        if not self._keys or request.method == "OPTIONS" or not request.url.path.startswith(_GUARDED):
            return True
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        matches = [secrets.compare_digest(given.encode(), key.encode()) for key in self._keys]
        return scheme.lower() == "bearer" and any(matches)


class _Place:
    """Says in each answer where the server runs."""

    def __init__(self, app: ASGIApp, headers: list[tuple[str, str]]) -> None:
        self._app = app
        self._headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers:
                    headers.append(name, value)
            await send(message)

        await self._app(scope, receive, answer)


async def _api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return JSONResponse({"error": error.content()}, error.status)


async def _detail(request: Request, error: Exception) -> Response:
    """What the web framework answers before vLLM sees the request."""
    assert isinstance(error, HTTPException)
    return JSONResponse({"detail": error.detail}, error.status_code, headers=error.headers)


class _Handlers:
    """Answers requests with an engine."""

    def __init__(self, settings: Settings, engine: Engine, metrics: Metrics) -> None:
        self._settings = settings
        self._engine = engine
        self._metrics = metrics
        self._started = int(time.time())

    # --- about the server

    async def health(self, request: Request) -> Response:
        return Response()

    async def load(self, request: Request) -> Response:
        return JSONResponse({"server_load": self._engine.unfinished})

    async def version(self, request: Request) -> Response:
        return JSONResponse({"version": VERSION})

    async def metrics_text(self, request: Request) -> Response:
        return Response(self._metrics.text(), media_type=CONTENT_TYPE)

    async def models(self, request: Request) -> Response:
        cards: list[dict[str, Any]] = [
            {
                "id": name,
                "object": "model",
                "created": self._started,
                "owned_by": "vllm",
                "root": self._settings.model,
                "parent": None,
                "max_model_len": self._settings.max_model_len,
                "permission": [
                    {
                        "id": f"modelperm-{secrets.token_hex(8)}",
                        "object": "model_permission",
                        "created": self._started,
                        "allow_create_engine": False,
                        "allow_sampling": True,
                        "allow_logprobs": True,
                        "allow_search_indices": False,
                        "allow_view": True,
                        "allow_fine_tuning": False,
                        "organization": "*",
                        "group": None,
                        "is_blocking": False,
                    }
                ],
            }
            for name in self._settings.served_names
        ]
        return JSONResponse({"object": "list", "data": cards})

    # --- generation

    async def chat(self, request: Request) -> Response:
        return await self._generate(request, chat_job, _ChatShape)

    async def completions(self, request: Request) -> Response:
        return await self._generate(request, completion_job, _CompletionShape)

    async def _generate(self, request: Request, make_job: JobMaker, shape_class: type[_Shape]) -> Response:
        job = make_job(await _content(request), self._settings)
        shape = shape_class(job, self._settings.place.fingerprint)
        self._admit(job)
        if job.stream:
            return StreamingResponse(self._stream(job, shape), media_type="text/event-stream")
        whole = asyncio.ensure_future(asyncio.gather(*(generation.wait() for generation in job.generations)))
        gone = asyncio.ensure_future(_client_leaves(request))
        try:
            await asyncio.wait((whole, gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            whole.cancel()
            gone.cancel()
            self._abort(job)
        return JSONResponse(shape.whole())

    def _admit(self, job: Job) -> None:
        """Hands it to the engine, which takes no more once it is told to end, nor beyond the limit of requests."""
        if self._engine.ending:
            message = "cannot schedule new futures after shutdown"
            raise ApiError(HTTPStatus.INTERNAL_SERVER_ERROR, message, kind="InternalServerError")
        limit = self._settings.max_num_queued_reqs
        if limit is not None and self._engine.unfinished + len(job.generations) > limit:
            message = "The engine is currently busy and cannot accept new requests. Please try again later or on a different instance."
            raise ApiError(HTTPStatus.SERVICE_UNAVAILABLE, message, kind="ServiceUnavailableError")
        for generation in job.generations:
            self._engine.submit(generation)

    async def _stream(self, job: Job, shape: _Shape) -> AsyncIterator[bytes]:
        """Server-sent events of all choices, as their tokens come."""
        events: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()

        async def follow(index: int) -> None:
            async for piece in job.generations[index].pieces():
                events.put_nowait(shape.piece(index, piece))
            events.put_nowait(shape.end(index))
            events.put_nowait(None)

        tasks = [asyncio.ensure_future(follow(index)) for index in range(len(job.generations))]
        try:
            for event in shape.beginning():
                yield _event(event)
            unfinished = len(tasks)
            while unfinished:
                event_or_end = await events.get()
                if event_or_end is None:
                    unfinished -= 1
                elif unfinished == 1 and not job.include_usage and shape.is_end(event_or_end):
                    yield _event(shape.signed(event_or_end))
                else:
                    yield _event(event_or_end)
            if job.include_usage:
                yield _event(shape.signed(shape.usage_event()))
            yield b"data: [DONE]\n\n"
        finally:
            for task in tasks:
                task.cancel()
            self._abort(job)

    def _abort(self, job: Job) -> None:
        for generation in job.generations:
            self._engine.abort(generation)


async def _content(request: Request) -> dict[str, Any]:
    return parse_json(await request.body(), request.headers.get("content-type", ""))


async def _client_leaves(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _event(content: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


class _Shape:
    """How one kind of answer is written."""

    prefix: str
    whole_object: str
    chunk_object: str
    #: Fields of the whole answer that hold nothing here.
    whole_nulls: tuple[str, ...]

    def __init__(self, job: Job, fingerprint: str) -> None:
        self.job = job
        self._fingerprint = fingerprint
        self._id = f"{self.prefix}-{secrets.token_hex(16)}"
        self._created = int(time.time())

    def whole(self) -> dict[str, Any]:
        choices = [self.whole_choice(index) for index in range(len(self.job.generations))]
        usage = self._usage() | {"prompt_tokens_details": None, "completion_tokens_details": None}
        answer = self._frame(self.whole_object, choices)
        return self.signed(answer) | {"usage": usage, **dict.fromkeys(self.whole_nulls)}

    def beginning(self) -> list[dict[str, Any]]:
        return []

    def piece(self, index: int, text: str) -> dict[str, Any]:
        return self._frame(self.chunk_object, [self.chunk_choice(index, text, None)])

    def end(self, index: int) -> dict[str, Any]:
        finish_reason = self.job.generations[index].finish_reason
        return self._frame(self.chunk_object, [self.chunk_choice(index, "", finish_reason)])

    @staticmethod
    def is_end(event: dict[str, Any]) -> bool:
        return event["choices"][0]["finish_reason"] is not None

    def usage_event(self) -> dict[str, Any]:
        return self._frame(self.chunk_object, []) | {"usage": self._usage()}

    def signed(self, answer: dict[str, Any]) -> dict[str, Any]:
        """An answer, or the last event of a stream, says who made it."""
        return answer | {"system_fingerprint": self._fingerprint}

    def whole_choice(self, index: int) -> dict[str, Any]:
        raise NotImplementedError

    def chunk_choice(self, index: int, text: str, finish_reason: str | None) -> dict[str, Any]:
        raise NotImplementedError

    def _stop_reason(self, index: int) -> str | None:
        return self.job.stop_reasons[index] if self.job.generations[index].finish_reason == "stop" else None

    def _frame(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {"id": self._id, "object": kind, "created": self._created, "model": self.job.model, "choices": choices}

    def _usage(self) -> dict[str, Any]:
        prompt, completion = self.job.prompt_tokens, sum(each.produced for each in self.job.generations)
        return {"prompt_tokens": prompt, "total_tokens": prompt + completion, "completion_tokens": completion}


class _ChatShape(_Shape):
    prefix = "chatcmpl"
    whole_object = "chat.completion"
    chunk_object = "chat.completion.chunk"
    whole_nulls = (
        *("service_tier", "prompt_logprobs", "prompt_token_ids", "prompt_text"),
        *("kv_transfer_params", "ec_transfer_params", "metrics"),
    )

    def beginning(self) -> list[dict[str, Any]]:
        delta = {"role": "assistant", "content": ""}
        return [
            self._frame(self.chunk_object, [{"index": index, "delta": delta, "logprobs": None, "finish_reason": None}])
            | {"prompt_token_ids": None, "prompt_text": None}
            for index in range(len(self.job.generations))
        ]

    def whole_choice(self, index: int) -> dict[str, Any]:
        generation = self.job.generations[index]
        nothing = dict.fromkeys(("refusal", "annotations", "audio", "function_call", "reasoning"))
        return {
            "index": index,
            "message": {"role": "assistant", "content": generation.text, **nothing},
            "logprobs": None,
            "finish_reason": generation.finish_reason,
            "stop_reason": self._stop_reason(index),
            "token_ids": None,
            "routed_experts": None,
        }

    def chunk_choice(self, index: int, text: str, finish_reason: str | None) -> dict[str, Any]:
        choice = {"index": index, "delta": {"content": text}, "logprobs": None, "finish_reason": finish_reason, "token_ids": None}
        return choice if finish_reason is None else choice | {"stop_reason": self._stop_reason(index)}


class _CompletionShape(_Shape):
    prefix = "cmpl"
    whole_object = "text_completion"
    chunk_object = "text_completion"
    whole_nulls = ("service_tier", "kv_transfer_params", "ec_transfer_params", "metrics")

    def whole_choice(self, index: int) -> dict[str, Any]:
        generation = self.job.generations[index]
        return {
            "index": index,
            "text": generation.text,
            "logprobs": None,
            "finish_reason": generation.finish_reason,
            "stop_reason": self._stop_reason(index),
            **dict.fromkeys(("token_ids", "prompt_logprobs", "prompt_token_ids", "routed_experts")),
        }

    def chunk_choice(self, index: int, text: str, finish_reason: str | None) -> dict[str, Any]:
        return {
            "index": index,
            "text": text,
            "logprobs": None,
            "finish_reason": finish_reason,
            "stop_reason": self._stop_reason(index) if finish_reason else None,
            "prompt_token_ids": None,
            "token_ids": None,
        }
