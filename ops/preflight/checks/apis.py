"""Which APIs are on. Without those that `up` needs to switch on the others it fails; the others are better on before it.

An API that was switched on a moment ago may refuse requests for some minutes (`accessNotConfigured`); `up` then tries again for five.
"""

from __future__ import annotations

from ops.findings import Finding, failed, ok, warning
from ops.preflight import requirements
from ops.preflight.context import Check, Context, enable_command


def _run(context: Context) -> list[Finding]:
    program = requirements.apis_of_program(context.settings)
    before = requirements.APIS_BEFORE_UP
    asked = tuple(dict.fromkeys((*before, *program, *requirements.APIS_OF_PREFLIGHT)))
    parent = f"projects/{context.project}"
    names = [f"{parent}/services/{api}.googleapis.com" for api in asked]
    answer = context.google.get("serviceusage", f"v1/{parent}/services:batchGet", names=names)
    states = {
        str(each["name"]).rpartition("/")[2].removesuffix(".googleapis.com"): each.get("state") for each in answer.get("services", [])
    }
    off = [api for api in asked if states.get(api) != "ENABLED"]
    findings = []
    for api in before:
        if api in off:
            reason = "the provider enables APIs through Service Usage and reads the project through Resource Manager"
            fix = enable_command(context.project, api)
            findings.append(failed(f"{api}.googleapis.com", "off, and `up` needs it to switch on the others", reason=reason, fix=fix))
        else:
            findings.append(ok(f"{api}.googleapis.com", "on"))
    later = [api for api in program if api in off and api not in before]
    if later:
        reason = (
            "`up` switches them on and waits while Google refuses requests to a new API (accessNotConfigured, for minutes); checks that "
            "ask them are skipped"
        )
        fix = f"{enable_command(context.project, *later)} (some minutes before `up`, which then waits for nothing)"
        findings.append(warning("APIs of the program", f"off: {', '.join(later)}", reason=reason, fix=fix))
    else:
        findings.append(ok("APIs of the program", "all on"))
    unread = [api for api in requirements.APIS_OF_PREFLIGHT if api in off]
    if unread:
        findings.append(ok("APIs that preflight asks", f"off: {', '.join(unread)}; {enable_command(context.project, *unread)}"))
    return findings


CHECK = Check(name="apis", title="Google APIs of the project", needs=("credentials",), run=_run)
