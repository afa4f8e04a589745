"""Labels and annotations of nodes that several parts of the sandbox read and write."""

from __future__ import annotations

#: On a Node: the node pool that its machine belongs to, as GKE says it.
NODE_POOL_LABEL = "cloud.google.com/gke-nodepool"

#: On a Node: seconds of notice before its machine is preempted; 0 for none. It is the sandbox's own annotation.
PREEMPTION_ANNOTATION = "sandbox.fungibility/preemption"
