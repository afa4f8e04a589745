"""The project's client of an OpenAI-compatible service: each method returns an answer or raises `Failure`.

Used by the smoke test, and by the sandbox's `chat` and `traffic`. An API key goes only to the address that is asked: no redirect is
followed, and no credential is taken from ~/.netrc. What a server says is repeated in messages in part, never with the key in it. Not the
package `openai`: it hides what tells one fault from another (which of several causes broke a connection, how much of an answer came), and
it repeats requests by itself. Left out: TLS client certificates, and compressed answers (none is asked for).
"""

from __future__ import annotations

import errno
import json
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

import requests
import urllib3
from requests.auth import AuthBase

#: Not OPENAI_API_KEY: where that is set it holds a key of OpenAI's, which is not to be sent to another server.
KEY_VARIABLE = "VLLM_API_KEY"

#: Which of OpenAI's two ways to ask. A model without a chat template knows only `completions`.
Api = Literal["chat", "completions"]
APIS: tuple[Api, ...] = ("chat", "completions")

_CONNECT_SECONDS = 10.0
_PIECE_BYTES = 65536
#: No answer to these questions is larger; what is, is not vLLM's.
_MOST_BYTES = 4 * 1024 * 1024
_SHOWN_CHARACTERS = 160

_OTHER_MODEL = "pods of an older update may still serve (`kubectl rollout status deployment/vllm`), or the URL is another stack's"
_SEE_LOGS = "see why in the pods' logs: `kubectl logs --selector app=vllm --all-containers --tail 50`"
_SEE_RESTARTS = "a pod ended or a proxy gave up: look at the pods' restarts (`kubectl get pods`, `kubectl logs --previous`)"
_NOT_VLLM = "check that service_url leads to vLLM and not to another program's page"

#: HTTP status -> what to do; others have more to be said about them.
_FIXES = {
    400: "the server does not take the request: see its message, and the pods' logs",
    403: "something before the server keeps you out: a proxy, a firewall or a gateway's policy",
    404: "there is no such route: service_url should be vLLM's base URL, ending in /v1, with a gateway's host name as it is",
}


class Failure(Exception):
    """`str` is the cause, as a statement about the service; `fix` is what a person can do about it."""

    def __init__(self, cause: str, fix: str, *, kind: str = "", begun: bool = False) -> None:
        super().__init__(cause)
        self.fix = fix
        #: One word or two for statistics: `HTTP 503`, or the name of the innermost error.
        self.kind = kind or cause
        #: Whether a part of an answer had come.
        self.begun = begun


class NotYet(Failure):
    """A failure that is usual while a service comes up, so that waiting may be enough."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Times are in seconds from the request; pod, node and pool are what the sandbox's stand-in says of itself in headers."""

    text: str
    model: str
    finish_reason: str | None
    seconds: float
    #: For a stream alone.
    first_token_seconds: float | None = None
    pod: str = ""
    node: str = ""
    pool: str = ""


