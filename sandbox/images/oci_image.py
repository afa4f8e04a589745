"""Reads an image as registries keep it (OCI image specification 1.1): its manifest, configuration and layers.

Left out: layers compressed with anything but gzip or that take files away, owners and device files (the sandbox runs without root), and
signatures; what is read is checked by its digest.
"""

import gzip
import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sandbox.images.image_store import ImageConfig

#: Reads a blob or a manifest by its digest.
Fetch = Callable[[str], bytes]

MANIFEST_TYPES = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)

_GZIP = b"\x1f\x8b"


class OciImageError(Exception):
    """An image that cannot be read, or that is not what its digest says."""


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def unpack(digest: str, fetch: Fetch, folder: Path, declared: ImageConfig) -> ImageConfig:
    """Unpacks all layers of the image into an empty folder and returns its configuration.

    `digest`: of a manifest, or of an index with a manifest for the platform of `declared`. `declared`: what an image's
    configuration does not hold (its base's name) is taken from it. Raises `OciImageError`.
    """
    manifest = _document(digest, fetch)
    if "manifests" in manifest:
        manifest = _document(_for_platform(manifest, declared.platform), fetch)
    try:
        config = _document(manifest["config"]["digest"], fetch)
        for layer in manifest["layers"]:
            _apply(_checked(layer["digest"], fetch), folder)
    except (KeyError, TypeError) as error:
        raise OciImageError(f"image {digest} has a manifest that is not an image's: {error!r} is missing") from error
    except (tarfile.TarError, gzip.BadGzipFile, EOFError) as error:
        raise OciImageError(f"image {digest} has a layer that cannot be unpacked: {error}") from error
    return _config(config, declared)


def _checked(digest: str, fetch: Fetch) -> bytes:
    content = fetch(digest)
    if digest_of(content) != digest:
        raise OciImageError(f"what was read as {digest} has the digest {digest_of(content)}")
    return content


def _document(digest: str, fetch: Fetch) -> dict[str, Any]:
    try:
        document = json.loads(_checked(digest, fetch))
    except ValueError as error:
        raise OciImageError(f"{digest} is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise OciImageError(f"{digest} is not a JSON object")
    return document


def _for_platform(index: Mapping[str, Any], platform: str) -> str:
    known = {}
    for entry in index["manifests"]:
        given = entry.get("platform") or {}
        known["/".join(filter(None, (given.get("os"), given.get("architecture"), given.get("variant"))))] = entry
    if platform not in known:
        raise OciImageError(f"the image has no manifest for {platform}, only for {', '.join(sorted(known))}")
    return str(known[platform]["digest"])


def _apply(layer: bytes, folder: Path) -> None:
    """One layer over what is there."""
    content = gzip.decompress(layer) if layer.startswith(_GZIP) else layer
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        for member in archive:
            path = folder / member.name.lstrip("/")
            if path.name.startswith(".wh."):
                raise OciImageError(f"a layer takes {member.name} away, which only RUN does: put what RUN makes into a file and COPY that")
            elif member.isdir() or member.isreg() or member.issym() or member.islnk():
                if path.is_symlink() or (path.exists() and not (path.is_dir() and member.isdir())):
                    _remove(path)
                # Refuses what would land outside the folder.
                archive.extract(member, folder, filter="tar")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _config(document: Mapping[str, Any], declared: ImageConfig) -> ImageConfig:
    given = document.get("config") or {}
    return replace(
        declared,
        entrypoint=tuple(given.get("Entrypoint") or ()),
        cmd=tuple(given.get("Cmd") or ()),
        env=dict(variable.split("=", 1) for variable in given.get("Env") or ()),
        labels=dict(given.get("Labels") or {}),
        workdir=given.get("WorkingDir") or "/",
        user=given.get("User") or "",
        stop_signal=given.get("StopSignal") or "SIGTERM",
    )
