"""Whether the names that the stack gives are free, or taken by the stack itself.

A stack that is up is not a collision: `pulumi stack export` says which resources are its own. Where that cannot be read, a taken
name is a warning, since nothing tells whose it is.
"""

from __future__ import annotations

from components.cluster.cluster import node_account_id
from ops.findings import Finding, failed, ok, warning
from ops.preflight.calls import CallFailed
from ops.preflight.context import Check, Context, explain
from ops.pulumi_command import PulumiError

_TITLE = "Names of the cluster, the repository and the nodes' service account"

#: States of a cluster that an update cannot work with.
_BROKEN = ("ERROR", "STOPPING")


def _run(context: Context) -> list[Finding]:
    settings, project = context.settings, context.project
    try:
        known: frozenset[str] | str = context.pulumi.resource_ids()
    except PulumiError as error:
        known = str(error)
    cluster = f"projects/{project}/locations/{settings.place.cluster_location}/clusters/{settings.cluster.name}"
    repository = f"projects/{project}/locations/{settings.place.region}/repositories/{settings.images.repository_name}"
    account_id = node_account_id(settings.cluster.name)
    account = f"projects/{project}/serviceAccounts/{account_id}@{_domain(project)}.iam.gserviceaccount.com"
    return [
        _one(context, known, "container", f"cluster {settings.cluster.name}", cluster, "clusterName"),
        _one(context, known, "artifactregistry", f"repository {settings.images.repository_name}", repository, "repositoryName"),
        _one(context, known, "iam", f"service account {account_id}", account, "clusterName"),
    ]


def _one(context: Context, known: frozenset[str] | str, api: str, what: str, identity: str, setting: str) -> Finding:
    """`identity` is the resource's name in the API, and its id in the stack's state."""
    try:
        found = context.google.get(api, f"v1/{identity}")
    except CallFailed as failure:
        if failure.reason == "not-found":
            return ok(what, "the name is free")
        return explain(failure, what, context)
    if isinstance(known, str):
        fix = f"pulumi stack select {context.stack} && pulumi stack export >/dev/null  (it has to work here)"
        return warning(what, "exists, and whose it is could not be told", reason=known, fix=fix)
    if identity not in known:
        fix = f"pulumi config set {setting} ANOTHER_NAME --stack {context.stack}, or delete the one that is there"
        return failed(what, f"exists, and is not of stack {context.stack}", reason=f"{identity} is not in the stack's state", fix=fix)
    if found.get("status") in _BROKEN:
        fix = f"gcloud container operations list --location={context.settings.place.cluster_location} --project={context.project}"
        reason = str(found.get("statusMessage") or "GKE says so")
        return warning(what, f"is this stack's, and its state is {found['status']}", reason=reason, fix=fix)
    return ok(what, "exists, and is this stack's")


def _domain(project: str) -> str:
    """`example.com:name` -> `name.example.com`, as e-mail addresses of service accounts have it."""
    organisation, _, name = project.rpartition(":")
    return f"{name}.{organisation}" if organisation else name


CHECK = Check(name="names", title=_TITLE, needs=("credentials",), run=_run)
