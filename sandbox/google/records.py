"""Resources of the stand-in cloud that have no effect here: kept in one file, so that they outlive the daemon.

The file is plain text: the provider that records a resource leaves secret inputs out, and Pulumi's own state has them encrypted.
"""

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sandbox.host.state_files import read_object, write_text


class AlreadyExistsError(Exception):
    """A resource of this id is there already; `owner` made it."""

    def __init__(self, id: str, owner: str) -> None:
        super().__init__(id)
        self.owner = owner


class Records:
    """By kind and id; safe for several threads, and for a process that ends at any moment."""

    def __init__(self, path: Path) -> None:
        """`path`: of the file, which comes into being with the first record."""
        self._path = path
        self._lock = threading.Lock()

    def create(self, kind: str, id: str, inputs: Mapping[str, Any], *, owner: str, replace: bool = False) -> None:
        """`owner`: URN of the resource. Raises `AlreadyExistsError`, unless one that is there may be replaced."""
        with self._lock:
            known = self._read()
            if id in known.get(kind, {}) and not replace:
                raise AlreadyExistsError(id, known[kind][id]["owner"])
            known.setdefault(kind, {})[id] = {"inputs": dict(inputs), "owner": owner}
            self._write(known)

    def get(self, kind: str, id: str) -> dict[str, Any] | None:
        """The recorded inputs."""
        with self._lock:
            record = self._read().get(kind, {}).get(id)
        return record["inputs"] if record else None

    def of_kind(self, kind: str) -> dict[str, dict[str, Any]]:
        """The recorded inputs by id."""
        with self._lock:
            return {id: record["inputs"] for id, record in self._read().get(kind, {}).items()}

    def update(self, kind: str, id: str, inputs: Mapping[str, Any]) -> None:
        """Raises `KeyError` when there is none."""
        with self._lock:
            known = self._read()
            if id not in known.get(kind, {}):
                raise KeyError(id)
            known[kind][id]["inputs"] = dict(inputs)
            self._write(known)

    def delete(self, kind: str, id: str) -> None:
        """Deleting one that is not there is not an error, as for any provider."""
        with self._lock:
            known = self._read()
            if known.get(kind, {}).pop(id, None) is not None:
                self._write({name: of_kind for name, of_kind in known.items() if of_kind})

    def check(self) -> None:
        """Raises `StateError` for a file that cannot be used."""
        with self._lock:
            self._read()

    def forget(self, owner: str) -> None:
        """Removes whatever a resource of this URN has made."""
        with self._lock:
            known = self._read()
            kept = {kind: {id: record for id, record in of_kind.items() if record["owner"] != owner} for kind, of_kind in known.items()}
            if kept != known:
                self._write({kind: of_kind for kind, of_kind in kept.items() if of_kind})

    def _read(self) -> dict[str, dict[str, dict[str, Any]]]:
        try:
            return read_object(self._path)
        except FileNotFoundError:
            return {}

    def _write(self, known: Mapping[str, Any]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_text(self._path, json.dumps(known, indent=1, sort_keys=True), mode=0o600)
