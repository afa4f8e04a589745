"""The pages' fenced blocks, and the comments in front of them that say how their commands were tested."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/*.md")])

_FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>`{3,})(?P<language>\S*)\s*$")
_MARK = re.compile(r"^ *<!-- (?P<kind>tested|needs): (?P<value>.*?) -->$")


@dataclass(frozen=True)
class Block:
    """A fenced block; `line` is that of its fence, from 1."""

    page: Path
    line: int
    language: str
    text: str
    #: `tested` and `needs` -> the comment's text.
    marks: dict[str, str]

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def parse(page: Path, text: str) -> Iterator[Block]:
    lines = text.splitlines()
    index = 0
    while index < len(lines):
        fence = _FENCE.match(lines[index])
        if fence is None:
            index += 1
            continue
        end = next((number for number in range(index + 1, len(lines)) if lines[number].strip() == fence["ticks"]), len(lines))
        marks = {}
        above = index - 1
        while above >= 0 and (mark := _MARK.match(lines[above])):
            marks[mark["kind"]] = mark["value"]
            above -= 1
        text = "\n".join(line.removeprefix(fence["indent"]) for line in lines[index + 1 : end])
        yield Block(page, index + 1, fence["language"], text, marks)
        index = end + 1


def named_by(test: str) -> list[Block]:
    """The blocks that say that a test (FILE::TEST) runs them, in the pages' order."""
    blocks = (block for page in PAGES for block in parse(page, page.read_text()))
    return [block for block in blocks if test in [name.strip() for name in block.marks.get("tested", "").split(",")]]
