"""The sandbox's own certificate authorities: TLS for its API server and its node agent, the service account key, and the
identity by which the API server speaks for its users to the API servers behind it (aggregation).

Everything is made fresh for each cluster and lives in its state folder only; nothing here protects more than loopback.
"""

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


def _issue(authority: str, name: str, identities: tuple[str, ...], ca_file: Path, certificate_file: Path, key_file: Path) -> None:
    ca_file.parent.mkdir(parents=True, exist_ok=True)
    ca = trustme.CA(organization_unit_name=authority)
    issued = ca.issue_cert(*identities, common_name=name)
    ca.cert_pem.write_to_path(ca_file)
    issued.cert_chain_pems[0].write_to_path(certificate_file)
    _write_key(key_file, issued.private_key_pem)


def _write_key(path: Path, key: trustme.Blob) -> None:
    path.touch(mode=0o600)
    key.write_to_path(path)
