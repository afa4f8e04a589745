"""Container logs in the kubelet's (CRI) format, one file a run of a container: `TIME stdout|stderr P|F TEXT`.

Left out: rotation. A sandbox lives for hours, and what its containers say is little.
"""

import datetime
import os
import selectors
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

#: A longer line is split, and marked as partial, as by containerd.
_LINE_LIMIT = 16 * 1024

_FOLLOW_SECONDS = 0.2

#: How long output is still read after the container's main process has ended, should a child of it hold the pipe.
_DRAIN_SECONDS = 2.0


class LogPump:
    """Copies a container's two pipes into its log file until both are closed, in a thread of its own."""

    def __init__(self, path: Path, *, stdout: int, stderr: int, name: str) -> None:
        self._path = path
        self._pipes = {stdout: "stdout", stderr: "stderr"}
        # Made here, so that readers find it as soon as the container is reported to run.
        path.touch()
        self._thread = threading.Thread(target=self._run, name=f"log {name}", daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Call when the process has ended: returns when all that it wrote is in the file."""
        self._thread.join(timeout=_DRAIN_SECONDS)

    def _run(self) -> None:
        pending = dict.fromkeys(self._pipes, b"")
        with selectors.DefaultSelector() as selector, self._path.open("ab", buffering=0) as file:
            for pipe in self._pipes:
                os.set_blocking(pipe, False)
                selector.register(pipe, selectors.EVENT_READ)
            while selector.get_map():
                for key, _ in selector.select():
                    pipe = key.fd
                    try:
                        data = os.read(pipe, 1 << 16)
                    except BlockingIOError:
                        continue
                    if not data:
                        selector.unregister(pipe)
                        os.close(pipe)
                    file.write(self._entries(pipe, pending, data))

    def _entries(self, pipe: int, pending: dict[int, bytes], data: bytes) -> bytes:
        now = time.time_ns()
        moment = datetime.datetime.fromtimestamp(now // 10**9, datetime.UTC)
        stamp = f"{moment:%Y-%m-%dT%H:%M:%S}.{now % 10**9:09d}Z {self._pipes[pipe]}".encode()
        *lines, rest = (pending[pipe] + data).split(b"\n")
        entries = []
        for line in lines:
            while len(line) > _LINE_LIMIT:
                entries.append(b"%s P %s\n" % (stamp, line[:_LINE_LIMIT]))
                line = line[_LINE_LIMIT:]
            entries.append(b"%s F %s\n" % (stamp, line))
        while len(rest) >= _LINE_LIMIT or (rest and not data):
            entries.append(b"%s P %s\n" % (stamp, rest[:_LINE_LIMIT]))
            rest = rest[_LINE_LIMIT:]
        pending[pipe] = rest
        return b"".join(entries)


@dataclass(frozen=True, kw_only=True)
class LogOptions:
    """PodLogOptions of the API, as far as the kubelet sees them; `limitBytes` is left out."""

    follow: bool = False
    timestamps: bool = False
    tail_lines: int | None = None
    since: datetime.datetime | None = None


def read_log(path: Path, options: LogOptions, *, ended: Callable[[], bool]) -> Iterator[bytes]:
    """The log's text in pieces; when following, goes on until `ended()` and nothing is left.

    A piece is empty when there is nothing new, so that the follower can check whether its client still reads. The file
    may not be there yet.
    """
    for entry in _selected(path, options, ended):
        yield _text(entry, timestamps=options.timestamps) if entry else b""


def _selected(path: Path, options: LogOptions, ended: Callable[[], bool]) -> Iterator[bytes]:
    data = _read(path, 0)
    position = len(data)
    # What has no end yet is still being written.
    *lines, rest = data.split(b"\n")
    chosen: Iterable[bytes] = (line for line in lines if _after(line, options.since))
    if options.tail_lines is not None:
        chosen = deque(chosen, maxlen=options.tail_lines)
    yield from chosen
    while options.follow:
        # Asked before reading: what came before the end is then read for sure.
        last = ended()
        data = _read(path, position)
        position += len(data)
        *lines, rest = (rest + data).split(b"\n")
        yield from lines
        if last:
            return
        if not data:
            yield b""
            time.sleep(_FOLLOW_SECONDS)


def _read(path: Path, position: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(position)
            return file.read()
    except FileNotFoundError:
        return b""


def _after(entry: bytes, since: datetime.datetime | None) -> bool:
    if since is None:
        return True
    # To the microsecond, which is what Python's clock has.
    return datetime.datetime.fromisoformat(entry[:26].decode() + "+00:00") >= since


def _text(entry: bytes, *, timestamps: bool) -> bytes:
    stamp, _, tag, text = entry.split(b" ", 3)
    # A partial entry is the beginning of a line that goes on in the next one.
    end = b"\n" if tag == b"F" else b""
    return (stamp + b" " + text if timestamps else text) + end
