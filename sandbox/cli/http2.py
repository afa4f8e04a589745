"""HTTP/2 for `requests`: a transport adapter on httpx, so that a client of the service asks many things on one connection.

Left out: everything that `requests` does above its transport, and HTTP/2 without TLS.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import requests
from requests.adapters import BaseAdapter
from requests.structures import CaseInsensitiveDict

#: An HTTP/2 connection has none of these.
_OF_HTTP1 = ("connection", "content-length", "host")


class _Body:
    """What the client of the service reads of a response's `raw`."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self._pieces: Iterator[bytes] = response.iter_raw()

    def read1(self, _: int) -> bytes:
        """The next piece; empty at the end. Raises `requests.ConnectionError`."""
        try:
            return next(self._pieces, b"")
        except httpx.HTTPError as error:
            raise requests.ConnectionError(error) from error

    def close(self) -> None:
        self._response.close()


class Http2Adapter(BaseAdapter):
    """To be mounted for `https://`; thread-safe. `verify` is a file of certificates."""

    def __init__(self, verify: str) -> None:
        super().__init__()
        context = ssl.create_default_context(cafile=verify)
        self._client = httpx.Client(http1=False, http2=True, verify=context, trust_env=False)

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """Raises `requests.ConnectionError`."""
        connect, read = timeout
        headers = {key: value for key, value in request.headers.items() if key.lower() not in _OF_HTTP1}
        asked = self._client.build_request(
            str(request.method), str(request.url), headers=headers, content=request.body, timeout=httpx.Timeout(read, connect=connect)
        )
        try:
            answer = self._client.send(asked, stream=True)
        except httpx.HTTPError as error:
            raise requests.ConnectionError(error) from error
        response = requests.Response()
        response.status_code, response.headers = answer.status_code, CaseInsensitiveDict(answer.headers)
        response.reason, response.request, response.url = answer.reason_phrase, request, str(request.url)
        response.raw = _Body(answer)
        return response

    def close(self) -> None:
        self._client.close()
