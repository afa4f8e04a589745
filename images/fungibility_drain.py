"""Moves clients that keep their connections open to another replica while this one drains.

The server imports the class by its argument `--middleware=fungibility_drain.CloseWhileDraining`, which vLLM has had since 0.6.4 or
earlier. After SIGTERM vLLM still listens, answers every new request with 500 and closes no connection, and a load balancer that
passes connections through keeps each where it is. So the pod has to close them itself, and before SIGTERM. A load balancer that
goes by its own health check (a gateway's) is told by /health, which says 503: a pod that ends with its node stays among the
balancer's endpoints until then.

Each request costs one look for a file in a folder that is kept in memory. The class keeps no state between requests, so it does not
matter in which of several server processes it runs. Left out: WebSockets; connections whose last answer began before the pod
drained, which the server closes after five idle seconds, for which fungibility-drain waits; and connections on which nothing was
ever asked, which no timer of uvicorn's closes: their first request gets 500 if it comes after SIGTERM.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]


class CloseWhileDraining:
    """ASGI middleware: every answer that begins while the file exists closes its connection, and /health is not well."""

    def __init__(self, app: Callable[[_Message, _Receive, _Send], Awaitable[None]]) -> None:
        self._app = app
        # Set by fungibility-entrypoint, written by fungibility-drain; unset if no folder could be written.
        self._file = os.environ.get("FUNGIBILITY_DRAINING_FILE", "")

    async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        async def answer(message: _Message) -> None:
            if message["type"] == "http.response.start" and os.path.exists(self._file):
                message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
                if scope["path"] == "/health":
                    message["status"] = 503
            await send(message)

        await self._app(scope, receive, answer if scope["type"] == "http" else send)
