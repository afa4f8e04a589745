"""Whom the sandbox's programs trust."""

import ssl
from pathlib import Path

from sandbox.host import ca_bundle
from sandbox.host.certificates import Certificates


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
