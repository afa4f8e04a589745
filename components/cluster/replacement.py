"""How a cluster is replaced when a setting cannot be changed on it: the new one is made beside the old one, under another name.

By default the provider deletes the old one first, because of the name, and everything on it before that. The service would be down while
the new cluster is made, and the engine would lose the old cluster's Kubernetes provider before it has deleted with it
(pulumi/pulumi#14650). Left out: accelerator pools, whose names cannot collide with another cluster's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import pulumi

_NAME_IS_TAKEN = re.compile(r"alreadyExists|already exists", re.IGNORECASE)


def successor_first(parent: pulumi.Resource, *, depends_on: Sequence[pulumi.Resource] | None = None) -> pulumi.ResourceOptions:
    """Options of a resource that is renamed with its cluster, or grants a right to one: the new one is made before the old one is deleted.

    By default the provider deletes it first, with everything that depends on it, even if its name has changed.
    """
    return pulumi.ResourceOptions(parent=parent, depends_on=depends_on, delete_before_replace=False)


def explanation(kind: str, name: str, errors: Sequence[str]) -> str | None:
    """The warning if a resource could not be created because its name is taken; else None. `kind` is what the message calls it."""
    if not _NAME_IS_TAKEN.search("\n".join(errors)):
        return None
    return (
        f"{kind} {name} is there already. Where this update replaces it (a change of network, networkPolicy or location does), nothing was "
        f"deleted and the service is as it was. Fix: change clusterName in the same update: the new one is made beside the old one, "
        f"which goes at the end. Where no stack has it: delete it, or take it over with `pulumi import`. More in docs/operate.md "
        f"(A change that replaces the cluster)."
    )


def beside(parent: pulumi.Resource, kind: str) -> pulumi.ResourceOptions:
    """Options of a resource whose name must be unique: its successor is made first. Needs Pulumi 3.245."""

    def explain(args: pulumi.ErrorHookArgs) -> bool:
        said = explanation(kind, str((args.new_inputs or {}).get("name")), args.errors)
        if said is not None and args.failed_operation == "create":
            pulumi.log.warn(said)
        # A retry would only find that it exists.
        return False

    hook = pulumi.ErrorHook(f"{kind.lower()}-replacement", explain)
    return pulumi.ResourceOptions.merge(successor_first(parent), pulumi.ResourceOptions(hooks=pulumi.ResourceHookBinding(on_error=[hook])))
