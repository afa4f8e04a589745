"""Vendors' released programs, fetched over HTTPS and checked against the checksums that the vendors publish beside them.

Left out: signatures of the checksums, and any pin of a checksum here; a vendor's server is trusted as far as HTTPS goes.
"""

import hashlib
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

import requests
import urllib3
from requests.adapters import HTTPAdapter

from sandbox.toolchain.releases import DownloadError, Release

_SECONDS = (10.0, 60.0)
_RETRIES = urllib3.Retry(total=3, backoff_factor=1.0, status_forcelist=(429, 500, 502, 503, 504), raise_on_status=False)
_CHUNK = 1 << 18

#: What helps whatever went wrong.
_FIX = "Run the command again, or build the tools instead: leave TOOLS=download out."


def install(release: Release, names: list[str], target: Path, report: Callable[[float | None], None]) -> None:
    """Puts the programs of these names into the folder `target`; `report` is told the fraction. Raises `DownloadError`."""
    with requests.Session() as session:
        session.mount("https://", HTTPAdapter(max_retries=_RETRIES))
        wanted = _checksum(_get(session, release.checksums).text, release)
        archive = target / f".{release.file_name}.part"
        try:
            found = _save(session, release.url, archive, report)
            if found != wanted:
                raise DownloadError(
                    f"{release.url}: its SHA-256 is {found}, and {release.checksums} says {wanted}: the file is damaged, or not the "
                    f"vendor's, and is not used. {_FIX}"
                )
            _unpack(release, names, archive, target)
        finally:
            archive.unlink(missing_ok=True)


def _checksum(text: str, release: Release) -> str:
    for line in text.splitlines():
        digest, _, name = line.strip().partition(" ")
        if len(digest) == hashlib.sha256().digest_size * 2 and name.strip().lstrip("*") in ("", release.file_name):
            return digest.lower()
    raise DownloadError(f"{release.checksums}: it has no SHA-256 of {release.file_name}, so the download cannot be checked. {_FIX}")


def _get(session: requests.Session, url: str, *, stream: bool = False) -> requests.Response:
    try:
        response = session.get(url, timeout=_SECONDS, stream=stream)
    except requests.RequestException as error:
        raise DownloadError(
            f"{url}: no answer ({type(error).__name__}); is there a way to the internet, or a proxy to name? {_FIX}"
        ) from error
    if response.status_code != 200:
        raise DownloadError(f"{url}: the server answers {response.status_code} {response.reason}. {_FIX}")
    return response


def _save(session: requests.Session, url: str, path: Path, report: Callable[[float | None], None]) -> str:
    """The SHA-256 of what was saved."""
    digest = hashlib.sha256()
    with _get(session, url, stream=True) as response, path.open("wb") as file:
        size = int(response.headers.get("Content-Length") or 0)
        try:
            # As it was sent: of a file that is compressed for the way, the checksum would be another.
            while chunk := response.raw.read(_CHUNK, decode_content=False):
                digest.update(chunk)
                file.write(chunk)
                report(min(file.tell() / size, 0.99) if size else None)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise DownloadError(
                f"{url}: the connection broke off after {file.tell()} of {size or 'an unknown number of'} bytes. {_FIX}"
            ) from error
    return digest.hexdigest()


def _unpack(release: Release, names: list[str], archive: Path, target: Path) -> None:
    if not release.members:
        (name,) = names
        with archive.open("rb") as file:
            _place(file, target / name)
        return
    try:
        with tarfile.open(archive) as tar:
            for name in names:
                program = tar.extractfile(release.members[name])
                if program is None:
                    raise KeyError(release.members[name])
                _place(program, target / name)
    except (tarfile.TarError, KeyError, EOFError) as error:
        raise DownloadError(f"{release.url}: it is not the archive that was expected ({error}). {_FIX}") from error


def _place(program: IO[bytes], path: Path) -> None:
    """Beside first, so that a program that runs keeps its file."""
    beside = path.with_name(f".{path.name}.new")
    with beside.open("wb") as file:
        shutil.copyfileobj(program, file)
    beside.chmod(0o755)
    beside.replace(path)
