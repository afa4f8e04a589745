"""The sandbox's own certificate authorities: TLS for its API server and its node agent, the service account key, and the
identity by which the API server speaks for its users to the API servers behind it (aggregation).

Everything is made fresh for each cluster and lives in its state folder only; nothing here protects more than loopback.
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import trustme


@dataclass(frozen=True, kw_only=True)
class Certificates:
    """PEM files of one cluster."""

    ca: Path
    server: Path
    server_key: Path
    service_account_key: Path


@dataclass(frozen=True, kw_only=True)
class FrontProxyCertificates:
    """PEM files of the API server as a proxy to other API servers, which trust every client with a certificate of this CA."""

    ca: Path
    client: Path
    client_key: Path


#: The only common name that such a certificate may have.
FRONT_PROXY_NAME = "front-proxy-client"


def make_front_proxy_certificates(folder: Path) -> FrontProxyCertificates:
    """Makes a CA of its own, as Kubernetes asks for, and the one client certificate; existing files are kept."""
    files = FrontProxyCertificates(
        ca=folder / "front-proxy-ca.crt", client=folder / "front-proxy-client.crt", client_key=folder / "front-proxy-client.key"
    )
    if not all(path.exists() for path in astuple(files)):
        # Go refuses a certificate without any identity in its critical extension for them.
        _issue("sandbox-front-proxy-ca", FRONT_PROXY_NAME, (FRONT_PROXY_NAME,), files.ca, files.client, files.client_key)
    return files


def make_certificates(folder: Path, *, names: tuple[str, ...], addresses: tuple[str, ...]) -> Certificates:
    """Makes a CA and one server certificate for the given DNS names and IP addresses; existing files are kept."""
    files = Certificates(
        ca=folder / "ca.crt",
        server=folder / "server.crt",
        server_key=folder / "server.key",
        service_account_key=folder / "service-account.key",
    )
    if not all(path.exists() for path in astuple(files)):
        _issue("sandbox-ca", "sandbox", (*names, *addresses), files.ca, files.server, files.server_key)
        _write_key(files.service_account_key, trustme.CA().private_key_pem)
    return files


def gateway_authority(folder: Path) -> Path:
    """The CA of one cluster's gateways, which is made where there is none: it stands for a public one, and issues at any time."""
    certificate = folder / "ca.crt"
    if not certificate.exists():
        folder.mkdir(parents=True, exist_ok=True)
        ca = trustme.CA(organization_unit_name="sandbox-gateway-ca")
        write_pair(certificate, folder / "ca.key", ca.cert_pem, ca.private_key_pem)
    return certificate


def issue_for(folder: Path, names: Sequence[str], certificate_file: Path, key_file: Path) -> None:
    """A certificate for DNS names, by `gateway_authority`."""
    ca = trustme.CA.from_pem(gateway_authority(folder).read_bytes(), (folder / "ca.key").read_bytes())
    issued = ca.issue_cert(*names, common_name=names[0])
    write_pair(certificate_file, key_file, issued.cert_chain_pems[0], issued.private_key_pem)


def write_pair(certificate_file: Path, key_file: Path, certificate: trustme.Blob, key: trustme.Blob) -> None:
    certificate.write_to_path(certificate_file)
    _write_key(key_file, key)


def _issue(authority: str, name: str, identities: tuple[str, ...], ca_file: Path, certificate_file: Path, key_file: Path) -> None:
    ca_file.parent.mkdir(parents=True, exist_ok=True)
    ca = trustme.CA(organization_unit_name=authority)
    issued = ca.issue_cert(*identities, common_name=name)
    ca.cert_pem.write_to_path(ca_file)
    write_pair(certificate_file, key_file, issued.cert_chain_pems[0], issued.private_key_pem)


def _write_key(path: Path, key: trustme.Blob) -> None:
    path.touch(mode=0o600)
    key.write_to_path(path)
