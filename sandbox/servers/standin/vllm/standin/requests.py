"""Completion requests: checked, and turned into what the engine runs. Messages and types of errors are vLLM's.

Left out: checks of fields that change nothing here (sampling, tools, structured output).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from .engine import Generation
from .settings import Settings
from .text import answer, count, tokens_of

#: What /v1/completions makes without `max_tokens`; a chat goes on until the context is full.
_COMPLETION_TOKENS = 16


class ApiError(Exception):
    """Becomes an answer of vLLM's shape."""

    def __init__(self, status: int, message: str, *, kind: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.param = param

    def content(self) -> dict[str, Any]:
        return {"message": str(self), "type": self.kind, "param": self.param, "code": self.status}


def bad_request(message: str, param: str | None = None) -> ApiError:
    return ApiError(HTTPStatus.BAD_REQUEST, message, kind="BadRequestError", param=param)


@dataclass(frozen=True, kw_only=True)
class Job:
    """A checked request; `generations` is one for each choice of the answer, in their order."""

    model: str
    prompt_tokens: int
    generations: list[Generation]
    stop_reasons: list[str | None]
    stream: bool
    include_usage: bool


def parse_json(body: bytes, content_type: str) -> dict[str, Any]:
    """The body of a POST."""
    if content_type.lower().partition(";")[0].strip() != "application/json":
        raise _invalid("Unsupported Media Type: Only 'application/json' is allowed")
    try:
        content = json.loads(body)
    except ValueError as error:
        # Both say where the parser gave up.
        place, reason = (f".{error.pos}", error.msg) if isinstance(error, json.JSONDecodeError) else ("", str(error))
        raise _problem("json_invalid", f"body{place}", "JSON decode error", f"'ctx': {{'error': {reason!r}}}") from None
    if not isinstance(content, dict):
        message = "Input should be a valid dictionary or object to extract fields from"
        raise _problem("model_attributes_type", "body", message)
    return content


def _invalid(detail: str, param: str | None = None) -> ApiError:
    return ApiError(HTTPStatus.BAD_REQUEST, f"1 validation error:\n  {detail}", kind="Bad Request", param=param)


def _problem(kind: str, place: str, message: str, more: str = "") -> ApiError:
    """One validation error; `place` is `body.FIELD`."""
    rest = f", {more}" if more else ""
    return _invalid(f"{{'type': {kind!r}, 'loc': {place!r}, 'msg': {message!r}{rest}}}", place)


class Fields:
    """Typed access to a request's fields; a null is as good as none."""

    def __init__(self, content: dict[str, Any]) -> None:
        self._content = content

    def get(self, name: str) -> Any:
        return self._content.get(name)

    def required(self, name: str) -> Any:
        if self._content.get(name) is None:
            raise _problem("missing", f"body.{name}", "Field required")
        return self._content[name]

    def integer(self, name: str, default: int) -> int:
        value = self._content.get(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int):
            raise self._wrong(name, "int_type", "valid integer")
        return value

    def boolean(self, name: str) -> bool:
        value = self._content.get(name)
        if value is not None and not isinstance(value, bool):
            raise self._wrong(name, "bool_type", "valid boolean")
        return bool(value)

    def texts(self, name: str) -> list[str]:
        """One string, or a list of them."""
        value = self._content.get(name)
        values = [value] if isinstance(value, str) else (value or [])
        if not isinstance(values, list) or not all(isinstance(each, str) for each in values):
            raise self._wrong(name, "string_type", "valid string")
        return values

    def _wrong(self, name: str, kind: str, wanted: str) -> ApiError:
        value = repr(self._content.get(name))[:200]
        return _problem(kind, f"body.{name}", f"Input should be a {wanted}", f"'input': {value}")


def check_model(fields: Fields, settings: Settings) -> str:
    """The name asked for, or the first that is served when there is none."""
    model = fields.get("model")
    if not model:
        return settings.served_names[0]
    if model not in settings.served_names:
        message = f"The model `{model}` does not exist. Valid aliases: {', '.join(settings.served_names)}."
        raise ApiError(HTTPStatus.NOT_FOUND, message, kind="NotFoundError", param="model")
    return str(model)


def chat_prompt(fields: Fields) -> tuple[str, str]:
    """All of a chat as one text, and its last message."""
    messages = fields.required("messages")
    if not isinstance(messages, list):
        raise _problem("list_type", "body.messages", "Input should be a valid list")
    if not messages:
        raise bad_request("list object has no element 0", "messages")
    lines: list[str] = []
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            # vLLM tries one kind of message after the other and names the first.
            kind = "ChatCompletionDeveloperMessageParam"
            raise _problem("missing", f"body.messages.{index}.{kind}.role", "Field required")
        lines.append(_content_text(message.get("content")))
    return "\n".join(lines), lines[-1]


def _content_text(content: object) -> str:
    """A message's content is a text or a list of parts, of which the texts count."""
    if isinstance(content, list):
        return " ".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return "" if content is None else str(content)


def chat_job(content: dict[str, Any], settings: Settings) -> Job:
    fields = Fields(content)
    model = check_model(fields, settings)
    prompt, last = chat_prompt(fields)
    limit = "max_tokens" if fields.get("max_completion_tokens") is None else "max_completion_tokens"
    return _job(fields, settings, model, [(count(prompt), last)], limit, default_limit=settings.max_model_len)


def completion_job(content: dict[str, Any], settings: Settings) -> Job:
    fields = Fields(content)
    model = check_model(fields, settings)
    prompts = _completion_prompts(fields.get("prompt"))
    return _job(fields, settings, model, prompts, "max_tokens", default_limit=_COMPLETION_TOKENS)


def _completion_prompts(prompt: object) -> list[tuple[int, str]]:
    """(tokens, text) of each: a text, texts, token numbers, or lists of those."""
    if prompt is None or prompt == "" or prompt == []:
        raise bad_request("Either prompt or prompt_embeds must be provided and non-empty.", "prompt")
    if isinstance(prompt, str):
        return [(count(prompt), prompt)]
    if isinstance(prompt, list):
        if all(isinstance(each, str) for each in prompt):
            return [(count(each), each) for each in prompt]
        if all(isinstance(each, int) for each in prompt):
            return [_token_prompt(prompt)]
        if all(isinstance(each, list) and all(isinstance(token, int) for token in each) for each in prompt):
            return [_token_prompt(each) for each in prompt]
    raise _problem("list_type", "body.prompt", "Input should be a valid list")


def _token_prompt(tokens: list[int]) -> tuple[int, str]:
    # Numbers of a real vocabulary say nothing to the stand-in, and vLLM takes them.
    return len(tokens), f"{len(tokens)} tokens"


def _job(fields: Fields, settings: Settings, model: str, prompts: list[tuple[int, str]], limit_name: str, *, default_limit: int) -> Job:
    stream = fields.boolean("stream")
    options = fields.get("stream_options")
    if options and not stream:
        raise bad_request("Stream options can only be defined when `stream=True`.", "stream_options")
    choices = fields.integer("n", 1)
    if choices < 1:
        raise bad_request(f"n must be at least 1, got {choices}.")
    longest = max(tokens for tokens, _ in prompts)
    room = settings.max_model_len - longest
    limit = fields.integer(limit_name, min(default_limit, room))
    if limit < 1 and fields.get(limit_name) is not None:
        raise bad_request(f"{limit_name} must be at least 1, got {limit}.", limit_name)
    if limit > settings.max_model_len:
        raise bad_request(
            f"{limit_name}={limit} cannot be greater than max_model_len={settings.max_model_len}. Please request fewer output tokens.",
            limit_name,
        )
    if room < 1:
        raise bad_request(_too_long(settings, longest), "input_tokens")
    # What does not fit beside the prompt is cut, not refused.
    limit = min(limit, room)
    stop = [each for each in fields.texts("stop") if each]
    # A long answer on demand: vLLM's own fields for it.
    minimum = limit if fields.boolean("ignore_eos") else min(fields.integer("min_tokens", 0), limit)
    generations: list[Generation] = []
    stop_reasons: list[str | None] = []
    for prompt_tokens, text in prompts:
        pieces, reason, stop_reason = _plan(answer(settings.place, model, text), limit, minimum, stop)
        for _ in range(choices):
            generations.append(Generation(prompt_tokens, pieces, reason))
            stop_reasons.append(stop_reason)
    return Job(
        model=model,
        prompt_tokens=sum(tokens for tokens, _ in prompts),
        generations=generations,
        stop_reasons=stop_reasons,
        stream=stream,
        include_usage=isinstance(options, dict) and bool(options.get("include_usage")),
    )


def _plan(text: str, limit: int, minimum: int, stop: list[str]) -> tuple[list[str], str, str | None]:
    """The tokens to come, the reason for their end, and the stop string if it was that."""
    unit = text + " "
    while count(text) < minimum:
        text += unit[: (minimum - count(text)) * 4]
    found = [(text.index(each), each) for each in stop if each in text]
    pieces = tokens_of(text)
    if found:
        position, stop_reason = min(found)
        cut = tokens_of(text[:position]) or [""]
        if len(cut) <= limit:
            return cut, "stop", stop_reason
    if len(pieces) > limit or minimum == limit:
        return pieces[:limit], "length", None
    return pieces, "stop", None


def _too_long(settings: Settings, prompt_tokens: int) -> str:
    return (
        f"This model's maximum context length is {settings.max_model_len} tokens. However, your request has "
        f"{prompt_tokens} input tokens. Please reduce the length of the input messages."
    )


JobMaker = Callable[[dict[str, Any], Settings], Job]
