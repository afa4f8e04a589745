"""Labels that GKE puts on nodes, and the names among their values, that more than one part of the project selects by."""

from __future__ import annotations

#: Marks a hand-made pool as one of a ComputeClass: the same key as label and as taint.
#: https://docs.cloud.google.com/kubernetes-engine/docs/concepts/about-custom-compute-classes#gke-standard-pools-compute-classes
COMPUTE_CLASS_LABEL = "cloud.google.com/compute-class"

#: The name of the node's pool.
NODE_POOL_LABEL = "cloud.google.com/gke-nodepool"

#: The cluster's own node pool, without accelerators; no accelerator pool may take its name.
SYSTEM_POOL_NAME = "system"
