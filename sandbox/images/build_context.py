"""A build context: the files of a folder that its .dockerignore lets through.

Rules of https://docs.docker.com/build/concepts/context/#dockerignore-files. Left out: contexts that are archives, git
repositories or URLs.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath


class BuildContextError(Exception):
    """A context that cannot be read, in words for the user."""


@dataclass(frozen=True)
class BuildContext:
    """`dockerfile` and `root` as the user gave them, relative to the working directory."""

    root: Path
    dockerfile: Path

    @cached_property
    def files(self) -> tuple[PurePosixPath, ...]:
        """Every file and symbolic link that a build may copy, relative to the root, in order."""
        if not self.root.is_dir():
            raise BuildContextError(f"build context {str(self.root)!r} is not a folder; `build.context` names it")
        return tuple(sorted(self._walk(ignore_patterns(self.dockerfile, self.root))))

    def digest(self) -> str:
        """Changes when a file's name, mode or content does, or the Dockerfile: what a build could see (hexadecimal)."""
        sum_ = hashlib.sha256()
        # Under one name whatever it is called: only what it says has an effect.
        for name, path in [
            ("Dockerfile", self.dockerfile),
            *((str(file), self.root / file) for file in self.files),
        ]:
            mode, content = read_entry(path)
            for part in (name.encode(), oct(mode).encode(), hashlib.sha256(content).digest()):
                sum_.update(len(part).to_bytes(8, "big") + part)
        return sum_.hexdigest()

    def _walk(self, patterns: Sequence[_Pattern]) -> Iterator[PurePosixPath]:
        for folder, folders, names in os.walk(self.root):
            links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
            for name in (*names, *links):
                path = PurePosixPath(Path(folder, name).relative_to(self.root).as_posix())
                if not _ignored(path, patterns):
                    yield path


def read_entry(path: Path) -> tuple[int, bytes]:
    """Permission bits and content of a file; of a symbolic link what it points to.

    Raises `BuildContextError` when it is neither or cannot be read.
    """
    try:
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            return 0o777, os.readlink(path).encode()
        if not stat.S_ISREG(mode):
            raise BuildContextError(f"{str(path)!r} in the build context is neither a file nor a link")
        return stat.S_IMODE(mode), path.read_bytes()
    except OSError as error:
        raise BuildContextError(f"cannot read {str(path)!r} of the build context: {error.strerror}") from error


@dataclass(frozen=True)
class _Pattern:
    expression: re.Pattern[str]
    #: Whether it begins with `!` and so lets in again what an earlier one keeps out.
    exception: bool


def ignore_patterns(dockerfile: Path, root: Path) -> tuple[_Pattern, ...]:
    """Of `DOCKERFILE.dockerignore`, or else of the context's own `.dockerignore`."""
    for path in (dockerfile.with_name(dockerfile.name + ".dockerignore"), root / ".dockerignore"):
        try:
            lines = path.read_text().lstrip("\ufeff").splitlines()
        except FileNotFoundError:
            continue
        return tuple(pattern for line in lines if (pattern := _pattern(line)) is not None)
    return ()


def _pattern(line: str) -> _Pattern | None:
    line = line.strip() if not line.startswith("#") else ""
    exception = line.startswith("!")
    cleaned = os.path.normpath(line.removeprefix("!").strip() or ".").lstrip("/")
    if not line or cleaned == ".":
        return None
    return _Pattern(re.compile(glob_expression(cleaned)), exception)


def glob_expression(pattern: str) -> str:
    """Go's filepath.Match with Docker's `**` (any number of folders) as a regular expression."""
    text = ""
    index = 0
    while index < len(pattern):
        if pattern.startswith("**/", index):
            text += "(?:.*/)?"
            index += 3
        elif pattern.startswith("**", index):
            text += ".*"
            index += 2
        elif pattern[index] == "*":
            text += "[^/]*"
            index += 1
        elif pattern[index] == "?":
            text += "[^/]"
            index += 1
        elif pattern[index] == "[" and (end := pattern.find("]", index + 2)) > 0:
            text += "[" + pattern[index + 1 : end].replace("\\", "\\\\") + "]"
            index = end + 1
        else:
            index += pattern[index] == "\\" and index + 1 < len(pattern)
            text += re.escape(pattern[index])
            index += 1
    return text


def _ignored(path: PurePosixPath, patterns: Sequence[_Pattern]) -> bool:
    """The last pattern that matches the path, or a folder that it is in, decides."""
    candidates = [str(path), *(str(parent) for parent in path.parents if str(parent) != ".")]
    ignored = False
    for pattern in patterns:
        if pattern.exception == ignored and any(pattern.expression.fullmatch(each) for each in candidates):
            ignored = not pattern.exception
    return ignored
