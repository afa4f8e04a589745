"""Vendors' releases, from a server of the test's own: what is installed, and what each fault says."""

import hashlib
import io
import tarfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from sandbox.toolchain import downloads
from sandbox.toolchain.releases import DownloadError, Release
from tests.unit.sandbox.helpers import running


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
    with running(Vendor()) as server:
        yield server


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


def _cut(vendor: Vendor) -> None:
    vendor.cut.add("/program")


def _end(vendor: Vendor) -> None:
    vendor.shutdown()
    vendor.server_close()


@pytest.mark.parametrize(
    ("goes_wrong", "checksums", "message"),
    [
        (
            lambda vendor: vendor.files.update({"/program": b"evil"}),
            None,
            r"/program: its SHA-256 is \w{64}, and .*/SHA256SUMS says \w{64}: .* is not used",
        ),
        (lambda vendor: vendor.files.pop("/program"), None, "/program: the server answers 404 Not Found. .* leave TOOLS=download out"),
        (lambda vendor: vendor.files.pop("/SHA256SUMS"), None, "/SHA256SUMS: the server answers 404 Not Found."),
        (_cut, None, "/program: the connection broke off after 10 of 5000 bytes"),
        (lambda vendor: None, f"{'0' * 64}  other\n", "SHA256SUMS: it has no SHA-256 of program"),
        (_end, None, "SHA256SUMS: no answer .* a way to the internet"),
    ],
    ids=["another checksum", "no program", "no checksums", "cut short", "not among the checksums", "no server"],
)
def test_a_download_that_goes_wrong_says_how_and_leaves_nothing(
    vendor: Vendor, tmp_path: Path, goes_wrong: Callable[[Vendor], object], checksums: str | None, message: str
) -> None:
    release = vendor.publish("program", b"x" * 5000, checksums)
    goes_wrong(vendor)
    with pytest.raises(DownloadError, match=message):
        install(release, tmp_path, "program")
    assert not list(tmp_path.iterdir())


def test_an_archive_without_the_program_is_refused(vendor: Vendor, tmp_path: Path) -> None:
    release = vendor.publish("etcd-v3.tar.gz", archive(etcdctl="a client"), etcd="etcd-v3/etcd")
    with pytest.raises(DownloadError, match="not the archive that was expected .*etcd-v3/etcd"):
        install(release, tmp_path, "etcd")
    assert not list(tmp_path.iterdir())
