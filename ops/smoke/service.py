"""The service, asked by HTTP as an OpenAI client would: each method answers with what it got or raises `Failure`.

An API key goes only to the address that is tested: no redirect is followed, and no credential is taken from ~/.netrc. What a server
says is repeated in messages in part, never with the key in it. Left out: TLS client certificates, and compressed answers
(none is asked for).
"""

from __future__ import annotations

import errno
import json
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

import requests
import urllib3
from requests.auth import AuthBase

from ops.smoke.failure import Failure, NotYet

#: Not OPENAI_API_KEY: whoever has that set has a key of OpenAI's in it, which is not to be sent to another server.
KEY_VARIABLE = "VLLM_API_KEY"

#: Which of OpenAI's two ways to ask. A model without a chat template knows only `completions`.
Api = Literal["chat", "completions"]
APIS: tuple[Api, ...] = ("chat", "completions")

PROMPT = "Why is the sky blue?"
MAX_TOKENS = 64

_CONNECT_SECONDS = 10.0
_PIECE_BYTES = 65536
#: No answer to these questions is larger; what is, is not vLLM's.
_MOST_BYTES = 4 * 1024 * 1024
_SHOWN_CHARACTERS = 160


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Times are in seconds from the request; `place` holds what only the sandbox's stand-in says of itself."""

    text: str
    model: str
    seconds: float
    #: Only of a stream.
    first_token_seconds: float | None = None
    place: Mapping[str, str] = field(default_factory=dict)


