"""How a cluster is replaced when a setting cannot be changed on it: the new one is made beside the old one, under another name.

By default the provider deletes the old one first, because of the name, and everything on it before that. The service would be down while
the new cluster is made, and the engine would lose the old cluster's Kubernetes provider before it has deleted with it
(pulumi/pulumi#14650). Accelerator pools keep their names, and a preview says which of them an update replaces.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Any

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


#: Of the engine itself: the outputs of every resource that the stack's state has, by URN.
_STATE = "pulumi:pulumi:readStackResourceOutputs"


def replacement_hook() -> pulumi.ResourceHook:
    """Names each pool that the update replaces in the preview. One for all pools."""
    state: asyncio.Future[Any] | None = None

    async def warn(args: pulumi.ResourceHookArgs) -> None:
        nonlocal state
        if not pulumi.runtime.is_dry_run():
            return
        # Asked once for all pools, since the engine reads the whole state for each answer.
        stack = f"{pulumi.get_organization()}/{pulumi.get_project()}/{pulumi.get_stack()}"
        state = state or asyncio.ensure_future(pulumi.runtime.invoke_async(_STATE, {"stackName": stack}))
        # Only a replacement creates what the state has already; the hook itself is not told which of the two it is.
        if args.urn in (await state)["outputs"]:
            pulumi.log.warn(
                f"This update replaces pool {args.name}: the old one is deleted first, and its replicas end at once, whatever their "
                f"disruption budget says. A changed provisioning, gpuDriverVersion or secondaryBootDiskImage does that, and a new cluster. "
                f"Fix: keep the old value, or change it without a gap in three updates (docs/operate.md, A change that replaces a pool)."
            )

    return pulumi.ResourceHook("pool-replacement", warn, pulumi.ResourceHookOptions(on_dry_run=True))
