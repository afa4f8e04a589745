"""Bounded calls to other people's servers: what can go wrong, in one vocabulary, and how often one is tried again.

Shared by Google's clients and by plain HTTP (image registries, Hugging Face).
"""

from __future__ import annotations

import email.utils
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, TypeVar

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

#: What may pass by itself.
RETRIED: tuple[Reason, ...] = ("throttled", "server-error", "timeout", "connection")

Answer = TypeVar("Answer")


class CallFailed(Exception):
    """One call did not give an answer; `message` is the server's own where there is one."""

    def __init__(
        self,
        reason: Reason,
        service: str,
        message: str,
        *,
        status: int = 0,
        retry_after: float | None = None,
        api: str = "",
    ) -> None:
        super().__init__(f"{service}: {message}")
        self.reason: Reason = reason
        #: Host or API that was asked.
        self.service = service
        self.message = message
        #: HTTP status; 0 without an answer.
        self.status = status
        #: Seconds that the server asks for; None where it does not say.
        self.retry_after = retry_after
        #: With `disabled`, the API to switch on.
        self.api = api


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long one call may take in all: `attempts` requests, and the pauses between them."""

    attempts: int = 4
    #: Time-out of one request.
    request_seconds: float = 10.0
    #: Doubled with every try.
    first_pause: float = 1.0
    #: A server that asks for a longer pause is not asked again.
    longest_pause: float = 20.0
    #: Replaced in tests.
    sleep: Callable[[float], None] = field(default=time.sleep)

    def call(self, request: Callable[[], Answer]) -> Answer:
        """The answer of `request`, which raises `CallFailed`; tried again where the failure may pass by itself."""
        for attempt in range(1, self.attempts + 1):
            try:
                return request()
            except CallFailed as failure:
                pause = failure.retry_after
                if pause is None:
                    pause = min(self.first_pause * 2 ** (attempt - 1), self.longest_pause)
                if failure.reason not in RETRIED or pause > self.longest_pause or attempt == self.attempts:
                    raise
                self.sleep(pause)
        raise AssertionError("unreachable: the last attempt returns or raises")


def retry_after(value: str | None) -> float | None:
    """Seconds of a `Retry-After` header, which holds seconds or a date; None where it holds neither."""
    if not value:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        moment = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (moment - datetime.now(UTC)).total_seconds()) if moment.tzinfo else None


def reason_of(status: int) -> Reason:
    """What an HTTP status of 400 or more means by itself."""
    known: dict[int, Reason] = {401: "credentials", 403: "denied", 404: "not-found", 408: "timeout", 429: "throttled"}
    return known.get(status) or ("server-error" if status >= 500 else "refused")
