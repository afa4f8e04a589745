"""The ComputeClass: in which order GKE tries the accelerator pools, and whether replicas move back up.

It names pools as plain text and waits for none of them: a pool that is out of stock must not keep the service from
coming up on the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pulumi
from pulumi_kubernetes import apiextensions

from components.settings.sections import AcceleratorSettings


def compute_class_spec(settings: AcceleratorSettings) -> dict[str, Any]:
    """`spec` of the ComputeClass, with one rule for each pool.

    A class that mixes TPUs and GPUs must name node pools in every rule, and a rule that names pools holds nothing else
    (https://docs.cloud.google.com/kubernetes-engine/docs/reference/crds/computeclass).
    """
    disabled = ", ".join(pool.name for pool in settings.pools if not pool.enabled)
    return {
        # GKE reports such a pool as NodepoolMisconfigured, and the class as healthy all the same (docs/operate.md).
        **({"description": f"Out of service on purpose (enabled: false), so that no priority names it: {disabled}"} if disabled else {}),
        "priorities": [{"nodepools": [pool.name]} for pool in settings.pools if pool.enabled],
        "activeMigration": {"optimizeRulePriority": settings.active_migration},
        "autoscalingPolicy": {"consolidationDelayMinutes": settings.consolidation_delay_minutes},
        # A pod for which no pool has room stays pending, which is visible; the alternative would start it on a node
        # without an accelerator.
        "whenUnsatisfiable": "DoNotScaleUp",
    }


class ComputeClass(pulumi.ComponentResource):
    """The custom resource."""

    name: pulumi.Output[str]

    def __init__(self, name: str, settings: AcceleratorSettings, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("fungibility:index:ComputeClass", name, None, opts)
        resource = apiextensions.CustomResource(
            name,
            api_version="cloud.google.com/v1",
            kind="ComputeClass",
            metadata={"name": settings.compute_class_name},
            spec=compute_class_spec(settings),
            opts=pulumi.ResourceOptions(parent=self),
        )
        # Through the resource, so that users of the name wait for the class.
        self.name = resource.urn.apply(lambda _: settings.compute_class_name)
        self.register_outputs({"name": self.name})


def preference_weights(pool_names: Sequence[str]) -> dict[str, int]:
    """Weight of a preferred node affinity by pool, 1 to 100, falling with priority; strictly for up to 100 pools.

    The ComputeClass orders only new nodes; by these weights the scheduler chooses among existing ones. Kubernetes allows weights
    from 1 to 100, so beyond 100 pools neighbours share a weight, and the scheduler has no preference among their nodes.
    """
    count = len(pool_names)
    return {name: max(round(100 * (count - index) / count), 1) for index, name in enumerate(pool_names)}
