"""Creations that are under way, kept on disk: what a daemon that was killed in the middle left behind, its successor takes back.

The engine was told of none of them, so it makes them again with the next update, and would find them there already. Only a death of
the daemon leaves anything here: whatever else happens to an engine or a network, a creation ends with a result or an error. Left
out: clusters and node pools, which the cloud itself keeps track of, and images, of which there may be as many as one likes.
"""

import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sandbox.google.records import Records
from sandbox.host.state_files import read_object, write_object
from sandbox.providers.kubernetes_client import ClusterClient, ClusterUnreachableError, Kubeconfig, KubernetesApiError, UnknownKindError
from sandbox.providers.wire import plain

logger = logging.getLogger(__name__)


class Unfinished:
    """Safe for several threads, and for a process that ends at any moment."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._urns: dict[str, dict[str, Any]] = {}

    @contextmanager
    def creating(self, urn: str, inputs: Mapping[str, Any]) -> Iterator[None]:
        """While a resource is being made. Of its inputs is kept what names a Kubernetes object."""
        metadata = inputs.get("metadata")
        named = {"apiVersion": inputs.get("apiVersion"), "kind": inputs.get("kind")}
        if isinstance(metadata, Mapping):
            named |= {key: metadata.get(key) for key in ("namespace", "name")}
        self._note(urn, {key: value for key, value in plain(named).items() if isinstance(value, str)})
        try:
            yield
        finally:
            # On a full disk the note stays until the next is written; the resource is there all the same.
            with suppress(OSError):
                self._note(urn, None)

    def take_back(self, records: Records, kubeconfig: Path) -> None:
        """Removes what an earlier daemon was making; `kubeconfig` is the cluster's, and not there when there is none."""
        try:
            left = read_object(self._path)
        except FileNotFoundError:
            return
        for urn, named in left.items():
            logger.info("takes back what was being made when the daemon died: %s", urn)
            records.forget(urn)
            if isinstance(named, dict) and {"apiVersion", "kind", "name"} <= named.keys() and kubeconfig.exists():
                _delete(named, kubeconfig)
        self._path.unlink()

    def _note(self, urn: str, named: dict[str, Any] | None) -> None:
        with self._lock:
            if named is None:
                self._urns.pop(urn, None)
            else:
                self._urns[urn] = named
            write_object(self._path, self._urns)


def _delete(named: Mapping[str, str], kubeconfig: Path) -> None:
    cluster = ClusterClient(Kubeconfig.load(kubeconfig.read_text()))
    try:
        cluster.delete(named["apiVersion"], named["kind"], named.get("namespace"), named["name"])
    except (KubernetesApiError, ClusterUnreachableError, UnknownKindError) as error:
        # The next update then reports that it exists, which is better than not starting.
        logger.warning("%s %s stays: %s", named["kind"], named["name"], error)
