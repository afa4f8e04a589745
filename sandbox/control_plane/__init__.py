"""A real Kubernetes control plane of one cluster and the front before it. Left out: nodes and pods."""
