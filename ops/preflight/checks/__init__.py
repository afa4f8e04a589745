"""Every check, in the order of the report."""

from ops.preflight.checks import (
    apis,
    billing,
    credentials,
    gateway,
    images,
    machines,
    model,
    names,
    network,
    permissions,
    quotas,
    secrets,
    versions,
)
from ops.preflight.context import Check

CHECKS: tuple[Check, ...] = (
    credentials.CHECK,
    apis.CHECK,
    permissions.CHECK,
    billing.CHECK,
    machines.CHECK,
    quotas.CHECK,
    versions.CHECK,
    names.CHECK,
    network.CHECK,
    secrets.CHECK,
    gateway.CHECK,
    images.CHECK,
    model.CHECK,
)
