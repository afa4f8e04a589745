"""Vendors' releases, from a server of the test's own: what is installed, and what each fault says."""

from __future__ import annotations

import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from sandbox.toolchain import downloads
from sandbox.toolchain.releases import DownloadError, Release


class Vendor(ThreadingHTTPServer):
    """Serves `files` by their paths; a file of `cut` ends before its time."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.cut: set[str] = set()

    def publish(self, name: str, content: bytes, checksums: str | None = None, **members: str) -> Release:
        self.files[f"/{name}"] = content
        digest = hashlib.sha256(content).hexdigest()
        self.files["/SHA256SUMS"] = (checksums or f"{'0' * 64}  other\n{{digest}}  {name}\n").format(digest=digest).encode()
        base = f"http://127.0.0.1:{self.server_address[1]}"
        return Release(url=f"{base}/{name}", checksums=f"{base}/SHA256SUMS", members=members)


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        vendor: Any = self.server
        content = vendor.files.get(self.path)
        self.send_response(404 if content is None else 200)
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        self.wfile.write((content or b"")[: 10 if self.path in vendor.cut else None])

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def vendor() -> Iterator[Vendor]:
    server = Vendor()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def archive(**members: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, text in members.items():
            entry = tarfile.TarInfo(f"etcd-v3/{name}")
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text.encode()))
    return buffer.getvalue()


def install(release: Release, target: Path, *names: str) -> list[float | None]:
    told: list[float | None] = []
    downloads.install(release, list(names), target, told.append)
    return told


@pytest.mark.parametrize("checksums", [None, "{digest}\n", "{digest} *program\n"], ids=["of several files", "alone", "of a binary"])
def test_a_program_is_installed_when_its_checksum_is_the_published_one(vendor: Vendor, tmp_path: Path, checksums: str | None) -> None:
    release = vendor.publish("program", b"#!/bin/sh\n", checksums)
    (tmp_path / "program").write_text("an older one, which still runs")
    with (tmp_path / "program").open() as running:
        assert install(release, tmp_path, "program") == [0.99]
        assert running.read() == "an older one, which still runs"
    assert (tmp_path / "program").read_text() == "#!/bin/sh\n"
    assert (tmp_path / "program").stat().st_mode & 0o777 == 0o755
    assert [path.name for path in tmp_path.iterdir()] == ["program"]


def test_an_archives_programs_are_installed_and_nothing_else_of_it(vendor: Vendor, tmp_path: Path) -> None:
    release = vendor.publish("etcd-v3.tar.gz", archive(etcd="the server", etcdctl="a client"), etcd="etcd-v3/etcd")
    install(release, tmp_path, "etcd")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"etcd": "the server"}


def test_a_file_of_another_checksum_is_not_used(vendor: Vendor, tmp_path: Path) -> None:
    release = vendor.publish("program", b"good", "{digest}\n")
    vendor.files["/program"] = b"evil"
    with pytest.raises(DownloadError, match=r"/program: its SHA-256 is \w{64}, and .*/SHA256SUMS says \w{64}: .* is not used"):
        install(release, tmp_path, "program")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("missing", ["/program", "/SHA256SUMS"])
def test_a_release_that_is_not_there_is_named(vendor: Vendor, tmp_path: Path, missing: str) -> None:
    release = vendor.publish("program", b"good")
    del vendor.files[missing]
    with pytest.raises(DownloadError, match=f"{missing}: the server answers 404 Not Found. .* leave TOOLS=download out"):
        install(release, tmp_path, "program")
    assert not list(tmp_path.iterdir())


def test_a_download_that_breaks_off_says_how_far_it_came(vendor: Vendor, tmp_path: Path) -> None:
    release = vendor.publish("program", b"x" * 5000)
    vendor.cut.add("/program")
    with pytest.raises(DownloadError, match="/program: the connection broke off after 10 of 5000 bytes"):
        install(release, tmp_path, "program")
    assert not list(tmp_path.iterdir())


def test_a_release_without_a_checksum_of_its_own_is_not_used(vendor: Vendor, tmp_path: Path) -> None:
    release = vendor.publish("program", b"good", f"{'0' * 64}  other\n")
    with pytest.raises(DownloadError, match="SHA256SUMS: it has no SHA-256 of program"):
        install(release, tmp_path, "program")


def test_an_archive_without_the_program_is_refused(vendor: Vendor, tmp_path: Path) -> None:
    release = vendor.publish("etcd-v3.tar.gz", archive(etcdctl="a client"), etcd="etcd-v3/etcd")
    with pytest.raises(DownloadError, match="not the archive that was expected .*etcd-v3/etcd"):
        install(release, tmp_path, "etcd")
    assert not list(tmp_path.iterdir())


def test_a_server_that_cannot_be_reached_is_named(vendor: Vendor, tmp_path: Path) -> None:
    release = vendor.publish("program", b"good")
    vendor.shutdown()
    vendor.server_close()
    with pytest.raises(DownloadError, match="SHA256SUMS: no answer .* a way to the internet"):
        install(release, tmp_path, "program")
