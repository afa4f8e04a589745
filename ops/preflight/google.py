"""Google's APIs by plain REST with Google's own credentials, and their errors in the words of `calls`.

Not used: the libraries of the google-cloud family, since their protobuf messages and those in Pulumi's SDK exclude each other in one
process (google.rpc.Status).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import google.auth
import requests
from google.auth import exceptions as auth_exceptions
from google.auth.transport.requests import Request

from ops.preflight.calls import ATTEMPTS, CallFailed, Reason, Web, reason_of

#: The `service` of a failure that came before any server was asked.
NO_CREDENTIALS = "google.auth.default"

SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)

#: `reason` of an error's details or of an old-style error -> what it means; else the HTTP status decides.
#: https://cloud.google.com/apis/design/errors#error_info and the `domain: usageLimits` errors of older APIs.
_REASONS: Mapping[str, Reason] = {
    "SERVICE_DISABLED": "disabled",
    "accessNotConfigured": "disabled",
    "RATE_LIMIT_EXCEEDED": "throttled",
    "rateLimitExceeded": "throttled",
    "userRateLimitExceeded": "throttled",
    "CREDENTIALS_MISSING": "credentials",
    "ACCESS_TOKEN_EXPIRED": "credentials",
}


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Who asks. `member` is what IAM calls them, with a placeholder where the credentials do not say."""

    kind: str
    member: str


class Google:
    """Calls for one project; safe to use from several threads once `authenticate` has been called."""

    def __init__(self, project: str, web: Web) -> None:
        self._project = project
        self._web = web
        self._credentials: Any = None
        self._identity = Identity(kind="", member="MEMBER")
        self._asked = threading.Event()

    def authenticate(self) -> Identity:
        """Finds Application Default Credentials and gets a token with them. Raises `CallFailed`."""
        try:
            credentials, _ = google.auth.default(scopes=list(SCOPES))
            if hasattr(credentials, "refresh_token") and not getattr(credentials, "quota_project_id", None):
                # A person's credentials belong to gcloud's own project, in which most APIs refuse to be asked.
                credentials = credentials.with_quota_project(self._project)
            self._refresh(credentials)
            self._credentials, self._identity = credentials, _identity(credentials)
            return self._identity
        except auth_exceptions.DefaultCredentialsError as error:
            raise CallFailed("credentials", NO_CREDENTIALS, _one_line(error)) from error
        finally:
            self._asked.set()

    def _refresh(self, credentials: Any) -> None:
        def bounded(*arguments: Any, **options: Any) -> Any:
            return Request()(*arguments, **{**options, "timeout": self._web.request_seconds})

        try:
            credentials.refresh(bounded)
        except auth_exceptions.GoogleAuthError as error:
            raise _auth_failure(error) from error

    def member(self) -> str:
        """Who asks, as IAM calls them; a placeholder where the credentials do not say."""
        return self._identity.member

    def wait_for_token(self) -> str:
        """An access token, for Google's image registries, once `authenticate` has been through. Raises `CallFailed`."""
        self._asked.wait(timeout=ATTEMPTS * self._web.request_seconds)
        if self._credentials is None:
            raise CallFailed("credentials", NO_CREDENTIALS, "there are none")
        return str(self._credentials.token)

    def get(self, api: str, path: str, **params: Any) -> dict[str, Any]:
        """`api` is `compute` for compute.googleapis.com; a parameter of several values is a list. Raises `CallFailed`."""
        return self._call("GET", api, path, params=params)

    def find(self, api: str, path: str) -> dict[str, Any] | None:
        """None where there is no such thing. Raises `CallFailed` for everything else that goes wrong."""
        try:
            return self.get(api, path)
        except CallFailed as failure:
            if failure.reason != "not-found":
                raise
            return None

    def post(self, api: str, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Raises `CallFailed`."""
        return self._call("POST", api, path, json=body)

    def pages(self, api: str, path: str, **params: Any) -> Iterator[dict[str, Any]]:
        """Every page of a list. Raises `CallFailed`."""
        token = ""
        while True:
            answer = self.get(api, path, **params, **({"pageToken": token} if token else {}))
            yield answer
            token = answer.get("nextPageToken", "")
            if not token:
                return

    def _call(self, method: str, api: str, path: str, **options: Any) -> dict[str, Any]:
        host = f"{api}.googleapis.com"
        headers: dict[str, str] = {}
        # The token was got a moment ago and outlives the run.
        self._credentials.apply(headers)
        response = self._web.send(method, self._web.url(host, f"/{path}"), headers=headers, **options)
        if response.status_code >= 400:
            raise _refusal(host, response)
        try:
            answer = response.json()
        except ValueError as error:
            raise CallFailed("malformed", host, "the answer is not JSON") from error
        if not isinstance(answer, dict):
            raise CallFailed("malformed", host, f"the answer is {type(answer).__name__}, not an object")
        return answer


def _refusal(host: str, response: requests.Response) -> CallFailed:
    """An error answer of Google's, in either of the two shapes that its APIs use."""
    message, reasons, service = f"HTTP {response.status_code}", [], host
    try:
        error = response.json()["error"]
        message = str(error["message"])
        reasons += [str(each.get("reason", "")) for each in error.get("errors", [])]
        for detail in error.get("details", []):
            reasons.append(str(detail.get("reason", "")))
            service = detail.get("metadata", {}).get("service", service)
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    reason = next((_REASONS[each] for each in reasons if each in _REASONS), reason_of(response.status_code))
    return CallFailed(reason, host, message, api=service)


def _auth_failure(error: auth_exceptions.GoogleAuthError) -> CallFailed:
    if isinstance(error, auth_exceptions.TransportError):
        return CallFailed("connection", "google.auth", _one_line(error))
    if isinstance(error, auth_exceptions.RefreshError) and error.retryable:
        return CallFailed("server-error", "google.auth", _one_line(error))
    return CallFailed("credentials", "google.auth", _one_line(error))


def _identity(credentials: Any) -> Identity:
    email = getattr(credentials, "service_account_email", None)
    if email and "@" in str(email):
        return Identity(kind=f"service account {email}", member=f"serviceAccount:{email}")
    if hasattr(credentials, "refresh_token"):
        return Identity(kind="a person's credentials", member="user:YOUR_EMAIL")
    kind = type(credentials).__module__.rpartition(".")[2].strip("_")
    return Identity(kind=f"credentials of type {kind}", member="MEMBER")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
