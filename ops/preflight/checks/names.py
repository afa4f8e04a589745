"""Whether the names that the stack gives are free, or taken by the stack itself.

A stack that is up is not a collision: `pulumi stack export` says which resources are its own. Where that cannot be read, a taken
name is a warning, since nothing tells whose it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from components.cluster.cluster import node_account_id
from ops.preflight.calls import CallFailed
from ops.preflight.context import Check, Context, explain
from ops.preflight.pulumi_cli import PulumiUnavailable
from ops.preflight.report import Finding, failed, ok, warning

_TITLE = "Names of the cluster, the repository and the nodes' service account"

#: States of a cluster that an update cannot work with.
_BROKEN = ("ERROR", "STOPPING")


def _run(context: Context) -> list[Finding]:
    settings, project = context.settings, context.project
    try:
        known: frozenset[str] | str = context.pulumi.resource_ids()
    except PulumiUnavailable as error:
        known = str(error)
    location = f"projects/{project}/locations/{settings.place.region}"
    cluster = f"{location}/clusters/{settings.cluster.name}"
    repository = f"{location}/repositories/{settings.images.repository_name}"
    account_id = node_account_id(settings.cluster.name)
    account = f"projects/{project}/serviceAccounts/{account_id}@{_domain(project)}.iam.gserviceaccount.com"
    return [
        _one(
            context,
            known,
            "container",
            f"cluster {settings.cluster.name}",
            cluster,
            "clusterName",
            lambda client: client.projects().locations().clusters().get(name=cluster),
        ),
        _one(
            context,
            known,
            "artifactregistry",
            f"repository {settings.images.repository_name}",
            repository,
            "repositoryName",
            lambda client: client.projects().locations().repositories().get(name=repository),
        ),
        _one(
            context,
            known,
            "iam",
            f"service account {account_id}",
            account,
            "clusterName",
            lambda client: client.projects().serviceAccounts().get(name=account),
        ),
    ]


def _one(
    context: Context, known: frozenset[str] | str, api: str, what: str, identity: str, setting: str, request: Callable[[Any], Any]
) -> Finding:
    try:
        found = context.google.call(api, request)
    except CallFailed as failure:
        if failure.reason == "not-found":
            return ok(what, "the name is free")
        return explain(failure, what, context)
    if isinstance(known, str):
        return warning(
            what,
            "exists, and whose it is could not be told",
            cause=known,
            cure=f"pulumi stack select {context.stack} && pulumi stack export >/dev/null  (it has to work here)",
        )
    if identity not in known:
        return failed(
            what,
            f"exists, and is not of stack {context.stack}",
            cause=f"{identity} is not in the stack's state",
            cure=f"pulumi config set {setting} ANOTHER_NAME --stack {context.stack}, or delete the one that is there",
        )
    if found.get("status") in _BROKEN:
        return warning(
            what,
            f"is this stack's, and its state is {found['status']}",
            cause=str(found.get("statusMessage") or "GKE says so"),
            cure=f"gcloud container operations list --location={context.settings.place.region} --project={context.project}",
        )
    return ok(what, "exists, and is this stack's")


def _domain(project: str) -> str:
    """`example.com:name` -> `name.example.com`, as e-mail addresses of service accounts have it."""
    organisation, _, name = project.rpartition(":")
    return f"{name}.{organisation}" if organisation else name


CHECK = Check(name="names", title=_TITLE, needs=("credentials",), run=_run)
