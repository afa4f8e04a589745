"""A build context: every file of a folder, or those that its .dockerignore lists.

Left out: a .dockerignore that is not a list of what is let in, and contexts that are archives, repositories or URLs.
"""

import hashlib
import re
import stat
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath


class BuildContextError(Exception):
    """A context that cannot be read; the message says why."""


@dataclass(frozen=True)
class BuildContext:
    """`dockerfile` and `root` as the user gave them, relative to the working directory."""

    root: Path
    dockerfile: Path

    @cached_property
    def files(self) -> tuple[PurePosixPath, ...]:
        """Every file that a build may copy, links apart, relative to the root and in order. Raises `BuildContextError`."""
        if not self.root.is_dir():
            raise BuildContextError(f"build context {str(self.root)!r} is not a folder; `build.context` names it")
        files = (path for path in self.root.rglob("*") if path.is_file() and not path.is_symlink())
        paths = sorted(PurePosixPath(path.relative_to(self.root).as_posix()) for path in files)
        allowed = self._allowed()
        return tuple(path for path in paths if allowed is None or any(path.is_relative_to(each) for each in allowed))

    def _allowed(self) -> list[str] | None:
        """The files and folders that .dockerignore lets in; None where there is none, and everything is let in."""
        if (other := self.dockerfile.with_name(f"{self.dockerfile.name}.dockerignore")).exists():
            raise BuildContextError(f"{other} is not read: name {self.root / '.dockerignore'} so")
        ignore = self.root / ".dockerignore"
        if not ignore.exists():
            return None
        first, *rest = [line for line in map(str.strip, ignore.read_text().splitlines()) if line and not line.startswith("#")] or [""]
        if first != "*" or not all(re.fullmatch(r"![\w.-]+(/[\w.-]+)*", line) for line in rest):
            raise BuildContextError(f"{ignore} is not a list of what is let in: write `*` and then a line `!NAME` for each file or folder")
        return [line.removeprefix("!") for line in rest]

    def digest(self) -> str:
        """Changes when a file's name, mode or content does, or the Dockerfile (hexadecimal)."""
        digest = hashlib.sha256()
        # The Dockerfile has one name whatever it is called: only its content has an effect.
        for name, path in [("Dockerfile", self.dockerfile), *((str(file), self.root / file) for file in self.files)]:
            try:
                mode, content = stat.S_IMODE(path.stat().st_mode), path.read_bytes()
            except OSError as error:
                raise BuildContextError(f"cannot read {str(path)!r} of the build context: {error.strerror}") from error
            digest.update(f"{len(name)}\0{name}\0{mode:o}\0".encode() + hashlib.sha256(content).digest())
        return digest.hexdigest()
