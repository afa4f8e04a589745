"""A local server that answers as Google, Docker Hub and Hugging Face do, for the tests of `preflight`.

Google's requests and answers are checked against the discovery documents that google-api-python-client ships: path, method, path and
query parameters, and every field of both bodies. A request that a document does not allow is answered 400 and noted in
`violations`; an answer that a document does not allow raises in the test that set it.
"""

from __future__ import annotations

import base64
import json
import re
import threading
import time
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from googleapiclient import discovery_cache

from sandbox.providers import discovery

ACCOUNT = "deployer@my-project.iam.gserviceaccount.com"
ACCESS_TOKEN = "ya29.an-access-token-that-nobody-may-see"
REFRESH_TOKEN = "1//a-refresh-token-that-nobody-may-see"
HF_TOKEN = "hf_a-token-that-nobody-may-see"
DIGEST = "sha256:" + "5" * 64

#: The discovery documents of the APIs that preflight asks; quotas are in no later version of Service Usage's.
DOCUMENTS = (
    "artifactregistry.v1",
    "cloudbilling.v1",
    "cloudresourcemanager.v3",
    "compute.v1",
    "container.v1",
    "iam.v1",
    "secretmanager.v1",
    "serviceusage.v1",
    "serviceusage.v1beta1",
)
_DOCUMENTS = Path(discovery_cache.__file__).parent / "documents"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """An answer that is not an answer."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    #: Seconds before the answer.
    delay: float = 0.0
    #: Ends the connection without a word.
    drop: bool = False


def api_error(status: int, message: str, *, reason: str = "", **metadata: str) -> Fault:
    """The error shape of Google's newer APIs, with ErrorInfo: https://cloud.google.com/apis/design/errors"""
    names = {400: "INVALID_ARGUMENT", 403: "PERMISSION_DENIED", 404: "NOT_FOUND", 429: "RESOURCE_EXHAUSTED"}
    error: dict[str, Any] = {"code": status, "message": message, "status": names.get(status, "INTERNAL")}
    if reason:
        error["details"] = [
            {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": "googleapis.com", "metadata": metadata}
        ]
    return Fault(status=status, body=json.dumps({"error": error}).encode())


def old_error(status: int, message: str, reason: str) -> Fault:
    """The error shape of Compute Engine's and other older APIs."""
    error = {"code": status, "message": message, "errors": [{"message": message, "domain": "usageLimits", "reason": reason}]}
    return Fault(status=status, body=json.dumps({"error": error}).encode())


def disabled(api: str) -> Fault:
    service = f"{api}.googleapis.com"
    return api_error(
        403,
        f"{api} has not been used in project 123 before or it is disabled.",
        reason="SERVICE_DISABLED",
        service=service,
        consumer="projects/123",
    )


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One request: `params` of path and query, `headers` in lower case."""

    method: str
    params: dict[str, str]
    body: Any
    headers: dict[str, str]


#: What a test sets for a method: a body, a fault, several of them in turn (the last stays), or a function of the request.
Answer = dict[str, Any] | Fault | list[Any] | Callable[[Seen], Any]


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    #: All checks come at once; of connections beyond five (the standard library's number) the kernel drops some, and the client
    #: tries again after a second.
    request_queue_size = 128


class PreflightServer:
    """`url` is what `--endpoint` takes. Hosts are the first part of a path."""

    def __init__(self) -> None:
        #: `compute.regions.get` (API and method id) or `HEAD registry-1.docker.io/v2/...` -> answer.
        self.answers: dict[str, Answer] = {}
        self.seen: list[Seen] = []
        self.violations: list[str] = []
        self._lock = threading.Lock()
        self._server = _Http(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def reset(self) -> None:
        self.answers, self.seen, self.violations = {}, [], []

    def set(self, method: str, answer: Answer) -> None:
        """Checks the answer's shape at once. Raises `AssertionError` naming the field that the document does not know."""
        for each in answer if isinstance(answer, list) else [answer]:
            if isinstance(each, dict):
                _check_answer(method, each)
        self.answers[method] = answer

    def requests(self, method: str) -> list[Seen]:
        return [each for each in self.seen if each.method == method]

    def _answer(self, method: str, params: dict[str, str], body: Any, headers: dict[str, str]) -> dict[str, Any] | Fault:
        seen = Seen(method=method, params=params, body=body, headers=headers)
        with self._lock:
            self.seen.append(seen)
            answer = self.answers.get(method)
            if isinstance(answer, list):
                answer = answer.pop(0) if len(answer) > 1 else answer[0]
        if callable(answer):
            answer = answer(seen)
        if answer is None:
            return Fault(status=500, body=f"the test set no answer for {method}".encode())
        if isinstance(answer, dict):
            _check_answer(method, answer)
        return answer

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: Any) -> None:
                pass

            def _serve(self) -> None:
                path, _, query = self.path.partition("?")
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                _, host, rest = path.split("/", 2)
                headers = {key.lower(): value for key, value in self.headers.items()}
                answer: dict[str, Any] | Fault
                try:
                    if host == "token":
                        answer = server._token(body)
                    elif host.endswith(".googleapis.com"):
                        answer = server._google(self.command, host, rest, query, body, headers)
                    else:
                        params = dict(urllib.parse.parse_qsl(query))
                        answer = server._answer(f"{self.command} {host}/{rest}", params, None, headers)
                except Violation as violation:
                    server.violations.append(f"{self.command} {self.path}: {violation}")
                    answer = api_error(400, str(violation))
                except AssertionError as error:
                    server.violations.append(f"answer to {self.command} {self.path}: {error}")
                    answer = Fault(status=500, body=str(error).encode())
                self._send(answer)

            def _send(self, answer: dict[str, Any] | Fault) -> None:
                fault = Fault(body=json.dumps(answer).encode()) if isinstance(answer, dict) else answer
                time.sleep(fault.delay)
                if fault.drop:
                    self.close_connection = True
                    self.connection.close()
                    return
                try:
                    self.send_response(fault.status)
                    for key, value in {"Content-Type": "application/json", **fault.headers}.items():
                        self.send_header(key, value)
                    self.send_header("Content-Length", str(len(fault.body)))
                    self.end_headers()
                    if self.command != "HEAD":
                        self.wfile.write(fault.body)
                except OSError:
                    self.close_connection = True

            do_GET = do_POST = do_HEAD = do_PUT = do_PATCH = do_DELETE = _serve

        return Handler

    def _token(self, body: bytes) -> dict[str, Any] | Fault:
        """A person's refresh token, or the JWT grant of a service account: https://developers.google.com/identity/protocols/oauth2/service-account"""
        form = dict(urllib.parse.parse_qsl(body.decode()))
        answer = self.answers.get("token", {"access_token": ACCESS_TOKEN, "expires_in": 3599, "token_type": "Bearer"})
        if form.get("grant_type") == "refresh_token" and form["refresh_token"] == REFRESH_TOKEN:
            return answer  # type: ignore[return-value]  # the tests set a body or a fault
        if form.get("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer":
            raise Violation(f"grant_type {form.get('grant_type')}")
        signed, _, signature = form["assertion"].rpartition(".")
        _key().public_key().verify(_unpadded(signature), signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        claims = json.loads(_unpadded(signed.partition(".")[2]))
        if claims["iss"] != ACCOUNT or "cloud-platform" not in claims["scope"]:
            raise Violation(f"claims {claims}")
        return answer  # type: ignore[return-value]  # the tests set a body or a fault

    def _google(self, verb: str, host: str, path: str, query: str, body: bytes, headers: dict[str, str]) -> dict[str, Any] | Fault:
        if headers.get("authorization") != f"Bearer {ACCESS_TOKEN}":
            raise Violation("no access token, or another one")
        api = host.removesuffix(".googleapis.com")
        client, method, params = _find(api, verb, path)
        values = urllib.parse.parse_qsl(query, keep_blank_values=True)
        _check_query(client, method, values)
        sent = json.loads(body) if body else None
        if "request" in method:
            if not isinstance(sent, dict):
                raise Violation("the method wants a body")
            if problems := discovery.problems(client, method["request"]["$ref"], sent, "body"):
                raise Violation(problems[0])
        elif sent is not None:
            raise Violation("the method takes no body")
        for key, value in values:
            params[key] = f"{params[key]},{value}" if key in params else value
        return self._answer(method["id"], params, sent, headers)


class Violation(Exception):
    """A request that the API's description does not allow."""


def credentials_file(folder: Path, server: PreflightServer) -> Path:
    """A service account's key, whose tokens the server gives."""
    path = folder / "key.json"
    private_key = _key().private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    document = {
        "type": "service_account",
        "project_id": "my-project",
        "private_key_id": "1",
        "private_key": private_key.decode(),
        "client_email": ACCOUNT,
        "client_id": "1",
        "token_uri": f"{server.url}/token/",
    }
    path.write_text(json.dumps(document))
    return path


@cache
def _key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _unpadded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@cache
def _document(api: str) -> dict[str, Any]:
    return dict(json.loads((_DOCUMENTS / f"{api}.json").read_text()))


@cache
def _methods(api: str) -> dict[str, dict[str, Any]]:
    """Every method of the document by its id."""
    found: dict[str, dict[str, Any]] = {}

    def walk(resources: Mapping[str, Any]) -> None:
        for each in resources.values():
            for method in each.get("methods", {}).values():
                found[method["id"]] = method
            walk(each.get("resources", {}))

    walk(_document(api)["resources"])
    return found


@cache
def _routes(api: str) -> list[tuple[str, re.Pattern[str], dict[str, Any]]]:
    document = _document(api)
    routes = []
    for method in _methods(api).values():
        pattern = re.escape(document["servicePath"] + method["path"])
        # `{name}` is one part of a path, `{+name}` may be several.
        pattern = re.sub(r"\\\{\\\+(\w+)\\\}", r"(?P<\1>.+)", pattern)
        pattern = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", pattern)
        routes.append((method["httpMethod"], re.compile(pattern), method))
    return routes


def _clients(api: str) -> list[str]:
    """Versions of one API are clients of their own."""
    return [document for document in DOCUMENTS if document.partition(".")[0] == api]


def _find(api: str, verb: str, path: str) -> tuple[str, dict[str, Any], dict[str, str]]:
    for client, (wanted, pattern, method) in [(each, route) for each in _clients(api) for route in _routes(each)]:
        match = pattern.fullmatch(path)
        if wanted != verb or match is None:
            continue
        params = match.groupdict()
        if all(re.fullmatch(method["parameters"][key].get("pattern", ".*"), value) for key, value in params.items()):
            return client, method, {key: urllib.parse.unquote(value) for key, value in params.items()}
    raise Violation(f"{api} has no such method")


def _check_query(api: str, method: Mapping[str, Any], values: list[tuple[str, str]]) -> None:
    known = {**_document(api)["parameters"], **method.get("parameters", {})}
    for key, value in values:
        if known.get(key, {}).get("location") != "query" or value not in known[key].get("enum", [value]):
            raise Violation(f"query parameter {key}={value} is unknown")
    required = {key for key, each in method.get("parameters", {}).items() if each.get("required") and each["location"] == "query"}
    if missing := required - {key for key, _ in values}:
        raise Violation(f"query parameters {missing} are missing")


def _check_answer(method: str, answer: dict[str, Any]) -> None:
    api = method.partition(".")[0]
    if " " in method or not _clients(api):
        return
    found = [client for client in _clients(api) if method in _methods(client)]
    assert found, f"{method} is not a method of {api}"
    problems = discovery.problems(found[0], _methods(found[0])[method]["response"]["$ref"], answer, method)
    assert not problems, problems[0]
