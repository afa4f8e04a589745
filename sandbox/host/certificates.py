"""The sandbox's own certificate authorities: TLS for its API server and its node agent, the service account key, and the
identity by which the API server speaks for its users to the API servers behind it (aggregation).

Everything is made fresh for each cluster and lives in its state folder only; nothing here protects more than loopback.
"""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_VALIDITY = datetime.timedelta(days=365)


@dataclass(frozen=True, kw_only=True)
class Certificates:
    """PEM files of one cluster."""

    ca: Path
    server: Path
    server_key: Path
    service_account_key: Path


@dataclass(frozen=True, kw_only=True)
class FrontProxyCertificates:
    """PEM files of the API server as a proxy to other API servers; they trust whoever has this CA's certificate."""

    ca: Path
    client: Path
    client_key: Path


#: The only name that such a certificate may have.
FRONT_PROXY_NAME = "front-proxy-client"


def make_front_proxy_certificates(folder: Path) -> FrontProxyCertificates:
    """Makes a CA of its own, as Kubernetes asks for, and the one client certificate; existing files are kept."""
    files = FrontProxyCertificates(
        ca=folder / "front-proxy-ca.crt",
        client=folder / "front-proxy-client.crt",
        client_key=folder / "front-proxy-client.key",
    )
    if all(path.exists() for path in (files.ca, files.client, files.client_key)):
        return files
    folder.mkdir(parents=True, exist_ok=True)
    ca_key, client_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sandbox-front-proxy-ca")])
    client_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, FRONT_PROXY_NAME)])
    client = (
        _builder(client_name, ca_name, client_key.public_key())
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    files.ca.write_bytes(_authority(ca_name, ca_key).public_bytes(serialization.Encoding.PEM))
    files.client.write_bytes(client.public_bytes(serialization.Encoding.PEM))
    _write_key(files.client_key, client_key)
    return files


def make_certificates(folder: Path, *, names: tuple[str, ...], addresses: tuple[str, ...]) -> Certificates:
    """Makes a CA and one server certificate for the given DNS names and IP addresses; existing files are kept."""
    files = Certificates(
        ca=folder / "ca.crt",
        server=folder / "server.crt",
        server_key=folder / "server.key",
        service_account_key=folder / "service-account.key",
    )
    if all(path.exists() for path in (files.ca, files.server, files.server_key, files.service_account_key)):
        return files
    folder.mkdir(parents=True, exist_ok=True)
    ca_key, server_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sandbox-ca")])
    ca = _authority(ca_name, ca_key)
    server = (
        _builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sandbox")]), ca_name, server_key.public_key())
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.DNSName(name) for name in names] + [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
            ),
            critical=False,
        )
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    files.ca.write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    files.server.write_bytes(server.public_bytes(serialization.Encoding.PEM))
    _write_key(files.server_key, server_key)
    _write_key(files.service_account_key, ec.generate_private_key(ec.SECP256R1()))
    return files


def _authority(name: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    return (
        _builder(name, name, key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )


def _builder(subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + _VALIDITY)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    path.touch(mode=0o600)
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
    )
