"""Whether the project has a billing account that is open."""

from __future__ import annotations

from ops.preflight.context import Check, Context
from ops.preflight.report import Finding, failed, ok

_WHAT = "Billing account of the project"


def _run(context: Context) -> list[Finding]:
    answer = context.google.call("cloudbilling", lambda client: client.projects().getBillingInfo(name=f"projects/{context.project}"))
    if answer.get("billingEnabled"):
        return [ok(_WHAT, f"{answer.get('billingAccountName') or 'one'} is linked and open")]
    if answer.get("billingAccountName"):
        cause = f"{answer['billingAccountName']} is linked and closed"
        cure = f"https://console.cloud.google.com/billing/linkedaccount?project={context.project}"
    else:
        cause = "no account is linked"
        cure = f"gcloud billing projects link {context.project} --billing-account=ACCOUNT_ID"
    return [failed(_WHAT, "billing is off, so GKE refuses the cluster", cause=cause, cure=cure)]


CHECK = Check(name="billing", title=_WHAT, needs=("credentials",), run=_run)
