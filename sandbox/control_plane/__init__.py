"""A real Kubernetes control plane for one cluster, and the front in front of its API. Left out: nodes and pods."""
