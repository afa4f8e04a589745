"""A local server that answers as Google, Docker Hub and Hugging Face do, for the tests of `preflight`.

Google's requests and answers are checked against the discovery documents that google-api-python-client ships: path, method, path and
query parameters, and every field of both bodies. A request that a document does not allow is answered 400 and noted in
`violations`; an answer that a document does not allow raises in the test that set it.
"""

from __future__ import annotations

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

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
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
    "certificatemanager.v1",
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


class Violation(Exception):
    """A request that the API's description does not allow."""


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
    message = f"{api} has not been used in project 123 before or it is disabled."
    return api_error(403, message, reason="SERVICE_DISABLED", service=f"{api}.googleapis.com", consumer="projects/123")


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
        self.reset()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: Any) -> None:
                pass

            def do_GET(self) -> None:
                server._serve(self)

            do_POST = do_HEAD = do_GET

        http = _Http(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{http.server_address[1]}"
        threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def reset(self) -> None:
        #: `compute.regions.get` (API and method id) or `HEAD registry-1.docker.io/v2/...` -> answer.
        self.answers: dict[str, Answer] = {}
        self.seen: list[Seen] = []
        self.violations: list[str] = []

    def set(self, method: str, answer: Answer) -> None:
        """Checks the answer's shape at once. Raises `AssertionError` naming the field that the document does not know."""
        for each in answer if isinstance(answer, list) else [answer]:
            _check_answer(method, each)
        self.answers[method] = answer

    def requests(self, method: str) -> list[Seen]:
        return [each for each in self.seen if each.method == method]

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        url = urllib.parse.urlsplit(handler.path)
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        headers = {key.lower(): value for key, value in handler.headers.items()}
        _, host, rest = url.path.split("/", 2)
        query = urllib.parse.parse_qsl(url.query, keep_blank_values=True)
        answer: Any
        try:
            if host == "token":
                answer = self.answers.get("token", {"access_token": ACCESS_TOKEN, "expires_in": 3599, "token_type": "Bearer"})
            elif host.endswith(".googleapis.com"):
                answer = self._answer(_google(handler.command, host, rest, query, body, headers))
            else:
                answer = self._answer(Seen(method=f"{handler.command} {host}/{rest}", params=dict(query), body=None, headers=headers))
        except (Violation, AssertionError) as error:
            self.violations.append(f"{handler.command} {handler.path}: {error}")
            answer = api_error(400, str(error))
        _send(handler, Fault(body=json.dumps(answer).encode()) if isinstance(answer, dict) else answer)

    def _answer(self, seen: Seen) -> dict[str, Any] | Fault:
        self.seen.append(seen)
        answer: Any = self.answers.get(seen.method, Fault(status=500, body=f"the test set no answer for {seen.method}".encode()))
        if isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        found: dict[str, Any] | Fault = answer(seen) if callable(answer) else answer
        _check_answer(seen.method, found)
        return found


def _send(handler: BaseHTTPRequestHandler, fault: Fault) -> None:
    time.sleep(fault.delay)
    if fault.drop:
        handler.close_connection = True
        handler.connection.close()
        return
    try:
        handler.send_response(fault.status)
        for key, value in {"Content-Type": "application/json", **fault.headers, "Content-Length": str(len(fault.body))}.items():
            handler.send_header(key, value)
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(fault.body)
    except OSError:
        handler.close_connection = True


def credentials_file(folder: Path, server: PreflightServer) -> Path:
    """A service account's key, whose tokens the server gives."""
    path = folder / "key.json"
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private_key = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()
    named = {"type": "service_account", "project_id": "my-project", "private_key_id": "1", "client_email": ACCOUNT, "client_id": "1"}
    path.write_text(json.dumps({**named, "private_key": private_key, "token_uri": f"{server.url}/token/"}))
    return path


# --- what Google's own descriptions allow


@cache
def _methods(api: str) -> list[tuple[str, re.Pattern[str], dict[str, Any]]]:
    """Every method: the document that has it (versions of one API are documents of their own), its path, and its description."""
    found = []
    for name in (each for each in DOCUMENTS if each.partition(".")[0] == api):
        document = json.loads((_DOCUMENTS / f"{name}.json").read_text())
        todo = [document]
        while todo:
            resource = todo.pop()
            todo += resource.get("resources", {}).values()
            for method in resource.get("methods", {}).values():
                method["parameters"] = {**document["parameters"], **method.get("parameters", {})}
                found.append((name, _pattern(document["servicePath"] + method["path"], method["parameters"]), method))
    return found


def _pattern(path: str, parameters: Mapping[str, Any]) -> re.Pattern[str]:
    def group(match: re.Match[str]) -> str:
        return f"(?P<{match[1]}>{parameters[match[1]].get('pattern', '[^/]+').strip('^$')})"

    return re.compile(re.sub(r"\{\+?(\w+)\}", group, path))


def _google(verb: str, host: str, path: str, query: list[tuple[str, str]], body: bytes, headers: dict[str, str]) -> Seen:
    """The request as a test sees it. Raises `Violation`."""
    if headers.get("authorization") != f"Bearer {ACCESS_TOKEN}":
        raise Violation("no access token, or another one")
    matches = [
        (api, match, method)
        for api, pattern, method in _methods(host.removesuffix(".googleapis.com"))
        if method["httpMethod"] == verb and (match := pattern.fullmatch(path))
    ]
    if not matches:
        raise Violation(f"{host} has no such method")
    api, match, method = matches[0]
    params = {key: urllib.parse.unquote(value) for key, value in match.groupdict().items()}
    for key, value in query:
        known = method["parameters"].get(key, {})
        if known.get("location") != "query" or value not in known.get("enum", [value]):
            raise Violation(f"query parameter {key}={value} is unknown")
        params[key] = f"{params[key]},{value}" if key in params else value
    if missing := {key for key, each in method["parameters"].items() if each.get("required")} - set(params):
        raise Violation(f"parameters {missing} are missing")
    sent = json.loads(body) if body else None
    if (sent is None) == ("request" in method):
        raise Violation("the method wants a body, or takes none")
    if sent is not None and (problems := discovery.problems(api, method["request"]["$ref"], sent, "body")):
        raise Violation(problems[0])
    return Seen(method=method["id"], params=params, body=sent, headers=headers)


def _check_answer(name: str, answer: Any) -> None:
    if isinstance(answer, dict) and " " not in name:
        (api, method), *_ = [(api, method) for api, _, method in _methods(name.partition(".")[0]) if method["id"] == name]
        problems = discovery.problems(api, method["response"]["$ref"], answer, name)
        assert not problems, problems[0]
