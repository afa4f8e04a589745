"""Markdown that holds other programs' text: fences that the text cannot close, and sizes that GitHub takes.

GitHub refuses a comment of more than 65,536 characters. Sizes here are bytes of UTF-8, which are never fewer than the characters.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

#: GitHub's limit on the body of a comment or an issue.
BODY_LIMIT = 65_536

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07]*\x07|[\x00-\x08\x0b-\x1f\x7f]")


def size(text: str) -> int:
    """Bytes of UTF-8."""
    return len(text.encode())


def plain(text: str) -> str:
    """Text without a terminal's colours, carriage returns and other control characters."""
    return _ESCAPES.sub("", text.replace("\r\n", "\n"))


def fenced(text: str) -> str:
    """A code block; its fence is longer than any run of backticks in the text."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text.rstrip()}\n{fence}"


def code(text: str) -> str:
    """Inline code of one line, whatever is in it; usable in a table's cell."""
    flat = " ".join(text.split()).replace("|", "\\|")
    longest = max((len(run) for run in re.findall(r"`+", flat)), default=0)
    ticks = "`" * (longest + 1)
    pad = " " if longest else ""
    return f"{ticks}{pad}{flat}{pad}{ticks}"


def folded(title: str, body: str, *, is_open: bool = False) -> str:
    """A section that opens at a click; `title` is the caller's own text."""
    return f"<details{' open' if is_open else ''}><summary>{title}</summary>\n\n{body}\n\n</details>"


def shorten(text: str, limit: int) -> str:
    """At most `limit` bytes: the first third and the last two, in whole lines, with a line that says how much is missing.

    The end counts for more: that is where tools put their errors and summaries.
    """
    if size(text) <= limit:
        return text
    note = "... {} lines left out; the run's log has them ..."
    room = max(0, limit - len(note.format(10**9)) - 2)
    lines = text.splitlines()
    head = _take(lines, room // 3)
    tail = _take(lines[len(head) :][::-1], room - sum(size(line) + 1 for line in head))[::-1]
    left_out = len(lines) - len(head) - len(tail)
    return "\n".join([*head, note.format(left_out), *tail])


def _take(lines: Sequence[str], room: int) -> list[str]:
    taken = []
    for line in lines:
        room -= size(line) + 1
        if room < 0:
            break
        taken.append(line)
    return taken


def shares(sizes: Sequence[int], room: int) -> list[int]:
    """Divides `room` so that small texts stay whole and the large ones share the rest alike; one limit a text, in order."""
    limits = [0] * len(sizes)
    left = max(0, room)
    order = sorted(range(len(sizes)), key=lambda index: sizes[index])
    for position, index in enumerate(order):
        limits[index] = min(sizes[index], left // (len(order) - position))
        left -= limits[index]
    return limits
