"""Reads a cluster as it changes: watches of the API server, and the servers' /metrics by its proxy. It writes nothing.

What it needs of a role: `list` and `watch` of nodes, of pods, events and deployments of one namespace and of ComputeClasses, and `get` of
pods/proxy. A part that may not be read, or does not answer, is named in the document's `notes`; the rest is shown.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from kubernetes import client, config, watch
from urllib3.exceptions import HTTPError

from components.serving.inference_server import APP_LABELS, DEPLOYMENT_NAME, SERVER_PORT
from ops.live.history import History
from ops.live.meter import Meter
from ops.live.objects import Object, Snapshot, is_ready, name
from ops.live.rungs import Pool
from ops.live.view import view

_SELECTOR = ",".join(f"{key}={value}" for key, value in APP_LABELS.items())

#: The API server ends a watch after that, and the next one begins with a new list, for which GKE's login is renewed where it must be.
_WATCH_SECONDS = 240
_AGAIN_SECONDS = 2.0
_METRICS_SECONDS = 2.0

#: Changes that come together are taken in one look.
_LOOK_SECONDS = 0.2

#: Kind -> the kubernetes client's function that lists it, and its arguments.
_Lists = dict[str, tuple[Callable[..., Any], dict[str, Any]]]


class ClusterError(Exception):
    """The cluster cannot be read, or has no such Deployment; the message says what to do."""


def said(error: Exception) -> str:
    """One line about a failed question to the API server."""
    if isinstance(error, client.ApiException):
        return f"the API server answers {error.status} {error.reason}"
    return f"the API server does not answer ({type(error).__name__})"


def namespace_of_service(kubeconfig: str | None) -> tuple[str, str]:
    """The namespace of the cluster's one Deployment of this program, and its Service's URL, empty without an address.

    Raises `ClusterError`.
    """
    try:
        api = config.new_client_from_config(kubeconfig)
        found = client.AppsV1Api(api).list_deployment_for_all_namespaces(label_selector=_SELECTOR, _request_timeout=20).items
        namespaces = sorted({each.metadata.namespace for each in found if each.metadata.name == DEPLOYMENT_NAME})
        if len(namespaces) != 1:
            where = f"in namespaces {', '.join(namespaces)}: name the stack by --stack" if found else "nowhere: is it the right kubeconfig?"
            raise ClusterError(f"--kubeconfig: Deployment {DEPLOYMENT_NAME} of this program is {where}")
        services = client.CoreV1Api(api).list_namespaced_service(namespaces[0], _request_timeout=20).items
    except (client.ApiException, HTTPError) as error:
        raise ClusterError(f"--kubeconfig: {said(error)}; see that `kubectl get deployments -A` works") from error
    except (config.ConfigException, OSError) as error:
        raise ClusterError(f"--kubeconfig: {str(error).splitlines()[0]}; `gcloud container clusters get-credentials` writes one") from error
    for service in services:
        ingress = (service.status.load_balancer.ingress if service.status.load_balancer else None) or []
        if ingress and (service.spec.selector or {}) == APP_LABELS:
            return namespaces[0], f"http://{ingress[0].ip or ingress[0].hostname}:{service.spec.ports[0].port}/v1"
    return namespaces[0], ""


class Cluster:
    """Watches from `start` on. `document` is what `ops.live.view` makes of it, with a `version` that grows when it has changed."""

    def __init__(
        self, kubeconfig: str | None, namespace: str, pools: Sequence[Pool] = (), supply: Callable[[], dict[str, str]] = dict
    ) -> None:
        """`supply` is asked for a sandbox's pools that are not in stock."""
        self._kubeconfig, self._namespace, self._pools, self._supply = kubeconfig, namespace, pools, supply
        self._objects: dict[str, dict[str, Object]] = {}
        self._troubles: dict[str, str] = {}
        self._history, self._meter = History(), Meter()
        self._lock, self._changed = threading.Lock(), threading.Event()
        self._shown: dict[str, Any] = {}

    def start(self) -> None:
        for kind in self._lists(None):
            threading.Thread(target=self._follow, args=(kind,), name=f"watch {kind}", daemon=True).start()
        threading.Thread(target=self._look, name="look", daemon=True).start()
        threading.Thread(target=self._measure, name="metrics", daemon=True).start()

    def document(self) -> dict[str, Any]:
        """Empty until every kind was listed, or has failed to be."""
        return self._shown

    def wait(self, seconds: float) -> bool:
        """Whether the first document is there within so many seconds."""
        deadline = time.monotonic() + seconds
        while not self._shown and time.monotonic() < deadline:
            time.sleep(0.05)
        return bool(self._shown)

    def _lists(self, api: Any) -> _Lists:
        core, namespace = client.CoreV1Api(api), {"namespace": self._namespace}
        classes = {"group": "cloud.google.com", "version": "v1", "plural": "computeclasses"}
        return {
            "nodes": (core.list_node, {}),
            "pods": (core.list_namespaced_pod, {**namespace, "label_selector": _SELECTOR}),
            "events": (core.list_namespaced_event, namespace),
            "deployments": (client.AppsV1Api(api).list_namespaced_deployment, namespace),
            "computeclasses": (client.CustomObjectsApi(api).list_cluster_custom_object, classes),
        }

    def _client(self) -> Any:
        # Loading writes certificates to files that all clients of the process share.
        with self._lock:
            return config.new_client_from_config(self._kubeconfig)

    def _follow(self, kind: str) -> None:
        """Lists and watches one kind, again and again."""
        while True:
            try:
                api = self._client()
                function, arguments = self._lists(api)[kind]
                listed = api.sanitize_for_serialization(function(**arguments, _request_timeout=20))
                self._replace(kind, {_key(each): each for each in listed["items"]})
                resume = {"resource_version": listed["metadata"]["resourceVersion"], "timeout_seconds": _WATCH_SECONDS}
                for event in watch.Watch().stream(function, **arguments, **resume, _request_timeout=_WATCH_SECONDS + 20):
                    item, there = event["raw_object"], dict(self._objects[kind])
                    if event["type"] == "DELETED":
                        there.pop(_key(item), None)
                    else:
                        there[_key(item)] = item
                    self._replace(kind, there)
            except (client.ApiException, HTTPError, config.ConfigException, OSError) as error:
                # 410: the watch was away for too long, and the next list catches up.
                if not (isinstance(error, client.ApiException) and error.status == 410):
                    self._trouble(kind, said(error))
                    self._objects.setdefault(kind, {})
                    time.sleep(_AGAIN_SECONDS)

    def _replace(self, kind: str, there: dict[str, Object]) -> None:
        """Only the kind's own thread writes it."""
        with self._lock:
            self._objects[kind] = there
            self._troubles.pop(kind, None)
        self._changed.set()

    def _trouble(self, part: str, text: str) -> None:
        with self._lock:
            self._troubles[part] = text
        self._changed.set()

    def snapshot(self) -> Snapshot:
        with self._lock:
            items = {kind: tuple(there.values()) for kind, there in self._objects.items()}
        deployments = [each for each in items.get("deployments", ()) if name(each) == DEPLOYMENT_NAME]
        return Snapshot(
            nodes=tuple(sorted(items.get("nodes", ()), key=name)),
            pods=tuple(sorted(items.get("pods", ()), key=name)),
            events=items.get("events", ()),
            classes=items.get("computeclasses", ()),
            deployment=deployments[0] if deployments else {},
        )

    def _look(self) -> None:
        """One thread alone tells the history."""
        kinds = set(self._lists(None))
        while True:
            # Without any change the stock, which is no object, may have changed.
            self._changed.wait(1.0)
            self._changed.clear()
            if kinds <= self._objects.keys():
                now = time.time()
                snapshot = self.snapshot()
                self._history.observe(snapshot, now)
                document = view(snapshot, self._history, self._meter, now, self._pools, self._supply())
                with self._lock:
                    document["notes"] = [f"{part}: {text}" for part, text in sorted(self._troubles.items())]
                version = self._shown.get("version", 0)
                # A strip that only grows with time is drawn by the page itself.
                still = {"now": 0, "ways": 0, "version": version}
                same = document | still == self._shown | still
                self._shown = {**document, "version": version + (not same)}
            time.sleep(_LOOK_SECONDS)

    def _measure(self) -> None:
        with ThreadPoolExecutor(max_workers=8) as workers:
            while True:
                pods = [name(pod) for pod in self.snapshot().pods if is_ready(pod)]
                try:
                    core = client.CoreV1Api(self._client())
                    list(workers.map(lambda pod, core=core: self._scrape(core, pod), pods))
                except (config.ConfigException, OSError, HTTPError) as error:
                    self._trouble("metrics", said(error))
                self._meter.forget(pods)
                self._changed.set()
                time.sleep(_METRICS_SECONDS)

    def _scrape(self, core: Any, pod: str) -> None:
        try:
            text = core.connect_get_namespaced_pod_proxy_with_path(
                f"{pod}:{SERVER_PORT}", self._namespace, "metrics", _request_timeout=(2.0, 4.0)
            )
            self._meter.add(pod, text, time.time())
        except client.ApiException as error:
            # 404 and 5xx: the pod has ended meanwhile, or hangs, which its probes report.
            if error.status in (401, 403):
                self._trouble("metrics", f"{said(error)}: allow `get` of pods/proxy (roles/container.developer has it)")
        except (HTTPError, ValueError):
            return


def _key(item: Object) -> str:
    return str(item["metadata"]["uid"])
