"""Annotations of nodes that several parts of the sandbox read and write. Left out: GKE's labels (`components.catalog.node_labels`)."""

#: On a Node: seconds of notice before its machine is preempted; 0 for none. It is the sandbox's own annotation.
PREEMPTION_ANNOTATION = "sandbox.fungibility/preemption"
