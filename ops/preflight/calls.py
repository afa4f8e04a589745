"""Bounded HTTP calls to other people's servers, with what can go wrong in one vocabulary.

Shared by Google's APIs, image registries and Hugging Face. urllib3 tries again what may pass by itself. No redirect is followed: whether
an answer is one is the caller's to read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import MaxRetryError, ReadTimeoutError
from urllib3.util import Retry

Reason = Literal[
    "credentials",  # none, expired or refused
    "disabled",  # the API is off in the project
    "denied",  # 403
    "not-found",  # 404
    "throttled",  # 429, also after trying again
    "server-error",  # 5xx, also after trying again
    "timeout",
    "connection",  # refused, dropped, unresolved
    "malformed",  # an answer that is not what the documentation says
    "refused",  # any other 4xx
]

ATTEMPTS = 4

#: HTTP statuses that may pass by themselves.
_RETRIED = (408, 429, 500, 502, 503, 504)


class CallFailed(Exception):
    """A call gave no answer. `message` is the server's own where there is one; `api` names the API that is off (`disabled`)."""

    def __init__(self, reason: Reason, service: str, message: str, *, api: str = "") -> None:
        super().__init__(f"{service}: {message}")
        self.reason: Reason = reason
        #: Host or API that was asked.
        self.service = service
        self.message = message
        self.api = api


class Web:
    """`request_seconds` bounds one attempt; `endpoint` is asked instead of `https://HOST`, as `ENDPOINT/HOST`, for tests."""

    def __init__(self, *, request_seconds: float = 10.0, endpoint: str = "") -> None:
        self.request_seconds = request_seconds
        self._endpoint = endpoint.rstrip("/")

    def url(self, host: str, path: str) -> str:
        return f"{self._endpoint}/{host}{path}" if self._endpoint else f"https://{host}{path}"

    def request(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, params: Mapping[str, str] | None = None
    ) -> requests.Response:
        """The answer, whatever its status but 408, 429 and 5xx. Raises `CallFailed`."""
        response = self.send(method, url, headers=headers, params=params)
        status = response.status_code
        if status in (408, 429) or status >= 500:
            message = "too many requests (HTTP 429)" if status == 429 else f"HTTP {status}"
            raise CallFailed(reason_of(status), urlsplit(url).netloc, message)
        return response

    def send(self, method: str, url: str, **options: Any) -> requests.Response:
        """The answer, whatever its status. `options` are those of `requests.request`. Raises `CallFailed`."""
        try:
            with requests.Session() as session:
                session.mount("http://", _adapter())
                session.mount("https://", _adapter())
                # A ~/.netrc must not replace the Authorization header.
                session.auth = lambda prepared: prepared
                return session.request(method, url, timeout=self.request_seconds, allow_redirects=False, **options)
        except requests.RequestException as error:
            raise self._failure(urlsplit(url).netloc, error) from error

    def _failure(self, host: str, error: requests.RequestException) -> CallFailed:
        cause = error.args[0].reason if error.args and isinstance(error.args[0], MaxRetryError) else None
        if isinstance(error, requests.Timeout) or isinstance(cause, ReadTimeoutError):
            return CallFailed("timeout", host, f"no answer within {self.request_seconds:g} s, tried {ATTEMPTS} times")
        # The error's own text holds the URL and no header.
        return CallFailed("connection", host, f"the connection failed or was dropped ({type(cause or error).__name__})")


def reason_of(status: int) -> Reason:
    """What an HTTP status of 400 or more means by itself."""
    known: dict[int, Reason] = {401: "credentials", 403: "denied", 404: "not-found", 408: "timeout", 429: "throttled"}
    return known.get(status) or ("server-error" if status >= 500 else "refused")


def _adapter() -> HTTPAdapter:
    """Pauses of 0, 2 and 4 s, or what a server asks for in Retry-After, at most 10 s; every request of preflight only reads."""
    retry = Retry(
        total=ATTEMPTS - 1, backoff_factor=1, status_forcelist=_RETRIED, allowed_methods=None, raise_on_status=False, retry_after_max=10
    )
    return HTTPAdapter(max_retries=retry)
