"""Where vendors publish their released programs, and what checks them."""

import platform
from collections.abc import Mapping
from dataclasses import dataclass

GITHUB = "https://github.com"
KUBERNETES = "https://dl.k8s.io"

#: How vendors name this machine's processor: Go's word, and Pulumi's.
GO_ARCH = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
PULUMI_ARCH = "x64" if GO_ARCH == "amd64" else GO_ARCH


class DownloadError(Exception):
    """A release could not be had, or is not what its vendor published; the message says which, why, and what to do."""


@dataclass(frozen=True, kw_only=True)
class Release:
    """One file of a vendor's release; `members` are the programs in it by their paths, empty for a file that is the program."""

    url: str
    #: URL of a file with lines `DIGEST  NAME`, or with only the digest (SHA-256).
    checksums: str
    members: Mapping[str, str]

    @property
    def file_name(self) -> str:
        return self.url.rsplit("/", 1)[1]
