"""The dashboard and the alerts. Left out: what collects metrics in the cluster."""
