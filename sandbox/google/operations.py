"""Which resources of the stand-in cloud are being worked on, as Google's long-running operations are seen from outside.

The client may be gone: the operation goes on, and the next one on the same resource waits for it, as the real provider does
(`containerClusterAwaitRestingState` in hashicorp/terraform-provider-google).
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Operations:
    """By the resource's id; what is below an id (`ID/nodePools/NAME`) is told apart from it."""

    def __init__(self) -> None:
        self._running: set[str] = set()
        self._changed = threading.Condition()

    def runs(self, id: str) -> bool:
        with self._changed:
            return id in self._running

    @contextmanager
    def running(self, id: str, *, below: bool = False) -> Iterator[None]:
        """For as long as one operation takes; waits for the one before it, and with `below` for those on what belongs to it."""
        with self._changed:
            self._changed.wait_for(lambda: not self._busy(id, below))
            self._running.add(id)
        try:
            yield
        finally:
            with self._changed:
                self._running.discard(id)
                self._changed.notify_all()

    def wait(self, id: str) -> None:
        """Until nothing runs on it."""
        with self._changed:
            self._changed.wait_for(lambda: id not in self._running)

    def _busy(self, id: str, below: bool) -> bool:
        return id in self._running or (below and any(each.startswith(f"{id}/") for each in self._running))
