"""Plain HTTP with `requests`, for servers that are not Google's APIs: bounded, and its errors in the words of `calls`."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

import requests

from ops.preflight.calls import CallFailed, Patience, retry_after


class Web:
    """Requests that follow no redirect: whether an answer is one is the caller's to read."""

    def __init__(self, *, patience: Patience, endpoint: str = "") -> None:
        """`endpoint`: asked instead of `https://HOST`, as `ENDPOINT/HOST`; for tests."""
        self._patience = patience
        self._endpoint = endpoint.rstrip("/")

    def url(self, host: str, path: str) -> str:
        return f"{self._endpoint}/{host}{path}" if self._endpoint else f"https://{host}{path}"

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """The answer, whatever its status but 408, 429 and 5xx, which are tried again. Raises `CallFailed`."""
        return self._patience.call(lambda: self._once(method, url, dict(headers or {}), dict(params or {})))

    def _once(self, method: str, url: str, headers: dict[str, str], params: dict[str, str]) -> requests.Response:
        host = urlsplit(url).netloc
        try:
            response = requests.request(
                method,
                url,
                headers=headers,
                params=params,
                timeout=self._patience.request_seconds,
                allow_redirects=False,
                # Without an `auth` of ours a ~/.netrc would replace the Authorization header.
                auth=lambda prepared: prepared,
            )
        except requests.Timeout as error:
            raise CallFailed(
                "timeout",
                host,
                f"no answer within {self._patience.request_seconds:g} s, tried {self._patience.attempts} times",
            ) from error
        except requests.RequestException as error:
            # The error's own text holds the URL and no header.
            raise CallFailed("connection", host, f"the connection failed or was dropped ({type(error).__name__})") from error
        status = response.status_code
        if status == 429:
            raise CallFailed(
                "throttled",
                host,
                "too many requests (HTTP 429)",
                status=status,
                retry_after=retry_after(response.headers.get("Retry-After")),
            )
        if status == 408 or status >= 500:
            raise CallFailed(
                "server-error", host, f"HTTP {status}", status=status, retry_after=retry_after(response.headers.get("Retry-After"))
            )
        return response
