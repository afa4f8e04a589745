"""The warning when an accelerator pool could not be made or changed: which pool, why, and what to do.

The provider's own error only says `created in the error state "RUNNING_WITH_ERROR"`: it drops Google's message if the pool exists
(resourceContainerNodePoolCreate of terraform-provider-google), and a person should not have to guess its usual cause at the end of an
update. Left out: errors that name their cause themselves (permissions, names, conflicts).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import pulumi

from components.settings.accelerator_pool import AcceleratorPool

#: No machine, or none yet: Compute Engine's codes and messages, GKE's status, and the provider's message if it gives up before GKE.
_NO_MACHINE = re.compile(
    r"RUNNING_WITH_ERROR|STOCKOUT|RESOURCE_POOL_EXHAUSTED|not have enough resources|has state \"(PROVISIONING|RECONCILING)\""
    r"|timeout while waiting"
)
_QUOTA = re.compile(r"quota", re.IGNORECASE)


def explanation(pool: AcceleratorPool, errors: Sequence[str], *, others: Sequence[str], cluster: str, location: str) -> str | None:
    """The warning, or None for an error that needs none. `others` are the pools on which replicas can run instead."""
    text = "\n".join(errors)
    machines = f"{pool.machine_type} ({pool.provisioning}) in {', '.join(pool.zones)}"
    if _QUOTA.search(text):
        reason = f"the project's quota does not allow {machines}"
        fix = "ask for more (`make preflight` names the quota), lower maxNodeCount,"
    elif _NO_MACHINE.search(text):
        reason = (
            f"Google provided no {machines}, most likely because none is free there now. For its own message: `gcloud container node-pools "
            f"describe {pool.name} --cluster={cluster} --location={location} --format='value(status,statusMessage)'`"
        )
        fix = "wait, since GKE keeps trying to reach minNodeCount; give the pool another zone (zones);"
    else:
        return None
    if others:
        effect = f"The service comes up on what the other pools have ({', '.join(others)})."
    else:
        effect = "No other pool is enabled, so nothing serves."
    return (
        f"Accelerator pool {pool.name} exists without the nodes that it should have: {reason}. {effect} Fix: {fix} or take "
        f"the pool out of service with `enabled: false` on its entry in acceleratorPools, which deletes nothing. Then, or when stock "
        f"is back, run the same update again, which completes it. More in docs/operate.md (The TPU is out of stock)."
    )


def error_hook(pools: Mapping[str, AcceleratorPool]) -> pulumi.ErrorHook:
    """Logs the explanation as a warning and leaves the provider's error as it is. Needs Pulumi 3.245."""

    def explain(args: pulumi.ErrorHookArgs) -> bool:
        pool = pools.get(args.name)
        if pool is not None and args.failed_operation != "delete":
            others = [each.name for each in pools.values() if each.enabled and each is not pool]
            inputs = args.new_inputs or {}
            said = explanation(pool, args.errors, others=others, cluster=str(inputs.get("cluster")), location=str(inputs.get("location")))
            if said is not None:
                pulumi.log.warn(said)
        # A retry would only find that the pool exists.
        return False

    return pulumi.ErrorHook("accelerator-pool-failure", explain)
