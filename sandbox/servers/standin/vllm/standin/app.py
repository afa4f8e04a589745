"""The routes of the server, and the answers' shapes (vLLM's, which are OpenAI's with a little more)."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from http import HTTPStatus
from typing import Any

from . import VERSION
from .engine import Engine
from .http_server import Request, Response
from .metrics import CONTENT_TYPE, Metrics
from .requests import (
    ApiError,
    Fields,
    Job,
    JobMaker,
    chat_job,
    chat_prompt,
    check_model,
    completion_job,
    parse_json,
)
from .settings import Settings
from .text import decode, encode

#: Where vLLM asks for an API key; the rest is open with one too.
_GUARDED = ("/v1", "/v2", "/inference")


class App:
    """Answers requests with an engine."""

    def __init__(self, settings: Settings, engine: Engine, metrics: Metrics) -> None:
        self._settings = settings
        self._engine = engine
        self._metrics = metrics
        self._started = int(time.time())
        self.routes: dict[str, dict[str, Callable[[Request], Awaitable[Response]]]] = {
            "/health": {"GET": self._health},
            "/ping": {"GET": self._health, "POST": self._health},
            "/load": {"GET": self._load},
            "/version": {"GET": self._version},
            "/metrics": {"GET": self._metrics_text},
            "/tokenize": {"POST": self._tokenize},
            "/detokenize": {"POST": self._detokenize},
            "/v1/models": {"GET": self._models},
            "/v1/chat/completions": {"POST": self._chat},
            "/v1/completions": {"POST": self._completions},
        }

    async def handle(self, request: Request) -> Response:
        try:
            response = await self._route(request)
        except ApiError as error:
            response = error.response()
        response.headers += self._settings.place.headers
        return response

    async def _route(self, request: Request) -> Response:
        if not self._allowed(request):
            return Response.json({"error": "Unauthorized"}, HTTPStatus.UNAUTHORIZED)
        methods = self.routes.get(request.path)
        if methods is None:
            return _detail(HTTPStatus.NOT_FOUND)
        handler = methods.get(request.method)
        if handler is None:
            return _detail(HTTPStatus.METHOD_NOT_ALLOWED)
        return await handler(request)

    def _allowed(self, request: Request) -> bool:
        keys = self._settings.api_keys
        if not keys or request.method == "OPTIONS" or not request.path.startswith(_GUARDED):
            return True
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        matches = [secrets.compare_digest(given.encode(), key.encode()) for key in keys]
        return scheme.lower() == "bearer" and any(matches)

    # --- about the server

    async def _health(self, request: Request) -> Response:
        return Response()

    async def _load(self, request: Request) -> Response:
        return Response.json({"server_load": self._engine.unfinished})

    async def _version(self, request: Request) -> Response:
        return Response.json({"version": VERSION})

    async def _metrics_text(self, request: Request) -> Response:
        return Response(content_type=CONTENT_TYPE, body=self._metrics.text())

    async def _models(self, request: Request) -> Response:
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
        return Response.json({"object": "list", "data": cards})

    # --- tokens

    async def _tokenize(self, request: Request) -> Response:
        fields = Fields(parse_json(request.body, request.headers.get("content-type", "")))
        check_model(fields, self._settings)
        text = chat_prompt(fields)[0] if fields.get("messages") is not None else str(fields.required("prompt"))
        tokens = encode(text)
        length = self._settings.max_model_len
        return Response.json({"count": len(tokens), "max_model_len": length, "tokens": tokens, "token_strs": None})

    async def _detokenize(self, request: Request) -> Response:
        fields = Fields(parse_json(request.body, request.headers.get("content-type", "")))
        check_model(fields, self._settings)
        try:
            text = decode(fields.numbers("tokens"))
        except ValueError as error:
            raise ApiError(HTTPStatus.BAD_REQUEST, str(error), kind="BadRequestError", param="tokens") from None
        return Response.json({"prompt": text})

    # --- generation

    async def _chat(self, request: Request) -> Response:
        return await self._generate(request, chat_job, _ChatShape)

    async def _completions(self, request: Request) -> Response:
        return await self._generate(request, completion_job, _CompletionShape)

    async def _generate(self, request: Request, make_job: JobMaker, shape_class: type[_Shape]) -> Response:
        content = parse_json(request.body, request.headers.get("content-type", ""))
        job = make_job(content, self._settings)
        shape = shape_class(job, self._settings.place.fingerprint)
        for generation in job.generations:
            self._engine.submit(generation)
        if job.stream:
            return Response(content_type="text/event-stream; charset=utf-8", body=self._stream(job, shape))
        try:
            for generation in job.generations:
                await generation.wait()
        finally:
            # Of effect when the client has left.
            self._abort(job)
        return Response.json(shape.whole())

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


def _detail(status: HTTPStatus) -> Response:
    """What the web framework answers before vLLM sees the request."""
    return Response.json({"detail": status.phrase}, status)


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
        return {
            "id": self._id,
            "object": kind,
            "created": self._created,
            "model": self.job.model,
            "choices": choices,
        }

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
        choice = {
            "index": index,
            "delta": {"content": text},
            "logprobs": None,
            "finish_reason": finish_reason,
            "token_ids": None,
        }
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
