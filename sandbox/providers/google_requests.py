"""Requests to Google's APIs as terraform-provider-google sends them: retried, given up and reported as there, on the sandbox's
clock. There is no HTTP behind them; each is a point where `sandbox.google.faults` may have a faulty answer for it.

Sources: hashicorp/terraform-provider-google at e03b7622, which pulumi-gcp bridges: google/transport/retry_transport.go (every
request is tried again after 0.5, 0.5, 1, 1.5, 2.5, ... s until the 120 s of config.go's synchronousTimeout are over),
error_retry_predicates.go (what is tried again: 429, 500, 502, 503, broken connections, timeouts, and of the 409s only those that say
`operationInProgress`), retry_utils.go and transport.go (SendRequest starts anew for 5 minutes, container clusters' creation for 1),
google/tpgresource/common_operation.go and google/services/container/container_operation.go (operations are polled every
10 s), google/tpgiamresource/iam.go (a 409 for an IAM policy repeats the whole read-modify-write until its pause passes 30 s).
The push: moby/moby distribution/xfer/upload.go and distribution/errors.go (5 tries, pauses of 5, 10, 15, 20 s; a broken connection and
an error of the registry are tried again; 401, and from Docker 20.10 on 429, are not).

Left out: the 404s that new service accounts and operations cause for a while, batching of IAM and service requests, quota errors in
403, and 400 `failedPrecondition`, of which `sandbox.cloud` has none to give.
"""

import secrets
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sandbox.google.access_tokens import PREFIX, REVOKED, AccessTokens
from sandbox.google.faults import CLOUD, FaultStore, Rule
from sandbox.google.latencies import Clock

#: Seconds of Google's, see the sources above.
_ROUND_TRIP_SECONDS = 120.0
_SEND_SECONDS = 300.0
_IAM_SECONDS = 30.0
_PUSH_PAUSES = (5.0, 10.0, 15.0, 20.0)

#: After which the provider gives up waiting for an answer and sends the request again.
_ANSWER_SECONDS = _ROUND_TRIP_SECONDS

#: How often an operation that takes minutes is asked after; and how often in a row the whole patience of a request may be used up.
_POLLS = 12
_POLL_PATIENCE = 20

#: terraform-provider-google#10510 and hashicorp/terraform#29006 quote it.
_NOT_YET = (
    "API has not been used in project 123456789012 before or it is disabled. Enable it, then retry. If you enabled this API recently, "
    "wait a few minutes for the action to propagate to our systems and retry."
)

_TEXTS = {
    "403": f"googleapi: Error 403: Google's {_NOT_YET}, accessNotConfigured",
    "409": "googleapi: Error 409: The operation was aborted., aborted",
    "429": "googleapi: Error 429: Quota exceeded for quota metric 'Requests' and limit 'Requests per minute' of service., "
    "rateLimitExceeded",
    "500": "googleapi: Error 500: Internal error encountered., backendError",
    "503": "googleapi: Error 503: The service is currently unavailable., backendError",
    "dropped": "read tcp: connection reset by peer",
    "lost": "read tcp: connection reset by peer",
    "slow": "context deadline exceeded (Client.Timeout exceeded while awaiting headers)",
}
_IAM_CONFLICT = (
    "googleapi: Error 409: There were concurrent policy changes. Please retry the whole read-modify-write with exponential "
    "backoff., aborted"
)
_PUSH_TEXTS = {
    "403": f"denied: Artifact Registry {_NOT_YET}",
    "429": "toomanyrequests: Quota exceeded for quota metric 'Requests per project per region'",
    "500": "unknown: Internal error encountered.",
    "503": "received unexpected HTTP status: 503 Service Unavailable",
    "dropped": "write tcp: connection reset by peer",
}
#: What the push does not try again: docker's errcode for 429, and an answer that is not a registry's error.
_PUSH_FINAL = frozenset({"403", "429", "503"})

_T = TypeVar("_T")


class RequestError(Exception):
    """What the provider gives up with, in its words; `answer` is the fault's name."""

    def __init__(self, message: str, *, answer: str = "") -> None:
        super().__init__(message)
        self.answer = answer


class UnreadError(RequestError):
    """The change is made, and what it made could not be read: the provider keeps the resource and says that it failed."""

    def __init__(self, message: str, *, result: Any) -> None:
        super().__init__(message)
        self.result = result


