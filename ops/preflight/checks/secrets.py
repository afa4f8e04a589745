"""Whether each secret that the settings name in Secret Manager is there, and may be read by who runs this.

The value is looked at for its length alone, and never shown. Left out: what is in the stack's own encrypted settings.
"""

from __future__ import annotations

import base64

from components.settings.secret_reference import SecretReference
from ops.findings import Finding, failed, ok
from ops.preflight.calls import CallFailed
from ops.preflight.context import Check, Context, explain, grant_command

_TITLE = "Secrets in Secret Manager"


def references(context: Context) -> dict[str, SecretReference]:
    """Setting -> secret, where one is named."""
    settings = context.settings
    named = {"huggingFaceTokenSecret": settings.server.hugging_face_token_secret, "apiKeySecret": settings.security.api_key_secret}
    return {setting: reference for setting, reference in named.items() if reference is not None}


def value_of(context: Context, reference: SecretReference) -> str:
    """Raises `CallFailed`."""
    name = f"projects/{reference.project or context.project}/secrets/{reference.secret}/versions/{reference.version}"
    context.google.wait_for_token()
    answer = context.google.get("secretmanager", f"v1/{name}:access")
    try:
        return base64.b64decode(answer["payload"]["data"]).decode()
    except (KeyError, TypeError, ValueError):
        # Without a cause: it would show a part of the value.
        raise CallFailed("malformed", "secretmanager.googleapis.com", f"{name} holds no text") from None


def _run(context: Context) -> list[Finding]:
    found = references(context)
    if not found:
        return [ok(_TITLE, "the settings name none")]
    return [_one(context, setting, reference) for setting, reference in found.items()]


def _one(context: Context, setting: str, reference: SecretReference) -> Finding:
    what = f"{setting} {reference.secret} (version {reference.version})"
    project = reference.project or context.project
    make = f"gcloud secrets create {reference.secret} --project={project} --data-file=-"
    try:
        value = value_of(context, reference)
    except CallFailed as failure:
        if failure.reason == "not-found":
            return failed(what, f"does not exist in project {project}", reason=failure.message, fix=make)
        if failure.reason == "denied":
            # Unlike other rights to read, `up` has to have this one.
            fix = grant_command(project, context.google.member(), "roles/secretmanager.secretAccessor")
            return failed(what, "may not be read, and `up` reads it", reason=failure.message, fix=fix)
        return explain(failure, what, context)
    if not value.strip():
        return failed(what, "is empty", reason="its version holds no text", fix=make.replace("create", "versions add"))
    return ok(what, "is there, and may be read")


CHECK = Check(name="secrets", title=_TITLE, needs=("credentials",), run=_run)
