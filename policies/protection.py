"""A mistyped command cannot delete a production stack. Left out: backups, which this project's stacks do not need."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from policies.control_plane import CLUSTER
from policies.rule import UNKNOWN, Finding, Option, Options, Resource, ResourceRule, Undecided, Violation


def unprotected(cluster: Resource, options: Options) -> Iterable[Finding]:
    if cluster.type != CLUSTER or not any(fnmatchcase(cluster.stack, str(each)) for each in options["stacks"]):
        return
    google = cluster.get("deletionProtection")
    if google is UNKNOWN:
        yield Undecided(resource=cluster, field="deletionProtection")
    elif google is False:
        # Missing means true: it is the provider's default.
        yield Violation(
            resource=cluster,
            field="deletionProtection",
            value=False,
            reason=f"lets the cluster of production stack {cluster.stack} be deleted, with all that runs on it",
            fix="set deletionProtection to true",
        )
    if not cluster.protect:
        yield Violation(
            resource=cluster,
            field="protect",
            value=False,
            reason=f"(resource option) lets `pulumi destroy` and replacements delete the cluster of production stack {cluster.stack}",
            fix="set deletionProtection to true, which sets the option too",
        )


RULES = (
    ResourceRule(
        name="production-is-protected",
        description="The cluster of a production stack is protected by Google and by Pulumi.",
        level="mandatory",
        because="after a deletion the service is down until accelerators are in stock again",
        options={"stacks": Option(type="array", default=["prod", "prod-*"], description="Names of production stacks; * matches anything.")},
        check=unprotected,
    ),
)
