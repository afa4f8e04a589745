"""Whether who runs this may do in the project what `up` does, one finding for each role that is short of something."""

from __future__ import annotations

from bootstrap.roles import needs as needed
from ops.findings import Finding, failed, ok, warning
from ops.preflight.calls import CallFailed
from ops.preflight.context import Check, Context, grant_command

_WHAT = "Permissions in the project"


def _run(context: Context) -> list[Finding]:
    needs = needed(context.settings)
    findings: list[Finding] = []
    granted: set[str] = set()
    untested: set[str] = set()
    groups: dict[str, list[str]] = {}
    for need in needs:
        groups.setdefault(need.role, []).extend(need.permissions)
    for role, permissions in groups.items():
        # A role at a time: Google refuses a whole request for one permission that it does not know.
        try:
            granted.update(_granted(context, list(dict.fromkeys(permissions))))
        except CallFailed as failure:
            if failure.reason == "denied":
                return [_no_such_project(context, failure)]
            if failure.reason != "refused":
                raise
            untested.update(permissions)
            value = "not checked: Google does not test one of them on a project"
            reason, fix = f"{failure.service}: {failure.message}", f"compare by hand: gcloud iam roles describe {role}"
            findings.append(warning(f"{_WHAT}: {role}", value, reason=reason, fix=fix))
    member = context.google.member()
    short: dict[tuple[str, str], list[str]] = {}
    for need in needs:
        missing = [each for each in need.permissions if each not in granted and each not in untested]
        if missing:
            short.setdefault((need.role, need.elsewhere), []).extend(missing)
    for (role, elsewhere), missing in short.items():
        listed = ", ".join(dict.fromkeys(missing))
        fix = grant_command(context.project, member, role)
        what = f"{_WHAT}: {role}"
        if elsewhere:
            findings.append(warning(what, f"missing in the project: {listed}", reason=f"no role holds it there; {elsewhere}", fix=fix))
        else:
            findings.append(failed(what, f"missing: {listed}", reason="no role of yours in the project holds it", fix=fix))
    if not findings:
        return [ok(_WHAT, f"all {len(granted)} that `up` needs")]
    return findings


def _no_such_project(context: Context, failure: CallFailed) -> Finding:
    """The question itself needs no permission, so a caller to whom it is refused is in the wrong place."""
    fix = f"gcloud projects list; pulumi config set gcp:project PROJECT_ID --stack {context.stack}"
    return failed(_WHAT, f"project {context.project} does not exist, or nothing in it is yours", reason=failure.message, fix=fix)


def _granted(context: Context, permissions: list[str]) -> list[str]:
    answer = context.google.post("cloudresourcemanager", f"v3/projects/{context.project}:testIamPermissions", {"permissions": permissions})
    return list(answer.get("permissions", []))


CHECK = Check(name="permissions", title=_WHAT, needs=("credentials",), run=_run)
