"""Events as the kubelet writes them, from a thread of its own: nothing waits for one, and a lost one does not matter.

An event that comes again is counted up instead of written anew.
"""

import logging
import queue
import threading
import uuid
from typing import Literal

import urllib3

from sandbox.kube.kube_api import ApiError, KubeApi, Object
from sandbox.node_agent.timestamps import timestamp

logger = logging.getLogger(__name__)

_REMEMBERED = 1000


class EventRecorder:
    """Thread-safe; `component` is the reporter, as `kubelet`."""

    def __init__(self, api: KubeApi, component: str) -> None:
        self._api = api
        self._component = component
        self._queue: queue.SimpleQueue[Object | None] = queue.SimpleQueue()
        #: (uid, field, reason, message) -> (path of its object, how often it came).
        self._seen: dict[tuple[str, ...], tuple[str, int]] = {}
        self._thread = threading.Thread(target=self._run, name=f"events {component}", daemon=True)
        self._thread.start()

    def record(self, pod: Object, event_type: Literal["Normal", "Warning"], reason: str, message: str, *, field: str, host: str) -> None:
        """`field` is the part of the pod that is concerned, as `spec.containers{vllm-tpu}`."""
        metadata = pod["metadata"]
        now = timestamp()
        self._queue.put(
            {
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": {"name": f"{metadata['name']}.{uuid.uuid4().hex[:16]}", "namespace": metadata["namespace"]},
                "involvedObject": {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "name": metadata["name"],
                    "namespace": metadata["namespace"],
                    "uid": metadata["uid"],
                    "resourceVersion": metadata.get("resourceVersion", ""),
                    "fieldPath": field,
                },
                "reason": reason,
                # The API's limit is 1,024 bytes.
                "message": message.encode()[:1000].decode(errors="ignore"),
                "source": {"component": self._component, "host": host},
                "reportingComponent": self._component,
                "reportingInstance": host,
                "firstTimestamp": now,
                "lastTimestamp": now,
                "count": 1,
                "type": event_type,
            }
        )

    def stop(self) -> None:
        self._queue.put(None)
        self._thread.join(timeout=2)

    def _run(self) -> None:
        while (event := self._queue.get()) is not None:
            try:
                self._write(event)
            except (ApiError, urllib3.exceptions.HTTPError) as error:
                # Its namespace may be on its way out, too.
                logger.info("event %s of %s is lost: %s", event["reason"], event["involvedObject"]["name"], error)

    def _write(self, event: Object) -> None:
        involved = event["involvedObject"]
        key = (involved["uid"], involved["fieldPath"], event["reason"], event["message"])
        if key in self._seen:
            path, count = self._seen.pop(key)
            try:
                self._api.patch(path, {"count": count + 1, "lastTimestamp": event["lastTimestamp"]})
                self._seen[key] = (path, count + 1)
                return
            except ApiError as error:
                if error.status != 404:
                    raise
        collection = f"/api/v1/namespaces/{involved['namespace']}/events"
        self._api.create(collection, event)
        while len(self._seen) >= _REMEMBERED:
            del self._seen[next(iter(self._seen))]
        self._seen[key] = (f"{collection}/{event['metadata']['name']}", 1)
