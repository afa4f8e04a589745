"""Google's APIs through Google's own clients: credentials, bounded calls, and their errors in the words of `calls`.

The request and response shapes are those of the discovery documents that google-api-python-client ships. Not used: the libraries of
the google-cloud family, since their protobuf messages and those in Pulumi's SDK exclude each other in one process (google.rpc.Status).
"""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import google.auth
import google_auth_httplib2
import httplib2
import requests
from google.auth import exceptions as auth_exceptions
from google.auth.transport.requests import Request
from googleapiclient import discovery
from googleapiclient.errors import HttpError

from ops.preflight.calls import CallFailed, Patience, Reason, reason_of, retry_after

#: The `service` of a failure that came before any server was asked.
NO_CREDENTIALS = "google.auth.default"

SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)

#: Client -> its API, version, and what its paths begin with (`servicePath` of its discovery document).
APIS: Mapping[str, tuple[str, str, str]] = {
    "artifactregistry": ("artifactregistry", "v1", ""),
    "cloudbilling": ("cloudbilling", "v1", ""),
    "cloudresourcemanager": ("cloudresourcemanager", "v3", ""),
    "compute": ("compute", "v1", "compute/v1/"),
    "container": ("container", "v1", ""),
    "iam": ("iam", "v1", ""),
    "secretmanager": ("secretmanager", "v1", ""),
    "serviceusage": ("serviceusage", "v1", ""),
    # Quotas are in no later version.
    "quotas": ("serviceusage", "v1beta1", ""),
}

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
    """Clients for one project; safe to use from several threads once `authenticate` has been called."""

    def __init__(self, project: str, *, patience: Patience, endpoint: str = "") -> None:
        """`endpoint`: asked instead of `https://HOST`, as `ENDPOINT/HOST`; for tests."""
        self._project = project
        self._patience = patience
        self._endpoint = endpoint.rstrip("/")
        self._credentials: Any = None
        self._identity = Identity(kind="", member="MEMBER")
        self._asked = threading.Event()

    def authenticate(self) -> Identity:
        """Finds Application Default Credentials and gets a token with them. Raises `CallFailed`."""
        try:
            return self._authenticate()
        finally:
            self._asked.set()

    def _authenticate(self) -> Identity:
        try:
            credentials, _ = google.auth.default(scopes=list(SCOPES))
        except auth_exceptions.GoogleAuthError as error:
            raise CallFailed("credentials", NO_CREDENTIALS, _one_line(error)) from error
        if hasattr(credentials, "refresh_token") and not getattr(credentials, "quota_project_id", None):
            # A person's credentials belong to gcloud's own project, in which most APIs refuse to be asked.
            credentials = credentials.with_quota_project(self._project)
        self._patience.call(lambda: _refresh(credentials, self._patience.request_seconds))
        self._credentials, self._identity = credentials, _identity(credentials)
        return self._identity

    def member(self) -> str:
        """Who asks, as IAM calls them; a placeholder where the credentials do not say."""
        return self._identity.member

    def wait_for_token(self) -> str:
        """An access token, for Google's image registries, once `authenticate` has been through. Raises `CallFailed`."""
        self._asked.wait(timeout=self._patience.attempts * self._patience.request_seconds)
        if self._credentials is None:
            raise CallFailed("credentials", NO_CREDENTIALS, "there are none")
        return str(self._credentials.token)

    def call(self, api: str, request: Callable[[Any], Any]) -> dict[str, Any]:
        """The answer to the request that `request` makes of the API's client. Raises `CallFailed`."""
        host = f"{APIS[api][0]}.googleapis.com"
        prepared = request(self._service(api))
        return self._patience.call(lambda: self._execute(host, prepared))

    def pages(self, api: str, collection: Callable[[Any], Any], first: Callable[[Any], Any]) -> Iterator[dict[str, Any]]:
        """Every page of a list: `collection` gives the client's collection, `first` makes its first request."""
        resource = collection(self._service(api))
        request = first(resource)
        following = getattr(resource, request.methodId.rpartition(".")[2] + "_next")
        while request is not None:
            answer = self._patience.call(partial(self._execute, f"{APIS[api][0]}.googleapis.com", request))
            yield answer
            request = following(request, answer)

    def _service(self, api: str) -> Any:
        return _client(api, self._endpoint)

    def _execute(self, host: str, request: Any) -> dict[str, Any]:
        # httplib2 is not thread-safe, so each request has its own.
        transport = google_auth_httplib2.AuthorizedHttp(self._credentials, http=httplib2.Http(timeout=self._patience.request_seconds))
        try:
            answer = request.execute(http=transport, num_retries=0)
        except HttpError as error:
            raise http_failure(host, error.resp.status, error.content, error.resp.get("retry-after")) from error
        except auth_exceptions.GoogleAuthError as error:
            raise _auth_failure(error) from error
        except TimeoutError as error:
            raise _timed_out(host, self._patience) from error
        except (OSError, httplib2.HttpLib2Error, http.client.HTTPException) as error:
            raise CallFailed("connection", host, _connection(error)) from error
        except ValueError as error:
            raise CallFailed("malformed", host, _one_line(error)) from error
        finally:
            transport.close()
        if isinstance(answer, str):
            # What the client makes of a body that it cannot decode.
            raise CallFailed("malformed", host, "the answer is not JSON")
        if not isinstance(answer, dict):
            raise CallFailed("malformed", host, f"the answer is {type(answer).__name__}, not an object")
        return answer


