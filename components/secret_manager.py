"""Secrets kept in Secret Manager: read when the program runs, and Pulumi secrets from then on.

The value goes where Pulumi's own encrypted setting would: into a Kubernetes Secret and, encrypted, into the stack's state. That
needs neither a driver in the cluster nor an identity of the pods; docs/hardening.md compares the other ways. The next `pulumi up`
picks up a new version. Left out: making the secret, which must exist before the stack.
"""

from __future__ import annotations

import pulumi
import pulumi_gcp
from pulumi_gcp import secretmanager

from components.settings.secret_reference import SecretReference


def value_of(value: pulumi.Input[str], reference: SecretReference | None, gcp: pulumi_gcp.Provider) -> pulumi.Input[str]:
    """The value that Secret Manager holds if there is a reference, else the given value."""
    if reference is None:
        return value
    found = secretmanager.get_secret_version_output(
        project=reference.project, secret=reference.secret, version=reference.version, opts=pulumi.InvokeOutputOptions(provider=gcp)
    )
    return pulumi.Output.secret(found.secret_data)
