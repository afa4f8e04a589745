"""How a cluster is replaced when a setting cannot be changed on it: beside the old one, so under another name.

The provider would delete first, since the name stays, and everything on the cluster before it: the service would be gone for as long
as a cluster takes to make, and the engine loses the Kubernetes provider of a cluster that it replaces so, before it has deleted with
it (pulumi/pulumi#14650). Left out: accelerator pools, which no other cluster's name stands in the way of.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import pulumi

_NAME_IS_TAKEN = re.compile(r"alreadyExists|already exists", re.IGNORECASE)


def successor_first(parent: pulumi.Resource, *, depends_on: Sequence[pulumi.Resource] | None = None) -> pulumi.ResourceOptions:
    """Of what moves with a cluster under another name, or grants something to what does: the new one comes before the old one goes.

    The provider would delete first, and all that rests on it, since it does not ask whether a name that it was given has changed.
    """
    return pulumi.ResourceOptions(parent=parent, depends_on=depends_on, delete_before_replace=False)


def explanation(kind: str, name: str, errors: Sequence[str]) -> str | None:
    """Of what `kind` (a word for people) of that name could not be created; None for another reason than its name."""
    if not _NAME_IS_TAKEN.search("\n".join(errors)):
        return None
    return (
        f"{kind} {name} is there already. Where this update replaces it (a change of network or networkPolicy does), nothing was "
        f"deleted and the service is as it was. Fix: change clusterName in the same update: the new one is made beside the old one, "
        f"which goes at the end. Where no stack has it: delete it, or take it over with `pulumi import`. More in docs/operate.md "
        f"(A change that replaces the cluster)."
    )


def beside(parent: pulumi.Resource, kind: str) -> pulumi.ResourceOptions:
    """Of a resource with a name that Google gives once: its successor comes first. Needs Pulumi 3.245."""

    def explain(args: pulumi.ErrorHookArgs) -> bool:
        said = explanation(kind, str((args.new_inputs or {}).get("name")), args.errors)
        if said is not None and args.failed_operation == "create":
            pulumi.log.warn(said)
        # Trying again at once would only find that it exists.
        return False

    hook = pulumi.ErrorHook(f"{kind.lower()}-replacement", explain)
    return pulumi.ResourceOptions.merge(successor_first(parent), pulumi.ResourceOptions(hooks=pulumi.ResourceHookBinding(on_error=[hook])))
