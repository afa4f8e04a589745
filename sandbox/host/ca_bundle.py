"""Trust in the sandbox's own certificate authority, for clients whose kubeconfig names none.

The DNS endpoint of a GKE cluster has a certificate of a public authority, so its kubeconfig carries no certificate and every client goes by
the machine's own trust. The sandbox's certificate is its own: here it joins the machine's, in a file that SSL_CERT_FILE names
for the sandbox's processes alone. Go programs and Python's TLS read that variable.
"""

import ssl
from collections.abc import Mapping
from pathlib import Path

import certifi

from sandbox.host.state_files import write_text

VARIABLE = "SSL_CERT_FILE"


def make_bundle(bundle: Path, environment: Mapping[str, str]) -> None:
    """The machine's certificates, or what SSL_CERT_FILE names in their place; what is there stays."""
    if bundle.exists():
        return
    named = [environment.get(VARIABLE), ssl.get_default_verify_paths().cafile, certifi.where()]
    source = next(path for path in map(Path, filter(None, named)) if path.exists() and path != bundle)
    bundle.parent.mkdir(parents=True, exist_ok=True)
    # Half of one would stay for good.
    write_text(bundle, source.read_text())


def add_authority(bundle: Path, authority: Path) -> None:
    """Adds a certificate (PEM) once."""
    certificate, known = authority.read_text(), bundle.read_text()
    if certificate not in known:
        write_text(bundle, f"{known.rstrip()}\n{certificate}")
