"""Finding the programs of an image, and the PATH and working directory of what runs in it."""

import os
from collections.abc import Sequence
from pathlib import Path

_SYSTEM_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")


def search_path(rootfs: Path, program_folders: Sequence[Path], image_path: str | None) -> str:
    """The image's own folders first, then the model server's, then this machine's usual folders."""
    wanted = [each for each in (image_path or "").split(os.pathsep) if each.startswith("/")] or list(_SYSTEM_PATH)
    own = [rootfs / each.lstrip("/") for each in wanted]
    folders = [*(str(each) for each in own if each.is_dir()), *map(str, program_folders), *wanted, *_SYSTEM_PATH]
    return os.pathsep.join(dict.fromkeys(folders))


def in_image(rootfs: Path, words: Sequence[str]) -> list[str]:
    """A command line whose program, when it is named by a path that the image has, is the image's."""
    program, *arguments = words
    if program.startswith("/"):
        candidate = rootfs / program.lstrip("/")
        if candidate.exists():
            program = str(candidate)
    return [program, *arguments]


def working_directory(rootfs: Path, folder: str, fallback: Path) -> Path:
    """The image's folder of that name; the container's own folder stands for `/` and for what only a base layer has."""
    candidate = rootfs / folder.lstrip("/")
    if folder.strip("/") and candidate.is_dir():
        return candidate
    return fallback
