"""The sandbox's container registry: images by digest and by tag, in a folder.

An image here is what a Dockerfile adds to its base: the files that COPY placed, and the configuration (entrypoint,
environment and so on). The base's own layers are left out, since no image can be pulled where the sandbox runs and its
programs have stand-ins; where a really pushed image is to be kept, its unpacked files go into the same `rootfs`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sandbox.host.state_files import write_text

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class ImageConfig:
    """What an image says about running it; names as in the OCI image configuration."""

    base_image: str
    platform: str
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    #: What the Dockerfile's ENV instructions set, without the base's.
    env: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    workdir: str = "/"
    user: str = ""
    #: Empty for the default, SIGTERM.
    stop_signal: str = ""

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> ImageConfig:
        values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in document.items()}
        return cls(**values)


@dataclass(frozen=True)
class StoredImage:
    """An image that can be run."""

    #: `sha256:...`.
    digest: str
    #: The files of the image, at the paths that they have in it.
    rootfs: Path
    config: ImageConfig


class ImageStore:
    """Images in a folder; safe for several threads, and for a process that ends at any moment."""

    def __init__(self, root: Path, published: Mapping[str, StoredImage] | None = None) -> None:
        """`root` comes into being with the first image; `published` are images by repository, of any tag or digest."""
        self._root = root
        self._published = published or {}
        self._lock = threading.Lock()

    def add(self, *, repository: str, tag: str | None, config: ImageConfig, rootfs: Path, digest: str | None = None) -> StoredImage:
        """Takes an image in, which may be there already, and points the tag at it.

        `repository`: the name without tag, `REGISTRY/PATH`. `rootfs`: a folder with the image's files, which is copied.
        `digest`: that of its manifest in a registry; by default that of what is in it.
        """
        digest = digest or content_digest(config, rootfs)
        with self._lock:
            folder = self._folder(digest)
            if not folder.exists():
                self._keep(folder, config, rootfs)
            tags = self._tags()
            tags.setdefault(repository, {})
            if tag is not None:
                tags[repository][tag] = digest
            tags[repository][f"@{digest}"] = digest
            self._write_tags(tags)
        return StoredImage(digest, folder / "rootfs", config)

    def resolve(self, reference: str) -> StoredImage | None:
        """The image that `REPOSITORY@sha256:...`, `REPOSITORY:TAG` or `REPOSITORY` (its `latest`) names; None if it is not here."""
        repository, tag, digest = split_reference(reference)
        with self._lock:
            known = self._tags().get(repository, {})
        # A digest beats a tag beside it, as in any registry.
        found = known.get(f"@{digest}" if digest else tag or "latest")
        if found is None:
            return self._published.get(repository)
        folder = self._folder(found)
        config = ImageConfig.of(json.loads((folder / "config.json").read_text()))
        return StoredImage(found, folder / "rootfs", config)

    def is_published(self, reference: str) -> bool:
        """Whether others publish it, and the sandbox only has a program for it."""
        return split_reference(reference)[0] in self._published

    def _folder(self, digest: str) -> Path:
        return self._root / "by-digest" / digest.removeprefix("sha256:")

    def _keep(self, folder: Path, config: ImageConfig, rootfs: Path) -> None:
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Complete or not at all: the folder gets its name last.
        coming = Path(tempfile.mkdtemp(dir=folder.parent, prefix="coming-"))
        try:
            shutil.copytree(rootfs, coming / "rootfs", symlinks=True)
            (coming / "config.json").write_text(json.dumps(asdict(config), sort_keys=True, indent=1))
            coming.rename(folder)
        except BaseException:
            shutil.rmtree(coming, ignore_errors=True)
            raise

    def _tags(self) -> dict[str, dict[str, str]]:
        try:
            return dict(json.loads((self._root / "tags.json").read_text()))
        except FileNotFoundError:
            return {}

    def _write_tags(self, tags: Mapping[str, Mapping[str, str]]) -> None:
        write_text(self._root / "tags.json", json.dumps(tags, sort_keys=True, indent=1))


def content_digest(config: ImageConfig, rootfs: Path) -> str:
    """`sha256:...` of all that is in an image, and of nothing else (no dates, no owners of the machine that built it)."""
    digest = hashlib.sha256(json.dumps(asdict(config), sort_keys=True).encode())
    for path in sorted(rootfs.rglob("*")):
        status = path.lstat()
        digest.update(f"\0{path.relative_to(rootfs)}\0{stat.filemode(status.st_mode)}\0".encode())
        if path.is_symlink():
            digest.update(os.readlink(path).encode())
        elif path.is_file():
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return f"sha256:{digest.hexdigest()}"


def split_reference(reference: str) -> tuple[str, str | None, str | None]:
    """Repository, tag and digest of an image reference; tag and digest None where it has none.

    Raises `ValueError` for a malformed digest.
    """
    name, _, digest = reference.partition("@")
    if digest and not _DIGEST.fullmatch(digest):
        raise ValueError(f"{reference!r} is not an image reference: its digest is not sha256 and 64 hexadecimal digits")
    head, separator, last = name.rpartition("/")
    # A colon before the last slash is a registry's port.
    last, _, tag = last.partition(":")
    return f"{head}{separator}{last}", tag or None, digest or None
