"""Whether Hugging Face gives the model's files to the stack's token, or to everybody."""

from __future__ import annotations

from components.settings.stack_files import StackFileError
from ops.findings import Finding, failed, ok, skipped
from ops.preflight.calls import CallFailed
from ops.preflight.checks.secrets import value_of
from ops.preflight.context import Check, Context, explain
from ops.preflight.hugging_face import look_up
from ops.pulumi_command import PulumiError

_TITLE = "Model on Hugging Face"


def _run(context: Context) -> list[Finding]:
    model = context.settings.server.model
    what, page = f"model {model}", f"https://huggingface.co/{model}"
    token, unread = "", ""
    try:
        token = _token(context)
    except (PulumiError, StackFileError, CallFailed) as error:
        unread = str(error)
    try:
        found = look_up(context.web, model, token)
    except CallFailed as failure:
        if failure.reason == "not-found":
            return [failed(what, "cannot be served", reason=failure.message, fix=f"look at {page}/tree/main, and set `model`")]
        return [explain(failure, what, context)]
    gate = "gated" if found.gated else "open to everybody"
    if found.access == "granted":
        return [ok(what, f"{gate}, and its files can be had" + (" with the stack's token" if token else ""))]
    if unread and found.access in ("needs-token", "missing"):
        fix = f"pulumi config get huggingFaceToken --stack {context.stack} >/dev/null  (it has to work here)"
        return [skipped(f"{what} (needs a token)", reason=f"the stack's token could not be read: {unread}", fix=fix)]
    set_token = f"pulumi config set --secret huggingFaceToken --stack {context.stack}"
    value, reason, fix = {
        "bad-token": (
            f"the stack's huggingFaceToken is refused, though the model is {gate}",
            "the token is wrong, expired or revoked",
            f"{set_token}  (a new one: https://huggingface.co/settings/tokens)",
        ),
        "needs-token": ("is gated, and the stack has no token", "huggingFaceToken is empty", set_token),
        "not-granted": (
            "is gated, and the token's account has not been let in",
            "its terms were not accepted, or a fine-grained token does not cover gated repositories",
            f"{page}  (accept the terms with the token's account)",
        ),
        "missing": (
            "does not exist, or is private",
            "Hugging Face does not tell the two apart",
            f"look at {page}, and set `model`, or a token that may read it: {set_token}",
        ),
    }[found.access]
    return [failed(what, value, reason=reason, fix=fix)]


def _token(context: Context) -> str:
    """Raises what the two places of it raise."""
    reference = context.settings.server.hugging_face_token_secret
    return context.pulumi.secret("huggingFaceToken") if reference is None else value_of(context, reference).strip()


CHECK = Check(name="model", title=_TITLE, run=_run)
