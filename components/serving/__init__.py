"""Serving: the Deployment, its Service, caches, probes, shutdown and autoscaling. Left out: the machines below it."""
