"""A cluster as its kubeconfig reaches it: objects as plain dictionaries, errors in Kubernetes's own words.

The official client's dynamic half does the talking (`DynamicClient`), exec plugins included. Left out: watches, since
the waits look at whole lists again and again; the dynamic client's cache file, which would outlive the process and be
shared with strangers in the temporary folder.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import urllib3
import yaml
from kubernetes import client, config
from kubernetes.client.rest import ApiException
from kubernetes.config.config_exception import ConfigException
from kubernetes.config.exec_provider import ExecProvider
from kubernetes.config.kube_config import ConfigNode
from kubernetes.dynamic import DynamicClient, LazyDiscoverer, Resource
from kubernetes.dynamic.exceptions import ResourceNotFoundError, ResourceNotUniqueError

#: Seconds to connect, and to wait for an answer; admission webhooks may take 30 s.
_REQUEST_TIMEOUT: Final = (5.0, 60.0)

#: How often client-go tries a request again, and how long it waits after a broken connection.
_RETRIES: Final = 10
_BROKEN_SECONDS: Final = 1.0

Object = dict[str, Any]


class ClusterUnreachableError(Exception):
    """No answer from the API server, or no way to ask it; the message says why."""


class CredentialsError(ClusterUnreachableError):
    """The exec plugin gives no credential; the message is its own. It will say the same next time."""


class BrokenRequestError(ClusterUnreachableError):
    """The connection broke under a request: the cluster is there, and what became of the request is not known."""


class UnknownKindError(Exception):
    """The API server serves no such kind."""

    def __init__(self, api_version: str, kind: str) -> None:
        super().__init__(f'no matches for kind "{kind}" in version "{api_version}"')


class KubernetesApiError(Exception):
    """The API server refused. `code` is the HTTP status, `reason` and `details` those of the answered Status."""

    def __init__(self, error: ApiException) -> None:
        status = _status(error)
        self.code = int(error.status or 0)
        self.reason = str(status.get("reason") or error.reason or "")
        self.details: Mapping[str, Any] = status.get("details") or {}
        super().__init__(str(status.get("message") or self.reason or f"status {self.code}"))

    @property
    def passing(self) -> bool:
        """Whether it says something of the moment, and nothing of the request."""
        return self.code in (401, 429) or self.code >= 500

    @property
    def field_conflict(self) -> bool:
        """Whether another manager owns a field; a 409 may also be that the object has changed meanwhile."""
        causes = self.details.get("causes") or []
        return self.code == 409 and any(each.get("reason") == "FieldManagerConflict" for each in causes)

    @property
    def immutable_field(self) -> bool:
        return self.code == 422 and "field is immutable" in str(self)

    @property
    def missing_namespace(self) -> bool:
        return self.code == 404 and self.details.get("kind") == "namespaces"


def _status(error: ApiException) -> Mapping[str, Any]:
    body = error.body.decode(errors="replace") if isinstance(error.body, bytes) else error.body
    try:
        status = json.loads(body or "")
    except ValueError:
        return {"message": body} if body else {}
    return status if isinstance(status, dict) else {}


@dataclass(frozen=True)
class Kubeconfig:
    """A parsed kubeconfig. Hashable by its text, so that clients can be shared."""

    text: str

    @classmethod
    def load(cls, text: str) -> Kubeconfig:
        """From YAML or JSON text. Raises `ClusterUnreachableError` for what is not a kubeconfig; the message never has its contents."""
        if not text:
            raise ClusterUnreachableError("the provider has no kubeconfig: give it the text of one as `kubeconfig`")
        try:
            # What programs write is JSON mostly, which YAML's loader takes fifty times as long to read.
            document = json.loads(text)
        except ValueError:
            try:
                document = yaml.safe_load(text)
            except yaml.YAMLError as error:
                # Its own message quotes the text, and with it tokens.
                mark = getattr(error, "problem_mark", None)
                where = f" at line {mark.line + 1}" if mark else ""
                raise ClusterUnreachableError(f"kubeconfig: not YAML{where}; give the text itself, not the name of a file") from None
        if not isinstance(document, dict):
            raise ClusterUnreachableError(
                "kubeconfig: not a YAML mapping with clusters, users and contexts; give the text itself, not the name of a file"
            )
        _active_cluster(document)
        return cls(json.dumps(document, sort_keys=True))

    @property
    def document(self) -> dict[str, Any]:
        return dict(json.loads(self.text))

    @property
    def server(self) -> Mapping[str, Any]:
        """The current context's cluster: what tells one cluster from another."""
        return _active_cluster(self.document)