class Service:
    """`url` is the base URL of an OpenAI client; `seconds` is how long one request may take."""

    def __init__(self, url: str, *, seconds: float, key: str = "", api: Api = "chat", session: requests.Session | None = None) -> None:
        """`session`: keeps its connections open. Without one each request has a connection of its own, as a new client has, so that a
        load balancer may send each to another pod, and an idle connection that a server closed does not look like a fault.
        """
        self.url = url.rstrip("/")
        self._seconds = seconds
        self._key = key
        self._api: Api = api
        self._session = session

    # --- the questions

    def health(self) -> None:
        """Raises `NotYet` where waiting may help."""
        # vLLM's own routes are beside `/v1`.
        self._get(self.url.removesuffix("/v1"), "/health")

    def metrics(self) -> str:
        """What the server publishes for Prometheus."""
        return self._get(self.url.removesuffix("/v1"), "/metrics")

    def models(self) -> dict[str, dict[str, Any]]:
        """Each name that the server serves, and what it says of that model (vLLM: `root` and `max_model_len` among others)."""
        body = self._get(self.url, "/models")
        cards = self._object(body, "/models").get("data")
        if not isinstance(cards, list) or not all(isinstance(each, dict) and "id" in each for each in cards):
            raise self._malformed("/models", "its `data` is not a list of models", body)
        return {str(each["id"]): each for each in cards}

    def ask(self, model: str, prompt: str, *, stream: bool = False, **options: Any) -> Answer:
        """One answer, as a whole or by server-sent events to their end. `options` are further fields of the request."""
        question = {"messages": [{"role": "user", "content": prompt}]} if self._api == "chat" else {"prompt": prompt}
        started = time.monotonic()
        deadline = started + self._seconds
        with self._request("POST", self.url + self._path, {"model": model, "stream": stream, **question, **options}) as response:
            if not stream or response.status_code != 200:
                body = self._whole(response, deadline)
                self._check_status(response, body, self._path, model)
                return self._answer(response, [self._object(body, self._path)], started)
            kind = response.headers.get("Content-Type", "none")
            if not kind.lower().startswith("text/event-stream"):
                raise Failure(
                    f"{self._path} with `stream` answers with content type {kind}, not text/event-stream",
                    "something between here and vLLM gathers the stream into one answer, or service_url leads elsewhere",
                )
            return self._streamed(response, started, deadline)

    def _streamed(self, response: requests.Response, started: float, deadline: float) -> Answer:
        documents: list[dict[str, Any]] = []
        first: float | None = None
        done = False
        for event in self._events(response, deadline):
            if event == "[DONE]":
                done = True
                if self._session is None:
                    break
                # A connection is kept only when all of the answer was read.
                continue
            document = self._object(event, "an event of the stream")
            if "error" in document:
                cause = f"the stream breaks off with an error of the server: {self._shown(json.dumps(document['error']))}"
                raise Failure(cause, _SEE_LOGS, begun=True)
            # The usage event has no choices.
            if document.get("choices") != []:
                documents.append(document)
                if first is None and self._text(document, whole=False):
                    first = time.monotonic() - started
        answer = self._answer(response, documents, started, first, whole=False)
        if not done or answer.finish_reason is None:
            lacks = " and ".join([*(["finish_reason"] if answer.finish_reason is None else []), *([] if done else ["[DONE]"])])
            cause = f"the stream ends after {len(documents)} events without {lacks}"
            raise Failure(cause, f"{_SEE_RESTARTS}, and at the load balancer's timeout", kind="incomplete", begun=True)
        return answer

    def _answer(
        self,
        response: requests.Response,
        documents: list[dict[str, Any]],
        started: float,
        first: float | None = None,
        *,
        whole: bool = True,
    ) -> Answer:
        models = {self._model_of(document) for document in documents}
        if len(models) > 1:
            raise Failure(f"the stream names several models: {', '.join(sorted(models))}", _OTHER_MODEL, begun=True)
        text = "".join(self._text(document, whole=whole) for document in documents)
        reasons = [document["choices"][0].get("finish_reason") for document in documents]
        return Answer(
            text=text,
            model=next(iter(models), ""),
            finish_reason=next(filter(None, reasons), None),
            seconds=time.monotonic() - started,
            first_token_seconds=first,
            **_place(response.headers),
        )

    # --- requests

    @property
    def _path(self) -> str:
        return "/chat/completions" if self._api == "chat" else "/completions"

    def _get(self, base: str, path: str) -> str:
        with self._request("GET", base + path) as response:
            body = self._whole(response, time.monotonic() + self._seconds)
            self._check_status(response, body, path)
        return body

    def _request(self, method: str, url: str, body: Mapping[str, Any] | None = None) -> requests.Response:
        connection = {} if self._session else {"Connection": "close"}
        try:
            return (self._session or requests).request(
                method,
                url,
                json=body,
                auth=_Bearer(self._key),
                headers={"Accept-Encoding": "identity", **connection},
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
                raise Failure(f"answers with more than {_MOST_BYTES // 2**20} MiB where a few KiB were asked for", _NOT_VLLM)
            # Each single read has a time limit of its own, which a trickle never reaches.
            if time.monotonic() > deadline:
                raise self._timed_out(f"has sent {size} bytes and is not done", begun=True)
            yield piece

    def _whole(self, response: requests.Response, deadline: float) -> str:
        return b"".join(self._pieces(response, deadline)).decode(errors="replace")

    def _events(self, response: requests.Response, deadline: float) -> Iterator[str]:
        """The data of each server-sent event: https://html.spec.whatwg.org/multipage/server-sent-events.html. vLLM's have one line."""
        rest = b""
        for piece in self._pieces(response, deadline):
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                if line.startswith(b"data:"):
                    yield line.removeprefix(b"data:").strip().decode(errors="replace")

    # --- what answers say

    def _object(self, body: str, where: str) -> dict[str, Any]:
        try:
            document = json.loads(body)
        except ValueError as error:
            raise self._malformed(where, f"it is not JSON ({error})", body) from error
        if not isinstance(document, dict):
            raise self._malformed(where, "it is JSON, but not an object", body)
        return document

    def _model_of(self, document: Mapping[str, Any]) -> str:
        model = document.get("model")
        if not isinstance(model, str):
            raise self._malformed(self._path, "it names no model", json.dumps(document))
        return model

    def _text(self, document: Mapping[str, Any], *, whole: bool) -> str:
        """The first choice's; empty for a stream's event that brings none."""
        try:
            choice = document["choices"][0]
            if self._api == "completions":
                text = choice["text"]
            else:
                text = choice["message"]["content"] if whole else choice["delta"].get("content")
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            reason = f"it is not an answer of this kind ({type(error).__name__}: {error})"
            raise self._malformed(self._path, reason, json.dumps(document)) from error
        if not isinstance(text, str | None):
            raise self._malformed(self._path, "the text of its first choice is not a text", json.dumps(document))
        return text or ""

    # --- failures

    def _check_status(self, response: requests.Response, body: str, path: str, model: str | None = None) -> None:
        """Raises for every status but 200."""
        status, headers = response.status_code, response.headers
        if status == 200:
            return
        said = self._shown(body)
        cause, fix = f"{path} answers {status}" + (f": {said}" if said else ""), _FIXES.get(status, _FIXES[400])
        if 300 <= status < 400:
            cause = f"{path} answers {status} and points to {self._shown(headers.get('Location', 'nowhere'))}"
            fix = "give that address by --url, if it is yours; redirects are not followed"
        elif status == 401 and self._key:
            cause = f"{path} answers 401: the server refuses the API key of {KEY_VARIABLE}"
            fix = f"put the key of this very stack into {KEY_VARIABLE}; after a rotation the pods need the new one, too"
        elif status == 401:
            cause = f"{path} answers 401: the server wants an API key, and the variable {KEY_VARIABLE} is not set"
            fix = f"export {KEY_VARIABLE} with the server's key (never on a command line)"
        elif status == 404 and model is not None and "does not exist" in body:
            cause, fix = f"{path}: the server has no model {model}: {said}", _OTHER_MODEL
        elif status == 400 and "template" in body:
            fix = "the model has no chat template: `--api completions` asks it without one"
        elif status == 429:
            after = headers.get("Retry-After")
            fix = f"too many requests: try again{f' in {self._shown(after)} s' if after else ''}, or raise the limit"
        elif status == 503 and "cannot accept new requests" in body:
            fix = "the server has as many requests as it may (`maxQueuedRequests`): try again, or raise `replicas` or that limit"
        elif status >= 500:
            fix = _SEE_LOGS
        raise (NotYet if status == 429 or status >= 500 else Failure)(cause, fix, kind=f"HTTP {status}")

    def _unreachable(self, error: requests.RequestException) -> Failure:
        parts = urlsplit(self.url)
        host, port = parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
        place, causes = f"{host}:{port}", list(_causes(error))
        kind = type(causes[-1]).__name__

        def found(wanted: Callable[[BaseException], bool]) -> Any:
            return next(filter(wanted, causes), None)

        def is_os(*numbers: int) -> Callable[[BaseException], bool]:
            return lambda cause: isinstance(cause, OSError) and cause.errno in numbers

        if found(lambda cause: isinstance(cause, requests.exceptions.ProxyError)):
            fix = f"correct the variable, or put {host} into NO_PROXY"
            return Failure(f"the proxy of HTTP_PROXY or HTTPS_PROXY gives no way to {place}", fix, kind=kind)
        if cause := found(lambda cause: isinstance(cause, socket.gaierror)):
            temporary = cause.errno == socket.EAI_AGAIN
            fix = (
                "the name server does not answer: try again"
                if temporary
                else "check the URL and its DNS record (`pulumi stack output dns_records`)"
            )
            return (NotYet if temporary else Failure)(f"the name {host} has no address ({cause.strerror})", fix, kind=kind)
        if cause := found(lambda cause: isinstance(cause, requests.exceptions.SSLError)):
            if refused := found(lambda cause: isinstance(cause, ssl.SSLCertVerificationError)):
                fix = "call the service by the name that its certificate is for (gateway.hostName), or correct the certificate"
                return Failure(f"the certificate of {place} is not one to trust: {refused.verify_message}", fix, kind=kind)
            fix = "`make preflight` says whether a gateway's certificate is issued; without a gateway, use http://"
            return Failure(f"{place} does not speak TLS as https needs it ({type(cause).__name__})", fix, kind=kind)
        if found(is_os(errno.ECONNREFUSED)):
            fix = "nothing listens there: `kubectl get service,endpoints` shows whether a pod is ready, and "
            fix += "`pulumi stack output service_url` the address"
            return NotYet(f"{place} refuses the connection", fix, kind=kind)
        if cause := found(is_os(errno.EHOSTUNREACH, errno.ENETUNREACH)):
            return NotYet(f"there is no way to {place} ({cause.strerror})", "check this machine's network and VPN", kind=kind)
        if isinstance(error, requests.exceptions.ConnectTimeout):
            fix = "a firewall or loadBalancerSourceRanges may leave this machine out; a new load balancer takes minutes"
            seconds = min(_CONNECT_SECONDS, self._seconds)
            return NotYet(f"{place} does not take the connection within {seconds:g} s", fix, kind=kind)
        if isinstance(error, requests.exceptions.ReadTimeout):
            return self._timed_out("has not begun to answer")
        if isinstance(error, requests.exceptions.ConnectionError):
            fix = "a pod ended meanwhile, or the port is not HTTP: `kubectl get pods` shows restarts"
            return NotYet(f"{place} takes the connection and closes it without an answer", fix, kind=kind)
        return Failure(f"the request cannot be sent ({type(error).__name__})", "check the URL", kind=kind)

    def _broken(self, error: Exception, size: int) -> Failure:
        causes = list(_causes(error))
        if any(isinstance(each, (TimeoutError, urllib3.exceptions.ReadTimeoutError)) for each in causes):
            return self._timed_out(f"has sent {size} bytes and then no more", begun=True)
        cause = f"the connection breaks off in the middle of the answer, after {size} bytes"
        return Failure(cause, _SEE_RESTARTS, kind=type(causes[-1]).__name__, begun=True)

    def _timed_out(self, what: str, *, begun: bool = False) -> Failure:
        fix = "it hangs or is overloaded: see its logs and vllm:num_requests_waiting of /metrics; --request-timeout allows more"
        return NotYet(f"the server {what} after {self._seconds:g} s", fix, kind="timeout", begun=begun)

    def _malformed(self, where: str, why: str, body: str) -> Failure:
        what = where if where.startswith("an event") else f"the answer of {where}"
        return Failure(f"{what} is malformed: {why}: {self._shown(body) or '(empty)'}", _NOT_VLLM, kind="malformed", begun=True)

    def _shown(self, text: str) -> str:
        """The beginning of what a server says, on one line, without the key and without control characters."""
        if self._key:
            text = text.replace(self._key, "[key]")
        line = "".join(each if each.isprintable() else " " for each in " ".join(text.split()))
        return line if len(line) <= _SHOWN_CHARACTERS else line[: _SHOWN_CHARACTERS - 3] + "..."


class _Bearer(AuthBase):
    """The key or nothing; being set, it keeps requests from sending what ~/.netrc has for the host."""

    def __init__(self, key: str) -> None:
        self._key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._key:
            request.headers["Authorization"] = f"Bearer {self._key}"
        return request


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The exception and all that it was made of, the innermost last."""
    todo: list[BaseException] = [error]
    seen: set[int] = set()
    while todo:
        each = todo.pop(0)
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        inner = [each.__cause__, each.__context__, getattr(each, "reason", None), *each.args]
        todo += [one for one in inner if isinstance(one, BaseException)]


def _place(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: headers.get(f"X-Sandbox-{name}", "") for name in ("pod", "node", "pool")}
