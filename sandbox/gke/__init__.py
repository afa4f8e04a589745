"""Stands in for GKE: clusters, node pools, the autoscaler, load balancers. Left out: what runs in a pod."""
