"""What several of the sandbox's tests use: waiting, local servers, programs of a few lines, and a watch that the test feeds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar

_Server = TypeVar("_Server", bound=ThreadingHTTPServer)


def eventually(check: Callable[[], Any], seconds: float = 10.0) -> Any:
    """The first true answer."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if answer := check():
            return answer
        time.sleep(0.01)
    raise AssertionError(f"not true within {seconds:g} s")


@contextmanager
def running(server: _Server) -> Iterator[_Server]:
    """Serves in a thread until the test is over; a test may have closed it already."""
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def install(path: Path, text: str, mode: int = 0o755) -> Path:
    """A program of a few lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


class FakeWatcher:
    """Stands for a watch of the API server: the test says what it sees, by `sync` and `event`."""

    #: The last word of the path -> the watch.
    made: dict[str, FakeWatcher]

    def __init__(self, api: Any, path: str, *, on_sync: Any, on_event: Any, query: Any = None) -> None:
        self.api, self.sync, self.event = api, on_sync, on_event
        self.made[path.rsplit("/", 1)[-1]] = self

    def start(self) -> None:
        self.sync([])

    def stop(self) -> None:
        pass
