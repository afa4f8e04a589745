"""Images as registries keep them: unpacked layer by layer, checked by digest."""

import gzip
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from sandbox.images.image_store import ImageConfig
from sandbox.images.oci_image import OciImageError, digest_of, unpack

DECLARED = ImageConfig(base_image="docker.io/base:1", platform="linux/amd64", entrypoint=("/declared",), user="nobody")


class Blobs(dict[str, bytes]):
    def put(self, content: Any) -> str:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self[digest_of(data)] = data
        return digest_of(data)

    def image(self, *layers: bytes, config: dict[str, Any] | None = None) -> str:
        return self.put(
            {"config": {"digest": self.put({"config": config or {}})}, "layers": [{"digest": self.put(layer)} for layer in layers]}
        )


def layer(*entries: tuple[str, bytes | str | None], mode: int = 0o644) -> bytes:
    """A tar file: bytes make a file, None a folder, text a symbolic link to it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in entries:
            member = tarfile.TarInfo(name)
            member.mode = mode
            if isinstance(content, bytes):
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
                continue
            member.type = tarfile.DIRTYPE if content is None else tarfile.SYMTYPE
            member.linkname = content or ""
            member.mode = 0o755
            archive.addfile(member)
    return buffer.getvalue()


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


def test_later_layers_lie_over_earlier_ones_whether_compressed_or_not(tmp_path: Path) -> None:
    blobs = Blobs()
    digest = blobs.image(layer(("etc", None), ("etc/a", b"1"), ("etc/b", b"1")), gzip.compress(layer(("etc/b", b"2"), ("c", b"3"))))
    unpack(digest, blobs.__getitem__, tmp_path, DECLARED)
    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == {"etc/a": b"1", "etc/b": b"2", "c": b"3"}


@pytest.mark.parametrize("content", [b"no JSON", b"[]", b"{}"])
def test_what_is_not_a_manifest_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(OciImageError):
        unpack(digest_of(content), lambda digest: content, tmp_path, DECLARED)


def test_a_layer_that_takes_files_away_is_refused(tmp_path: Path) -> None:
    blobs = Blobs()
    with pytest.raises(OciImageError, match=r"takes etc/\.wh\.gone away, which only RUN does"):
        unpack(blobs.image(layer(("etc/.wh.gone", b""))), blobs.__getitem__, tmp_path, DECLARED)


def test_configuration_is_the_image_s_and_the_base_s_name_the_declared(tmp_path: Path) -> None:
    blobs = Blobs()
    given = {
        "Entrypoint": ["/run"],
        "Cmd": ["a b"],
        "Env": ["A=1=2"],
        "Labels": {"l": "v"},
        "WorkingDir": "/srv",
        "User": "1000",
        "StopSignal": "SIGINT",
        "ExposedPorts": {"8000/tcp": {}},
    }
    assert unpack(blobs.image(config=given), blobs.__getitem__, tmp_path, DECLARED) == ImageConfig(
        base_image="docker.io/base:1",
        platform="linux/amd64",
        entrypoint=("/run",),
        cmd=("a b",),
        env={"A": "1=2"},
        labels={"l": "v"},
        workdir="/srv",
        user="1000",
        stop_signal="SIGINT",
    )


def test_index_leads_to_the_manifest_of_the_platform(tmp_path: Path) -> None:
    blobs = Blobs()
    entries = [
        {"digest": blobs.image(layer((machine, b""))), "platform": {"os": "linux", "architecture": machine}}
        for machine in ("arm64", "amd64")
    ]
    unpack(blobs.put({"manifests": entries}), blobs.__getitem__, tmp_path, DECLARED)
    assert names(tmp_path) == {"amd64"}
    with pytest.raises(OciImageError, match="no manifest for linux/amd64, only for linux/arm64"):
        unpack(blobs.put({"manifests": entries[:1]}), blobs.__getitem__, tmp_path, DECLARED)


def test_content_that_is_not_what_its_digest_says_is_refused(tmp_path: Path) -> None:
    blobs = Blobs()
    digest = blobs.image(layer(("a", b"")))
    for name, content in list(blobs.items()):
        changed = {**blobs, name: content + b" "}
        with pytest.raises(OciImageError, match=f"what was read as {name} has the digest"):
            unpack(digest, changed.__getitem__, tmp_path, DECLARED)


def test_what_would_land_outside_is_refused(tmp_path: Path) -> None:
    blobs = Blobs()
    inside = tmp_path / "rootfs"
    inside.mkdir()
    with pytest.raises(OciImageError):
        unpack(blobs.image(layer(("../evil", b""))), blobs.__getitem__, inside, DECLARED)
    with pytest.raises(OciImageError):
        unpack(blobs.image(layer(("way", str(tmp_path)), ("way/evil", b""))), blobs.__getitem__, inside, DECLARED)
    assert not (tmp_path / "evil").exists()
