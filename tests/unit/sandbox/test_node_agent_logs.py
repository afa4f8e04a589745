"""Container logs: written from pipes in the CRI's format, and read as `kubectl logs` asks."""

import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sandbox.node_agent.logs import LogOptions, LogPump, read_log

ENTRY = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z) (stdout|stderr) ([FP]) (.*)")


class Pipes:
    """A pump and the ends of the pipes that a container would have."""

    def __init__(self, path: Path) -> None:
        read_out, self.stdout = os.pipe()
        read_error, self.stderr = os.pipe()
        self.pump = LogPump(path, stdout=read_out, stderr=read_error, name="test")

    def close(self) -> None:
        os.close(self.stdout)
        os.close(self.stderr)
        self.pump.finish()


def entries(path: Path) -> list[tuple[str, str, str]]:
    matches = [ENTRY.fullmatch(line) for line in path.read_text().splitlines()]
    return [(match[2], match[3], match[4]) for match in matches if match is not None]


def log(path: Path, *lines: str) -> Path:
    """A log whose lines are a second apart, from 12:00:00 on."""
    path.write_text("".join(f"2026-01-01T12:00:0{number}.000000000Z stdout {line}\n" for number, line in enumerate(lines)))
    return path


def read(path: Path, options: LogOptions | None = None, ended: Callable[[], bool] = lambda: True) -> str:
    return b"".join(read_log(path, options or LogOptions(), ended=ended)).decode()


def test_lines_of_both_streams_are_written_with_time_and_stream(tmp_path: Path) -> None:
    pipes = Pipes(tmp_path / "0.log")
    os.write(pipes.stdout, b"one\ntwo\n\n")
    time.sleep(0.05)
    os.write(pipes.stderr, b"oops\n")
    pipes.close()
    assert entries(tmp_path / "0.log") == [("stdout", "F", "one"), ("stdout", "F", "two"), ("stdout", "F", ""), ("stderr", "F", "oops")]


@pytest.mark.parametrize(
    ("pieces", "tags", "text"),
    [
        ((b"he", b"ll", b"o\nwor", b"ld\n"), "FF", "hello\nworld\n"),
        ((b"dying words",), "P", "dying words"),
        ((b"x" * 40_000 + b"\n",), "PPF", "x" * 40_000 + "\n"),
    ],
    ids=["in pieces", "without an end", "very long"],
)
def test_lines_are_marked_as_whole_or_partial_and_read_back_as_they_were(
    tmp_path: Path, pieces: tuple[bytes, ...], tags: str, text: str
) -> None:
    pipes = Pipes(tmp_path / "0.log")
    for piece in pieces:
        os.write(pipes.stdout, piece)
        time.sleep(0.01)
    pipes.close()
    assert "".join(tag for _, tag, _ in entries(tmp_path / "0.log")) == tags
    assert read(tmp_path / "0.log") == text


def test_the_tail_counts_parts_of_lines_as_the_kubelet_does(tmp_path: Path) -> None:
    path = log(tmp_path / "0.log", "F first", "P long-", "P line-", "F end", "F last")
    assert read(path, LogOptions(tail_lines=3)) == "line-end\nlast\n"


def test_following_gives_what_comes_and_ends_with_the_container(tmp_path: Path) -> None:
    path = log(tmp_path / "0.log", "F a")
    looks = 0

    def ended() -> bool:
        nonlocal looks
        looks += 1
        if looks == 2:
            with path.open("a") as file:
                file.write("2026-01-01T12:00:01.000000000Z stdout F b\n2026-01-01T12:00:02.000000000Z std")
        if looks == 3:
            with path.open("a") as file:
                file.write("out F c\n")
        return looks == 4

    assert read(path, LogOptions(follow=True, tail_lines=1), ended) == "a\nb\nc\n"
