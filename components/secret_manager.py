"""Secrets whose home is Secret Manager: read when the program runs, and secret from then on.

The value goes where Pulumi's own encrypted setting would: into a Kubernetes Secret, and encrypted into the stack's state. That
needs no driver in the cluster and no identity of the pods; docs/hardening.md weighs the other ways. A new version is picked up by the
next `pulumi up`. Left out: making the secret, which must be there before the stack.
"""

from __future__ import annotations

import pulumi
import pulumi_gcp
from pulumi_gcp import secretmanager

from components.settings.secret_reference import SecretReference


def value_of(value: pulumi.Input[str], reference: SecretReference | None, gcp: pulumi_gcp.Provider) -> pulumi.Input[str]:
    """What Secret Manager holds where there is a reference, else the value as it is."""
    if reference is None:
        return value
    found = secretmanager.get_secret_version_output(
        project=reference.project,
        secret=reference.secret,
        version=reference.version,
        opts=pulumi.InvokeOutputOptions(provider=gcp),
    )
    return pulumi.Output.secret(found.secret_data)
