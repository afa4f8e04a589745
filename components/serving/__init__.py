"""What serves: the Deployment, its Service, caches, probes, ends and autoscaling. Left out: the machines below it."""
