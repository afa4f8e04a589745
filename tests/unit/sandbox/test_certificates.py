"""Whom the sandbox's programs trust: the API servers behind the API server, and the clients in front of it."""

from __future__ import annotations

import ssl
import stat
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sandbox.host import ca_bundle
from sandbox.host.certificates import FRONT_PROXY_NAME, Certificates, make_front_proxy_certificates


def test_the_front_proxy_is_a_client_of_the_one_name_that_counts_and_its_ca_is_its_own(tmp_path: Path, certificates: Certificates) -> None:
    files = make_front_proxy_certificates(tmp_path)
    ca, client = (x509.load_pem_x509_certificate(path.read_bytes()) for path in (files.ca, files.client))
    client.verify_directly_issued_by(ca)
    (name,) = client.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert name.value == FRONT_PROXY_NAME
    usage = client.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert ExtendedKeyUsageOID.CLIENT_AUTH in usage
    assert stat.S_IMODE(files.client_key.stat().st_mode) == 0o600
    # A certificate of the cluster's own CA must not speak for others.
    assert certificates.ca.read_bytes() != files.ca.read_bytes()


def test_a_control_plane_that_is_started_again_keeps_its_front_proxy(tmp_path: Path) -> None:
    before = make_front_proxy_certificates(tmp_path).client.read_bytes()
    assert make_front_proxy_certificates(tmp_path).client.read_bytes() == before


def test_the_sandbox_s_authority_joins_the_machine_s_once(tmp_path: Path, certificates: Certificates) -> None:
    bundle = tmp_path / "trust.pem"
    ca_bundle.make_bundle(bundle, {})
    before = bundle.read_text()
    ca_bundle.add_authority(bundle, certificates.ca)
    ca_bundle.add_authority(bundle, certificates.ca)
    assert bundle.read_text().startswith(before.rstrip())
    assert bundle.read_text().count(certificates.ca.read_text()) == 1
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(bundle)
    subjects = [str(known["subject"]) for known in context.get_ca_certs()]
    assert any("sandbox-ca" in each for each in subjects)
    assert len(subjects) > 1