def _named(document: Mapping[str, Any], section: str, name: str) -> dict[str, Any]:
    entries = [entry for entry in document.get(section) or [] if isinstance(entry, dict)]
    for entry in entries:
        values = entry.get(section[:-1])
        if entry.get("name") == name and isinstance(values, dict):
            return values
    known = ", ".join(str(entry.get("name")) for entry in entries) or "none"
    raise ClusterUnreachableError(f"kubeconfig: there is no {section[:-1]} {name!r}; known: {known}")


def _active_context(document: Mapping[str, Any]) -> dict[str, Any]:
    return _named(document, "contexts", str(document.get("current-context")))


def _active_cluster(document: Mapping[str, Any]) -> dict[str, Any]:
    return _named(document, "clusters", str(_active_context(document).get("cluster")))


def _exec_plugin(document: Mapping[str, Any]) -> dict[str, Any] | None:
    user = _active_context(document).get("user")
    plugin = _named(document, "users", str(user)).get("exec") if user else None
    return plugin if isinstance(plugin, dict) else None


class _MemoryDiscoverer(LazyDiscoverer):  # type: ignore[misc]
    """Discovery kept in memory; a kind that is not there is looked up again, which is how a new CRD is found."""

    def __init__(self, dynamic: DynamicClient, cache_file: str | None) -> None:
        super().__init__(dynamic, cache_file or os.path.join(os.sep, "nonexistent", uuid.uuid4().hex))

    def _write_cache(self) -> None:
        """Nowhere."""


class _PatientClient(DynamicClient):  # type: ignore[misc]
    """Discovery has the same time limits as everything else, and every request is tried again as client-go does it."""

    def request(self, method: str, path: str, body: Any = None, **params: Any) -> Any:
        params.setdefault("_request_timeout", _REQUEST_TIMEOUT)
        for _ in range(_RETRIES):
            try:
                return super().request(method, path, body, **dict(params))
            except (ApiException, urllib3.exceptions.HTTPError) as error:
                seconds = _pause_before_retry(method, error)
                if seconds is None:
                    raise
            time.sleep(seconds)
        return super().request(method, path, body, **params)


def _pause_before_retry(method: str, error: Exception) -> float | None:
    """Seconds after which client-go would try again; None when it gives up.

    It does what the server says with 429 or any 5xx (Retry-After), and repeats a GET whose connection was reset or ended; anything
    else is the caller's: https://github.com/kubernetes/client-go, rest/request.go (`request`) and rest/with_retry.go.
    """
    if isinstance(error, ApiException):
        after = (error.headers or {}).get("Retry-After", "")
        told = error.status == 429 or (error.status or 0) >= 500
        return float(after) if told and str(after).isdigit() else None
    return _BROKEN_SECONDS if _is_broken(error) and method.upper() == "GET" else None


def _is_broken(error: BaseException | None) -> bool:
    # TLS calls an end without its own goodbye an error of its own; Go does not tell the two apart.
    return isinstance(error, urllib3.exceptions.ProtocolError) or (
        isinstance(error, urllib3.exceptions.SSLError) and "EOF occurred" in str(error)
    )


