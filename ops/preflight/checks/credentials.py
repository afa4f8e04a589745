"""Whether there are Application Default Credentials, and whether Google still takes them."""

from __future__ import annotations

from ops.findings import Finding, failed, ok
from ops.preflight.calls import CallFailed
from ops.preflight.context import LOGIN, Check, Context, explain
from ops.preflight.google import NO_CREDENTIALS

_WHAT = "Application Default Credentials"


def _run(context: Context) -> list[Finding]:
    try:
        identity = context.google.authenticate()
    except CallFailed as failure:
        if failure.reason != "credentials":
            return [explain(failure, _WHAT, context)]
        if failure.service != NO_CREDENTIALS:
            finding = "expired or revoked: Google gives no token for them"
        else:
            finding = "there are none" if "not found" in failure.message else "cannot be used"
        fix = f"{LOGIN}  (in CI: Workload Identity Federation, or GOOGLE_APPLICATION_CREDENTIALS)"
        return [failed(_WHAT, finding, reason=failure.message, fix=fix)]
    return [ok(_WHAT, f"{identity.kind}, and Google gives a token for it")]


CHECK = Check(name="credentials", title=_WHAT, run=_run)
