"""The identity by which the API server speaks to the API servers behind it."""

from __future__ import annotations

import stat
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sandbox.host.certificates import FRONT_PROXY_NAME, make_certificates, make_front_proxy_certificates


def test_the_front_proxy_is_a_client_of_the_one_name_that_counts_and_its_ca_is_its_own(tmp_path: Path) -> None:
    files = make_front_proxy_certificates(tmp_path)
    ca, client = (x509.load_pem_x509_certificate(path.read_bytes()) for path in (files.ca, files.client))
    client.verify_directly_issued_by(ca)
    (name,) = client.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert name.value == FRONT_PROXY_NAME
    usage = client.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert ExtendedKeyUsageOID.CLIENT_AUTH in usage
    assert stat.S_IMODE(files.client_key.stat().st_mode) == 0o600
    # A certificate of the cluster's own CA must not speak for others.
    cluster = make_certificates(tmp_path, names=("localhost",), addresses=())
    assert cluster.ca.read_bytes() != files.ca.read_bytes()


def test_a_control_plane_that_is_started_again_keeps_its_front_proxy(tmp_path: Path) -> None:
    before = make_front_proxy_certificates(tmp_path).client.read_bytes()
    assert make_front_proxy_certificates(tmp_path).client.read_bytes() == before