@dataclass(frozen=True, kw_only=True)
class GoogleRequests:
    """What the providers of one daemon share. Every method blocks, and may be called from any thread."""

    #: Without them every answer is a true one, and a token any text.
    faults: FaultStore | None = None
    tokens: AccessTokens | None = None
    clock: Clock = field(default_factory=lambda: Clock(1.0))

    def write(
        self,
        request: str,
        run: Callable[[], _T],
        *,
        cancelled: threading.Event,
        iam: bool = False,
        long: bool = False,
        read_back: bool = True,
    ) -> _T:
        """A request that changes something, then, where it is `long`, its operation's polls, and the read of what there is now.

        `run` is what Google does. Raises `RequestError` when the provider gives up, `UnreadError` when only the last read failed.
        """
        send = self._iam if iam else self._send
        result = send(request, run, writes=True, cancelled=cancelled)
        for _ in range(_POLLS if long else 0):
            self._poll(request, cancelled)
        if not read_back:
            return result
        try:
            self._send(f"read after {request}", lambda: None, writes=False, cancelled=cancelled)
        except RequestError as error:
            raise UnreadError(str(error), result=result) from None
        return result

    def read(self, request: str, run: Callable[[], _T], *, cancelled: threading.Event) -> _T:
        return self._send(request, run, writes=False, cancelled=cancelled)

    def access_token(self, cancelled: threading.Event) -> str:
        """A fresh token. Raises `RequestError`, with the words for logging in again where that is the matter."""
        give = self.tokens.give if self.tokens else lambda: f"{PREFIX}-{secrets.token_urlsafe(24)}"
        return self._send("getClientConfig token", give, writes=False, cancelled=cancelled)

    def push(self, image: str, token: str | None, run: Callable[[], _T], *, cancelled: threading.Event) -> _T:
        """Docker's push of what is built already, by `run`. `token`: the registry password, where the program gives one."""
        for pause in (*_PUSH_PAUSES, None):
            if self.tokens and token is not None and token.startswith(PREFIX) and not self.tokens.valid(token):
                raise RequestError(
                    "unauthorized: authentication failed: the access token of registry.password has expired or was revoked. "
                    "Run `pulumi up` again, which asks for a new one; if it stays, log in: `gcloud auth application-default "
                    "login`"
                )
            rule = self._draw(f"push {image}", writes=False)
            if rule is None:
                return run()
            if rule.answer == "slow":
                if cancelled.wait(self.clock.scaled(rule.seconds)):
                    break
                return run()
            text = _PUSH_TEXTS.get(rule.answer, _PUSH_TEXTS["500"])
            if pause is None or rule.answer in _PUSH_FINAL:
                raise RequestError(text, answer=rule.answer)
            if cancelled.wait(self.clock.scaled(pause)):
                break
        raise RequestError("the push was cancelled")

    # --- the provider's layers, innermost last

    def _iam(self, request: str, run: Callable[[], _T], *, writes: bool, cancelled: threading.Event) -> _T:
        pause = 1.0
        while True:
            try:
                return self._send(request, run, writes=writes, cancelled=cancelled)
            except RequestError as error:
                if error.answer != "409":
                    raise
            if cancelled.wait(self.clock.scaled(pause)):
                raise RequestError("the request was cancelled")
            pause *= 2
            if pause > _IAM_SECONDS:
                raise RequestError(
                    f"Error applying IAM policy to {request}: Too many conflicts.  Latest error: {_IAM_CONFLICT}", answer="409"
                )

    def _send(self, request: str, run: Callable[[], _T], *, writes: bool, cancelled: threading.Event) -> _T:
        spent = 0.0
        while True:
            for pause in _pauses():
                self._require_login()
                rule = self._draw(request, writes=writes)
                if rule is None or (rule.answer == "slow" and rule.seconds < _ANSWER_SECONDS):
                    if rule is not None:
                        self._sleep(rule.seconds, cancelled)
                    return run()
                spent += self._answered(rule, run, cancelled) + pause
                if spent >= _SEND_SECONDS:
                    raise RequestError(_TEXTS[rule.answer], answer=rule.answer)
                self._sleep(pause, cancelled)

    def _poll(self, request: str, cancelled: threading.Event) -> None:
        for patience in range(_POLL_PATIENCE, -1, -1):
            try:
                return self._send(f"operation of {request}", lambda: None, writes=False, cancelled=cancelled)
            except RequestError as error:
                if not patience or error.answer == "":
                    raise

    def _draw(self, request: str, *, writes: bool) -> Rule | None:
        return self.faults.draw(CLOUD, request, writes=writes) if self.faults else None

    def _require_login(self) -> None:
        """The provider has a token source, which renews an access token before it runs out: only the login behind it can end."""
        if self.tokens and self.tokens.login.revoked:
            raise RequestError(REVOKED)

    def _answered(self, rule: Rule, run: Callable[[], object], cancelled: threading.Event) -> float:
        """What a faulty answer costs in seconds of Google's. Raises `RequestError` for one that is not tried again."""
        if rule.answer in ("403", "409"):
            raise RequestError(_TEXTS[rule.answer], answer=rule.answer)
        if rule.answer == "lost":
            run()
        if rule.answer == "slow":
            self._sleep(_ANSWER_SECONDS, cancelled)
            return _ANSWER_SECONDS
        return 0.0

    def _sleep(self, seconds: float, cancelled: threading.Event) -> None:
        if cancelled.wait(self.clock.scaled(seconds)):
            raise RequestError("the request was cancelled")


def _pauses() -> Iterator[float]:
    """Between the tries of one round trip: Fibonacci's, until its time is over."""
    spent, pause, following = 0.0, 0.5, 0.5
    while spent + pause < _ROUND_TRIP_SECONDS:
        yield pause
        spent += pause
        pause, following = pause + following, pause
    yield _ROUND_TRIP_SECONDS - spent