class ClusterClient:
    """Requests to one cluster. Thread-safe. Objects are dictionaries as the API server gives them."""

    def __init__(self, kubeconfig: Kubeconfig) -> None:
        self.kubeconfig = kubeconfig
        self._lock = threading.RLock()
        self._dynamic_client: DynamicClient | None = None

    # --- discovery

    def check(self) -> None:
        """Raises `ClusterUnreachableError` unless the API server answers."""
        self._dynamic()

    def resource(self, api_version: str, kind: str) -> Resource:
        """Where a kind is served. Raises `UnknownKindError`."""
        dynamic = self._dynamic()
        with self._lock, _translated():
            try:
                return dynamic.resources.get(api_version=api_version, kind=kind)
            except (ResourceNotFoundError, ResourceNotUniqueError):
                raise UnknownKindError(api_version, kind) from None

    def _dynamic(self) -> DynamicClient:
        with self._lock:
            if self._dynamic_client is None:
                document = self.kubeconfig.document
                _require_exec_plugin(document)
                configuration = client.Configuration()
                # urllib3's own retries are not client-go's.
                configuration.retries = False
                try:
                    with _translated():
                        api_client = config.new_client_from_config_dict(document, persist_config=False, client_configuration=configuration)
                        self._dynamic_client = _PatientClient(api_client, discoverer=_MemoryDiscoverer)
                except KubernetesApiError as error:
                    # As the real provider, which is configured without a cluster when it cannot ask for its version.
                    _require_credentials(document)
                    raise ClusterUnreachableError(str(error)) from error
            return self._dynamic_client

    # --- objects

    def get(self, api_version: str, kind: str, namespace: str | None, name: str) -> Object | None:
        """None when there is no such object."""
        try:
            return self._request("get", api_version, kind, namespace=namespace, name=name)
        except KubernetesApiError as error:
            if error.code == 404:
                return None
            raise

    def list_objects(self, api_version: str, kind: str, namespace: str | None, labels: str | None = None) -> list[Object]:
        answer = self._request("get", api_version, kind, namespace=namespace, label_selector=labels)
        items: list[Object] = answer.get("items") or []
        # Items of a list do not say what they are.
        return [{"apiVersion": api_version, "kind": kind, **item} for item in items]

    def apply(self, body: Object, *, manager: str, force: bool, dry_run: bool = False) -> Object:
        """Server-side apply."""
        metadata = body["metadata"]
        return self._request(
            "server_side_apply",
            body["apiVersion"],
            body["kind"],
            namespace=metadata.get("namespace"),
            name=metadata["name"],
            body=body,
            field_manager=manager,
            dry_run="All" if dry_run else None,
            force_conflicts=force,
        )

    def delete(self, api_version: str, kind: str, namespace: str | None, name: str, propagation: str = "foreground") -> bool:
        """Asks for deletion, by default dependents first; False when there is no such object."""
        try:
            self._request("delete", api_version, kind, namespace=namespace, name=name, propagation_policy=propagation.title())
        except KubernetesApiError as error:
            if error.code == 404:
                return False
            raise
        return True

    def _request(self, verb: str, api_version: str, kind: str, *, namespace: str | None, **options: Any) -> Object:
        try:
            return self._request_once(verb, api_version, kind, namespace, options)
        except KubernetesApiError as error:
            if error.code == 401:
                # As client-go: the next request asks the exec plugin for a new credential, and this one has failed.
                with self._lock:
                    self._dynamic_client = None
                _require_credentials(self.kubeconfig.document)
            raise

    def _request_once(self, verb: str, api_version: str, kind: str, namespace: str | None, options: Mapping[str, Any]) -> Object:
        resource = self.resource(api_version, kind)
        method = getattr(self._dynamic(), verb)
        with _translated():
            response = method(resource, namespace=(namespace or "default") if resource.namespaced else None, serialize=False, **options)
            answer = json.loads(response.data)
        if not isinstance(answer, dict):
            raise ClusterUnreachableError(f"the API server's answer to {verb} of {kind} is not an object")
        return answer


class _Translated:
    """Turns the libraries' errors into this module's, without headers, tokens and tracebacks in their text."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, ApiException):
            if error.status in (502, 503) and not error.body:
                raise ClusterUnreachableError(f"the API server answers {error.status} {error.reason}") from None
            raise KubernetesApiError(error) from None
        if _is_broken(error):
            raise BrokenRequestError(f"the connection to the API server broke: {_reason(error)}") from None
        if isinstance(error, urllib3.exceptions.HTTPError | ConnectionError):
            raise ClusterUnreachableError(_reason(error)) from None
        if isinstance(error, ConfigException):
            raise ClusterUnreachableError(f"kubeconfig: {error}") from None


def _translated() -> _Translated:
    return _Translated()


def _reason(error: BaseException | None) -> str:
    reason = getattr(error, "reason", None)
    return str(reason if isinstance(reason, BaseException) else error)


def _require_exec_plugin(document: Mapping[str, Any]) -> None:
    """The client library only logs that a plugin is missing, and goes on without credentials."""
    plugin = _exec_plugin(document)
    if plugin is not None and shutil.which(str(plugin.get("command"))) is None:
        hint = plugin.get("installHint")
        raise ClusterUnreachableError(
            f"kubeconfig: the exec plugin {plugin.get('command')!r} is not on PATH" + (f". {hint}" if hint else "")
        )


def _require_credentials(document: Mapping[str, Any]) -> None:
    """Raises with the exec plugin's own words when it gives no credential, which the client library only logs."""
    if (plugin := _exec_plugin(document)) is None:
        return
    cluster = ConfigNode("cluster", dict(_active_cluster(document)))
    try:
        ExecProvider(ConfigNode("exec", plugin), None, cluster).run()
    except ConfigException as error:
        raise CredentialsError(f"getting credentials: {error}") from None
