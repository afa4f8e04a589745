"""Whether the project has a billing account that is open."""

from __future__ import annotations

from ops.findings import Finding, failed, ok
from ops.preflight.context import Check, Context

_WHAT = "Billing account of the project"


def _run(context: Context) -> list[Finding]:
    answer = context.google.get("cloudbilling", f"v1/projects/{context.project}/billingInfo")
    if answer.get("billingEnabled"):
        return [ok(_WHAT, f"{answer.get('billingAccountName') or 'one'} is linked and open")]
    if answer.get("billingAccountName"):
        cause = f"{answer['billingAccountName']} is linked and closed"
        fix = f"https://console.cloud.google.com/billing/linkedaccount?project={context.project}"
    else:
        cause = "no account is linked"
        fix = f"gcloud billing projects link {context.project} --billing-account=ACCOUNT_ID"
    return [failed(_WHAT, "billing is off, so GKE refuses the cluster", reason=cause, fix=fix)]


CHECK = Check(name="billing", title=_WHAT, needs=("credentials",), run=_run)