@cache
def _client(api: str, endpoint: str) -> Any:
    """Holds no connection and no credentials: each request is given its own."""
    name, version, path = APIS[api]
    options = {"api_endpoint": f"{endpoint}/{name}.googleapis.com/{path}"} if endpoint else None
    return discovery.build(name, version, http=httplib2.Http(), static_discovery=True, client_options=options)


def http_failure(host: str, status: int, body: bytes, after: str | None) -> CallFailed:
    """An error answer of Google's, of either of the two shapes that its APIs use."""
    message, reasons, service = f"HTTP {status}", [], host
    try:
        error = json.loads(body)["error"]
        message = str(error["message"])
        reasons += [str(each.get("reason", "")) for each in error.get("errors", [])]
        for detail in error.get("details", []):
            reasons.append(str(detail.get("reason", "")))
            service = detail.get("metadata", {}).get("service", service)
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    reason = next((_REASONS[each] for each in reasons if each in _REASONS), reason_of(status))
    return CallFailed(reason, host, message, status=status, retry_after=retry_after(after), api=service)


def _refresh(credentials: Any, seconds: float) -> None:
    def bounded(*args: Any, **options: Any) -> Any:
        return request(*args, **{**options, "timeout": seconds})

    try:
        with requests.Session() as session:
            request = Request(session=session)
            credentials.refresh(bounded)
    except auth_exceptions.GoogleAuthError as error:
        raise _auth_failure(error) from error
    except requests.RequestException as error:
        raise CallFailed("connection", "google.auth", _connection(error)) from error
    except ValueError as error:
        raise CallFailed("malformed", "google.auth", _one_line(error)) from error


def _auth_failure(error: auth_exceptions.GoogleAuthError) -> CallFailed:
    if isinstance(error, auth_exceptions.TransportError):
        return CallFailed("connection", "google.auth", _one_line(error))
    if isinstance(error, auth_exceptions.RefreshError) and error.retryable:
        return CallFailed("server-error", "google.auth", _one_line(error))
    return CallFailed("credentials", "google.auth", _one_line(error))


def _identity(credentials: Any) -> Identity:
    email = getattr(credentials, "service_account_email", None)
    kind = type(credentials).__module__.rpartition(".")[2].strip("_")
    if email and "@" in str(email):
        return Identity(kind=f"service account {email}", member=f"serviceAccount:{email}")
    if hasattr(credentials, "refresh_token"):
        return Identity(kind="a person's credentials", member="user:YOUR_EMAIL")
    return Identity(kind=f"credentials of type {kind}", member="MEMBER")


def _timed_out(host: str, patience: Patience) -> CallFailed:
    return CallFailed("timeout", host, f"no answer within {patience.request_seconds:g} s, tried {patience.attempts} times")


def _connection(error: BaseException) -> str:
    return f"the connection failed or was dropped ({_one_line(error) or type(error).__name__})"


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