class Service:
    """`url` is the base URL of an OpenAI client; `seconds` is how long one request may take."""

    def __init__(self, url: str, *, seconds: float, key: str = "", api: Api = "chat") -> None:
        self.url = url.rstrip("/")
        self._seconds = seconds
        self._key = key
        self._api: Api = api
        self._auth = _Bearer(key)

    # --- the questions

    def health(self) -> None:
        """Raises `NotYet` where waiting may help."""
        path = "/health"
        with self._request("GET", self._root + path) as response:
            body = self._whole(response, time.monotonic() + self._seconds)
            self._check_status(response.status_code, response.headers, body, path)

    def models(self) -> list[str]:
        """The names that the server serves."""
        path = "/models"
        with self._request("GET", self.url + path) as response:
            body = self._whole(response, time.monotonic() + self._seconds)
            self._check_status(response.status_code, response.headers, body, path)
        document = self._json(body, path)
        cards = document.get("data")
        if not isinstance(cards, list) or not all(isinstance(each, dict) and "id" in each for each in cards):
            raise self._malformed(path, "its `data` is no list of models", body)
        return [str(each["id"]) for each in cards]

    def complete(self, model: str) -> Answer:
        """One answer as a whole."""
        started = time.monotonic()
        with self._ask(model, stream=False) as response:
            body = self._whole(response, started + self._seconds)
            self._check_status(response.status_code, response.headers, body, self._path, model)
            place = _place(response.headers)
        seconds = time.monotonic() - started
        document = self._json(body, self._path)
        text = self._text(document, body, whole=True)
        return Answer(text=text, model=self._model_of(document, body), seconds=seconds, place=place)

    def stream(self, model: str) -> Answer:
        """One answer as server-sent events, to its end."""
        started = time.monotonic()
        deadline = started + self._seconds
        with self._ask(model, stream=True) as response:
            if response.status_code != 200:
                body = self._whole(response, deadline)
                self._check_status(response.status_code, response.headers, body, self._path, model)
            kind = response.headers.get("Content-Type", "none")
            if not kind.lower().startswith("text/event-stream"):
                raise Failure(
                    f"{self._path} with `stream` answers with content type {kind}, not text/event-stream",
                    "something between here and vLLM gathers the stream into one answer, or service_url leads elsewhere",
                )
            place = _place(response.headers)
            first: float | None = None
            texts: list[str] = []
            models: set[str] = set()
            finished = done = False
            for event in self._events(response, deadline):
                if event == "[DONE]":
                    done = True
                    break
                document = self._event(event)
                models.add(self._model_of(document, event))
                # The usage event has no choices.
                if document.get("choices") == []:
                    continue
                text = self._text(document, event, whole=False)
                if text and first is None:
                    first = time.monotonic() - started
                texts.append(text)
                finished = finished or document["choices"][0].get("finish_reason") is not None
        if not done or not finished:
            lacks = " and ".join([*([] if finished else ["finish_reason"]), *([] if done else ["[DONE]"])])
            raise Failure(
                f"the stream ends after {len(texts)} events without {lacks}",
                "the server or a proxy cut it off: look at the pods' restarts and the load balancer's timeout "
                "(`kubectl get pods`, `kubectl logs --previous`)",
            )
        if len(models) != 1:
            raise Failure(f"the stream names several models: {', '.join(sorted(models))}", _OTHER_MODEL)
        return Answer(
            text="".join(texts),
            model=models.pop(),
            seconds=time.monotonic() - started,
            first_token_seconds=first,
            place=place,
        )

    # --- requests

    @property
    def _root(self) -> str:
        """vLLM's own routes are beside `/v1`."""
        return self.url.removesuffix("/v1")

    @property
    def _path(self) -> str:
        return "/chat/completions" if self._api == "chat" else "/completions"

    def _ask(self, model: str, *, stream: bool) -> requests.Response:
        # `min_tokens` is vLLM's: a model that ends at once would pass for one that says nothing.
        body: dict[str, Any] = {"model": model, "max_tokens": MAX_TOKENS, "min_tokens": 1, "temperature": 0}
        if self._api == "chat":
            body["messages"] = [{"role": "user", "content": PROMPT}]
        else:
            body["prompt"] = PROMPT
        if stream:
            body["stream"] = True
        return self._request("POST", self.url + self._path, body)

    def _request(self, method: str, url: str, body: Mapping[str, Any] | None = None) -> requests.Response:
        try:
            # A connection for each request, as a new client has: a load balancer may send each to another pod, and a server that
            # closes an idle connection would look like one that fails.
            return requests.request(
                method,
                url,
                json=body,
                auth=self._auth,
                headers={"Accept-Encoding": "identity", "Connection": "close"},
                stream=True,
                allow_redirects=False,
                timeout=(min(_CONNECT_SECONDS, self._seconds), self._seconds),
            )
        except requests.RequestException as error:
            raise self._unreachable(error) from error

    def _pieces(self, response: requests.Response, deadline: float) -> Iterator[bytes]:
        """The body as it comes."""
        size = 0
        while True:
            try:
                piece: bytes = response.raw.read1(_PIECE_BYTES)
            except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
                raise self._broken(error, size) from error
            if not piece:
                return
            size += len(piece)
            if size > _MOST_BYTES:
                raise Failure(
                    f"answers with more than {_MOST_BYTES // 2**20} MiB where a few KiB were asked for",
                    "check that service_url leads to vLLM",
                )
            # Each single read has a time limit of its own, which a trickle never reaches.
            if time.monotonic() > deadline:
                raise self._timed_out(f"has sent {size} bytes and is not done")
            yield piece

    def _whole(self, response: requests.Response, deadline: float) -> str:
        return b"".join(self._pieces(response, deadline)).decode(errors="replace")

    def _events(self, response: requests.Response, deadline: float) -> Iterator[str]:
        """The data of each server-sent event: https://html.spec.whatwg.org/multipage/server-sent-events.html."""
        rest = b""
        data: list[str] = []
        for piece in self._pieces(response, deadline):
            # A carriage return at the end of a piece may be half of a line's end; vLLM and its proxies send none alone.
            *lines, rest = (rest + piece).replace(b"\r\n", b"\n").split(b"\n")
            for line in lines:
                text = line.decode(errors="replace")
                if not text:
                    if data:
                        yield "\n".join(data)
                    data = []
                elif text.startswith("data:"):
                    data.append(text.removeprefix("data:").removeprefix(" "))

    # --- what answers say

    def _json(self, body: str, path: str) -> dict[str, Any]:
        try:
            document = json.loads(body)
        except ValueError as error:
            raise self._malformed(path, f"it is not JSON ({error})", body) from error
        if not isinstance(document, dict):
            raise self._malformed(path, "it is JSON, but no object", body)
        return document

    def _event(self, event: str) -> dict[str, Any]:
        try:
            document = json.loads(event)
        except ValueError as error:
            raise self._malformed("an event of the stream", f"it is not JSON ({error})", event) from error
        if not isinstance(document, dict):
            raise self._malformed("an event of the stream", "it is JSON, but no object", event)
        if "error" in document:
            raise Failure(
                f"the stream breaks off with an error of the server: {self._shown(json.dumps(document['error']))}",
                _SEE_LOGS,
            )
        return document

    def _model_of(self, document: Mapping[str, Any], body: str) -> str:
        model = document.get("model")
        if not isinstance(model, str):
            raise self._malformed(self._path, "it names no model", body)
        return model

    def _text(self, document: Mapping[str, Any], body: str, *, whole: bool) -> str:
        """Of the first choice; of a stream's event that brings none it is empty."""
        try:
            choice = document["choices"][0]
            if self._api == "completions":
                text, where = choice["text"], "choices[0].text"
            elif whole:
                text, where = choice["message"]["content"], "choices[0].message.content"
            else:
                text, where = choice["delta"].get("content"), "choices[0].delta"
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise self._malformed(self._path, f"it is no answer of this kind ({type(error).__name__}: {error})", body) from error
        if text is None:
            return ""
        if not isinstance(text, str):
            raise self._malformed(self._path, f"its {where} is no text", body)
        return text

    # --- failures

    def _check_status(self, status: int, headers: Mapping[str, str], body: str, path: str, model: str | None = None) -> None:
        """Raises for every status but 200."""
        if status == 200:
            return
        said = self._shown(body)
        answer = f"{path} answers {status}" + (f": {said}" if said else "")
        if 300 <= status < 400:
            raise Failure(
                f"{path} answers {status} and points to {self._shown(headers.get('Location', 'nowhere'))}",
                "give that address by --url, if it is yours; redirects are not followed",
            )
        if status == 401:
            if self._key:
                raise Failure(
                    f"{path} answers 401: the server refuses the API key of {KEY_VARIABLE}",
                    f"put the key of this very stack into {KEY_VARIABLE}; after a rotation the pods need the new one, too",
                )
            raise Failure(
                f"{path} answers 401: the server wants an API key, and the variable {KEY_VARIABLE} is not set",
                f"export {KEY_VARIABLE} with the server's key (never on a command line)",
            )
        if status == 403:
            raise Failure(answer, "something before the server keeps you out: a proxy, a firewall or a gateway's policy")
        if status == 404:
            if model is not None and "does not exist" in body:
                raise Failure(f"{path}: the server has no model {model}: {said}", _OTHER_MODEL)
            raise Failure(answer, "there is no such route: service_url should be vLLM's base URL, ending in /v1")
        if status == 400 and "template" in body:
            raise Failure(answer, "the model has no chat template: `--api completions` asks it without one")
        if status == 429:
            after = headers.get("Retry-After")
            raise NotYet(
                answer,
                f"too many requests: try again{f' in {self._shown(after)} s' if after else ''}, or raise the limit",
            )
        if status >= 500:
            raise NotYet(answer, _SEE_LOGS)
        raise Failure(answer, "the server does not take the request: see its message, and the pods' logs")

    def _unreachable(self, error: requests.RequestException) -> Failure:
        parts = urlsplit(self.url)
        place = f"{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}"
        causes = list(_causes(error))
        for cause in causes:
            if isinstance(cause, requests.exceptions.ProxyError):
                return Failure(
                    f"the proxy of HTTP_PROXY or HTTPS_PROXY gives no way to {place}",
                    f"mend the variable, or put {parts.hostname} into NO_PROXY",
                )
            if isinstance(cause, socket.gaierror):
                temporary = cause.errno == socket.EAI_AGAIN
                kind = NotYet if temporary else Failure
                return kind(
                    f"the name {parts.hostname} has no address ({cause.strerror})",
                    "the name server does not answer: try again" if temporary else "check the URL and its DNS record",
                )
            if isinstance(cause, requests.exceptions.SSLError):
                return Failure(
                    f"{place} does not speak TLS as https needs it ({type(cause).__name__})",
                    "use http:// if the load balancer has no certificate, else mend the certificate",
                )
            if isinstance(cause, OSError) and cause.errno == errno.ECONNREFUSED:
                return NotYet(
                    f"{place} refuses the connection",
                    "nothing listens there: `kubectl get service,endpoints` shows whether a pod is ready, and "
                    "`pulumi stack output service_url` the address",
                )
            if isinstance(cause, OSError) and cause.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH):
                return NotYet(f"there is no way to {place} ({cause.strerror})", "check this machine's network and VPN")
        if isinstance(error, requests.exceptions.ConnectTimeout):
            return NotYet(
                f"{place} does not take the connection within {min(_CONNECT_SECONDS, self._seconds):g} s",
                "a firewall or loadBalancerSourceRanges may leave this machine out; a new load balancer takes minutes",
            )
        if isinstance(error, requests.exceptions.ReadTimeout):
            return self._timed_out("has not begun to answer")
        if isinstance(error, requests.exceptions.ConnectionError):
            return NotYet(
                f"{place} takes the connection and closes it without an answer",
                "a pod ended meanwhile, or the port is not HTTP: `kubectl get pods` shows restarts",
            )
        return Failure(f"the request cannot be sent ({type(error).__name__})", "check the URL")

    def _broken(self, error: Exception, size: int) -> Failure:
        if any(isinstance(each, (TimeoutError, urllib3.exceptions.ReadTimeoutError)) for each in _causes(error)):
            return self._timed_out(f"has sent {size} bytes and then no more")
        return Failure(
            f"the connection breaks off in the middle of the answer, after {size} bytes",
            "a pod ended or a proxy gave up: look at the pods' restarts (`kubectl get pods`, `kubectl logs --previous`)",
        )

    def _timed_out(self, what: str) -> Failure:
        return NotYet(
            f"the server {what} after {self._seconds:g} s",
            "it hangs or is overloaded: see its logs and vllm:num_requests_waiting of /metrics; --request-timeout allows more",
        )

    def _malformed(self, where: str, why: str, body: str) -> Failure:
        what = where if where.startswith("an event") else f"the answer of {where}"
        return Failure(
            f"{what} is malformed: {why}: {self._shown(body) or '(empty)'}",
            "check that service_url leads to vLLM and not to another program's page",
        )

    def _shown(self, text: str) -> str:
        """The beginning of what a server says, on one line, without the key and without control characters."""
        if self._key:
            text = text.replace(self._key, "[key]")
        line = "".join(each if each.isprintable() else " " for each in " ".join(text.split()))
        return line if len(line) <= _SHOWN_CHARACTERS else line[: _SHOWN_CHARACTERS - 3] + "..."


_OTHER_MODEL = "pods of an older update may still serve (`kubectl rollout status deployment/vllm`), or the URL is another stack's"
_SEE_LOGS = "see why in the pods' logs: `kubectl logs --selector app=vllm --all-containers --tail 50`"


class _Bearer(AuthBase):
    """The key or nothing; being set, it keeps requests from sending what ~/.netrc has for the host."""

    def __init__(self, key: str) -> None:
        self._key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._key:
            request.headers["Authorization"] = f"Bearer {self._key}"
        return request


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The exception and all that it was made of."""
    todo: list[BaseException] = [error]
    seen: set[int] = set()
    while todo:
        each = todo.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        inner = [each.__cause__, each.__context__, getattr(each, "reason", None), *each.args]
        todo += [one for one in inner if isinstance(one, BaseException)]


def _place(headers: Mapping[str, str]) -> dict[str, str]:
    """Pod, node and pool, as the sandbox's stand-in tells them; vLLM itself tells nobody."""
    found = {name: headers.get(f"X-Sandbox-{name}") for name in ("pod", "node", "pool")}
    return {name: value for name, value in found.items() if value}
