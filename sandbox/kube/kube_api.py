"""The Kubernetes API as plain dictionaries, for what plays a part of a cluster here: requests, and watches that last.

The official client makes the connections and knows who we are; its models are left out, because a kubelet's stand-in
writes objects whole and reads a few fields of many. A watch here outlives restarts of the API server.
"""

import contextlib
import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlencode

import urllib3
from kubernetes import client

logger = logging.getLogger(__name__)

Object = dict[str, Any]

STRATEGIC_MERGE = "application/strategic-merge-patch+json"
MERGE = "application/merge-patch+json"

_REQUEST_SECONDS = (5.0, 30.0)

#: The server ends a watch after this; a dead connection is noticed a little later.
_WATCH_SECONDS = 300
_WATCH_READ_SECONDS = (5.0, _WATCH_SECONDS + 30.0)

_FIRST_RETRY_SECONDS = 0.1
_LAST_RETRY_SECONDS = 3.0


class ApiError(Exception):
    """The API server refused a request: `status` is the HTTP status, the text its message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class KubeApi:
    """Blocking and thread-safe. Requests raise `ApiError`, or `urllib3.exceptions.HTTPError` without an answer."""

    def __init__(self, api_client: client.ApiClient) -> None:
        self._client = api_client

    def get(self, path: str, query: Mapping[str, str] | None = None) -> Object:
        return self._call("GET", path, query=query)

    def create(self, path: str, body: Object) -> Object:
        return self._call("POST", path, body=body)

    def patch(self, path: str, body: Object, content_type: str = MERGE) -> Object:
        return self._call("PATCH", path, body=body, content_type=content_type)

    def delete(self, path: str, body: Object) -> Object:
        return self._call("DELETE", path, body=body)

    def open_watch(self, path: str, query: Mapping[str, str]) -> urllib3.BaseHTTPResponse:
        """The raw response of a watch, one JSON document a line."""
        return self._send("GET", path, query=query, timeout=_WATCH_READ_SECONDS)

    def _call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Object | None = None,
        content_type: str = "application/json",
    ) -> Object:
        response = self._send(method, path, query=query, body=body, content_type=content_type)
        try:
            answer = json.loads(response.read())
        finally:
            response.release_conn()
        return answer if isinstance(answer, dict) else {}

    def _send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Object | None = None,
        content_type: str = "application/json",
        timeout: tuple[float, float] = _REQUEST_SECONDS,
    ) -> urllib3.BaseHTTPResponse:
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = content_type
        self._client.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
        url = self._client.configuration.host + path + (f"?{urlencode(query)}" if query else "")
        response: urllib3.BaseHTTPResponse = self._client.rest_client.pool_manager.request(
            method,
            url,
            body=None if body is None else json.dumps(body).encode(),
            headers=headers,
            timeout=urllib3.Timeout(connect=timeout[0], read=timeout[1]),
            # Only the caller knows what may be sent again.
            retries=False,
            preload_content=False,
        )
        if response.status >= 400:
            text = response.read().decode(errors="replace")
            response.release_conn()
            try:
                message = str(json.loads(text).get("message") or text)
            except (ValueError, AttributeError):
                message = text
            raise ApiError(response.status, message.strip() or f"status {response.status}")
        return response


class Watcher:
    """Follows a collection in a thread of its own: `on_sync` with all objects of each list, `on_event` for each change.

    Events are those of the API, ADDED, MODIFIED and DELETED. A connection that breaks is taken up where it was; only
    when the server has forgotten that place is everything listed again.
    """

    def __init__(
        self,
        api: KubeApi,
        path: str,
        *,
        on_sync: Callable[[list[Object]], None],
        on_event: Callable[[str, Object], None],
        query: Mapping[str, str] | None = None,
    ) -> None:
        self._api = api
        self._path = path
        self._query = dict(query or {})
        self._on_sync = on_sync
        self._on_event = on_event
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._response: urllib3.BaseHTTPResponse | None = None
        self._thread = threading.Thread(target=self._run, name=f"watch {path.rsplit('/', 1)[-1]}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        with self._lock:
            if self._response is not None:
                _hang_up(self._response)
        self._thread.join(timeout=5)

    def _run(self) -> None:
        version: str | None = None
        delay = _FIRST_RETRY_SECONDS
        while not self._stopping.is_set():
            try:
                if version is None:
                    version = self._list()
                for reached in self._follow(version):
                    version, delay = reached, _FIRST_RETRY_SECONDS
            except ApiError as error:
                # 410: the place in the history is forgotten; anything else may be too.
                version = None
                if error.status != 410:
                    logger.warning("watch of %s: %s (%d)", self._path, error, error.status)
            except (urllib3.exceptions.HTTPError, OSError, ValueError, AttributeError) as error:
                # AttributeError: urllib3 when the connection is hung up while it reads.
                if not self._stopping.is_set():
                    logger.info("watch of %s broke off, goes on in %.1f s: %s", self._path, delay, error)
            except Exception:
                logger.exception("watch of %s: an event could not be handled, lists again", self._path)
                version = None
            if self._stopping.wait(delay):
                return
            delay = min(delay * 2, _LAST_RETRY_SECONDS)

    def _list(self) -> str:
        answer = self._api.get(self._path, self._query)
        self._on_sync(list(answer.get("items") or []))
        return str(answer["metadata"]["resourceVersion"])

    def _follow(self, version: str) -> Iterator[str]:
        query = {
            **self._query,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(_WATCH_SECONDS),
        }
        response = self._api.open_watch(self._path, query)
        with self._lock:
            self._response = response
            if self._stopping.is_set():
                _hang_up(response)
        try:
            pending = b""
            for chunk in response.stream(1 << 16, decode_content=False):
                *lines, pending = (pending + chunk).split(b"\n")
                for line in lines:
                    if line and not self._stopping.is_set():
                        yield self._handle(json.loads(line))
        finally:
            with self._lock:
                self._response = None
            response.close()

    def _handle(self, event: Object) -> str:
        obj = event["object"]
        if event["type"] == "ERROR":
            raise ApiError(int(obj.get("code") or 500), str(obj.get("message") or "the watch failed"))
        if event["type"] != "BOOKMARK":
            self._on_event(event["type"], obj)
        return str(obj["metadata"]["resourceVersion"])


class Mirror:
    """A collection as last seen. `changed` is set with every change, and when it was listed for the first time."""

    def __init__(self, api: KubeApi, path: str, changed: threading.Event, query: Mapping[str, str] | None = None) -> None:
        self._changed = changed
        self._lock = threading.Lock()
        self._objects: dict[tuple[str, str], Object] | None = None
        self._watcher = Watcher(api, path, query=query, on_sync=self._synced, on_event=self._event)
        self.start, self.stop = self._watcher.start, self._watcher.stop

    def objects(self) -> dict[tuple[str, str], Object] | None:
        """By namespace and name; None until they were listed."""
        with self._lock:
            return None if self._objects is None else dict(self._objects)

    def _synced(self, objects: list[Object]) -> None:
        with self._lock:
            self._objects = {_key(each): each for each in objects}
        self._changed.set()

    def _event(self, kind: str, obj: Object) -> None:
        with self._lock:
            self._objects = {**(self._objects or {}), _key(obj): obj}
            if kind == "DELETED":
                del self._objects[_key(obj)]
        self._changed.set()


def _key(obj: Object) -> tuple[str, str]:
    return obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


def _hang_up(response: urllib3.BaseHTTPResponse) -> None:
    """Wakes the thread that reads: closing alone would wait for it."""
    sock = getattr(getattr(response, "connection", None), "sock", None)
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
