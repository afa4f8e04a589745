"""The page over HTTP, for one person on this machine: a token in the address, then a cookie; updates as server-sent events.

It listens on loopback alone and answers no other host name, so that a web page elsewhere can neither read it nor press a button. No request
is logged, since the first one has the token. Left out: TLS, and more than one person.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from ops.live.chat import MOST_CHARACTERS, Chat

_STATIC = Path(__file__).parent / "static"
_FILES = {"/": "page.html", "/page.css": "page.css", "/page.js": "page.js", "/icon.svg": "icon.svg"}

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}

_LOOK_SECONDS = 0.2
#: A comment that keeps the stream open, and tells the page that the server is there.
_BEAT_SECONDS = 10.0

#: What a button asks for -> the sentence that the page shows. Raises `Refused`.
Controls = Callable[[Mapping[str, Any]], str]


class Refused(Exception):
    """A button's request cannot be done; the message says why."""


class _Guard:
    """Lets only the person through who has the token."""

    def __init__(self, app: ASGIApp, token: str, port: int) -> None:
        self._app, self._token, self._port = app, token, port
        # A browser keeps cookies by host, whatever the port.
        self._cookie = f"live-{port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        await self._answer(Request(scope))(scope, receive, send)

    def _answer(self, request: Request) -> ASGIApp:
        hosts = {f"127.0.0.1:{self._port}", f"localhost:{self._port}"}
        if request.headers.get("host") not in hosts:
            return PlainTextResponse("This page answers on loopback only.", 421, _HEADERS)
        if self._is_token(request.query_params.get("token", "")):
            response = RedirectResponse("/", 303, _HEADERS)
            response.set_cookie(self._cookie, self._token, httponly=True, samesite="strict")
            return response
        if not self._is_token(request.cookies.get(self._cookie, "")):
            return PlainTextResponse("Open the whole address that the command printed: it has a token.", 403, _HEADERS)
        origin = request.headers.get("origin")
        if request.method == "POST" and (origin is None or origin.removeprefix("http://") not in hosts):
            return PlainTextResponse("Only the page itself may ask that.", 403, _HEADERS)
        return self._app

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self._token.encode())


class LiveServer:
    """Listens from construction on, on a free port unless `port` is given; answers while `run` runs."""

    def __init__(
        self, document: Callable[[], dict[str, Any]], chat: Chat, about: Mapping[str, Any], controls: Controls | None = None, port: int = 0
    ) -> None:
        """`document`: the latest view, with a `version`; `about` is what never changes of it: `title`, `service` and `note`."""
        self._document, self._chat, self._controls = document, chat, controls
        self._about = {**about, "controls": controls is not None}
        self._token = secrets.token_urlsafe(24)
        self._socket = socket.create_server(("127.0.0.1", port))
        self.port: int = self._socket.getsockname()[1]
        routes = [Route(path, self._file) for path in _FILES]
        routes += [Route("/events", self._events), Route("/ask", self._ask, methods=["POST"]), Route("/do", self._do, methods=["POST"])]
        self.app: ASGIApp = _Guard(Starlette(routes=routes), self._token, self.port)
        self._server = uvicorn.Server(
            uvicorn.Config(self.app, access_log=False, log_level="warning", server_header=False, timeout_graceful_shutdown=1)
        )

    @property
    def url(self) -> str:
        """Secret: it has the token."""
        return f"http://127.0.0.1:{self.port}/?token={self._token}"

    def run(self) -> None:
        """Until SIGINT or SIGTERM."""
        with contextlib.suppress(KeyboardInterrupt):
            self._server.run(sockets=[self._socket])

    def stop(self) -> None:
        self._server.should_exit = True

    async def _file(self, request: Request) -> Response:
        return FileResponse(_STATIC / _FILES[request.url.path], headers=_HEADERS)

    async def _events(self, request: Request) -> Response:
        async def documents() -> AsyncIterator[str]:
            shown, silent = 0, 0.0
            while not self._server.should_exit:
                document = self._document()
                if document and document["version"] != shown:
                    shown, silent = document["version"], 0.0
                    yield f"data: {json.dumps({**self._about, **document})}\n\n"
                elif silent >= _BEAT_SECONDS:
                    silent = 0.0
                    yield ": there\n\n"
                silent += _LOOK_SECONDS
                await asyncio.sleep(_LOOK_SECONDS)

        return StreamingResponse(documents(), media_type="text/event-stream", headers=_HEADERS)

    async def _ask(self, request: Request) -> Response:
        question = (await _body(request)).get("question")
        if not isinstance(question, str) or not 0 < len(question.strip()) <= MOST_CHARACTERS:
            return _said(f"a question has 1 to {MOST_CHARACTERS} characters", 400)
        return JSONResponse(await run_in_threadpool(self._chat.ask, question), headers=_HEADERS)

    async def _do(self, request: Request) -> Response:
        if self._controls is None:
            return _said("this page only shows", 404)
        try:
            return JSONResponse({"done": await run_in_threadpool(self._controls, await _body(request))}, headers=_HEADERS)
        except Refused as refused:
            return _said(str(refused), 409)


async def _body(request: Request) -> dict[str, Any]:
    try:
        body = json.loads(await request.body())
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _said(problem: str, status: int) -> Response:
    return JSONResponse({"problem": problem}, status, _HEADERS)
