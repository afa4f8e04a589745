"""What every check is given, and what one is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from components.settings.sections import Settings
from ops.findings import Finding, failed, skipped, warning
from ops.preflight.calls import CallFailed, Web
from ops.preflight.google import Google
from ops.preflight.pulumi_cli import PulumiCli


@dataclass(frozen=True, kw_only=True)
class Context:
    stack: str
    settings: Settings
    google: Google
    web: Web
    pulumi: PulumiCli

    @property
    def project(self) -> str:
        return self.settings.place.project


@dataclass(frozen=True, kw_only=True)
class Check:
    """One theme. `run` raises `CallFailed` where a call fails that it has no better words for."""

    name: str
    #: One sentence for docs/preflight.md and for a check that gave no finding.
    title: str
    #: Checks that must not have failed, or this one cannot run.
    needs: tuple[str, ...] = ()
    run: Callable[[Context], list[Finding]]


def explain(failure: CallFailed, what: str, context: Context, role: str = "roles/viewer") -> Finding:
    """The finding for a call without an answer: which kind of trouble it is, and what to do."""
    project = context.project
    reason = f"{failure.service}: {failure.message}"
    if failure.reason == "credentials":
        return failed(what, "the credentials were refused", reason=reason, fix=LOGIN)
    if failure.reason == "disabled":
        return skipped(what, reason=f"the API {failure.api} is off in the project", fix=enable_command(project, failure.api))
    if failure.reason == "denied":
        # The caller may lack a right to read that `up` does without: what is not known is not a fault of the project.
        return warning(what, "not checked: permission denied", reason=reason, fix=grant_command(project, context.google.member(), role))
    findings = {
        "not-found": "does not exist",
        "throttled": "not checked: too many requests, also after waiting",
        "server-error": "not checked: the server has trouble, also after waiting",
        "timeout": "not checked: no answer in time",
        "connection": "not checked: no connection",
        "malformed": "not checked: the answer makes no sense",
        "refused": "not checked: the request was refused",
    }
    fixes = {
        "not-found": f"check the name; https://console.cloud.google.com/home/dashboard?project={project}",
        "throttled": "run preflight again in some minutes",
        "server-error": "run preflight again; https://status.cloud.google.com says whether it is known",
        "timeout": "run preflight again; if it stays, look at the network and its proxy (HTTPS_PROXY)",
        "connection": f"look at the network, the proxy (HTTPS_PROXY) and the firewall: `curl -v https://{failure.service}`",
        "malformed": f"something between here and {failure.service} answers in its place: look at the proxy (HTTPS_PROXY)",
        "refused": "read the reason; if it is not about a setting of the stack, it is a fault of preflight",
    }
    return failed(what, findings[failure.reason], reason=reason, fix=fixes[failure.reason])


LOGIN = "gcloud auth application-default login"


def enable_command(project: str, *apis: str) -> str:
    names = " ".join(api if "." in api else f"{api}.googleapis.com" for api in apis)
    return f"gcloud services enable {names} --project={project}"


def grant_command(project: str, member: str, role: str) -> str:
    return f"gcloud projects add-iam-policy-binding {project} --member={member} --role={role}"
