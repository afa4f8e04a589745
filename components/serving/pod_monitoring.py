"""How Managed Service for Prometheus finds the servers' `/metrics`: dashboards, alerts and the autoscaler read what it keeps.

Explicit, in place of GKE's automatic monitoring of vLLM: with both, every pod would be scraped twice, and the autoscaler's
adapter adds up all series of a pod. Left out: what is made of the metrics.
"""

from __future__ import annotations

from typing import Any

#: Seconds between two looks; Cloud Monitoring bills by sample.
SCRAPE_INTERVAL_SECONDS = 15


def pod_monitoring_spec(*, labels: dict[str, str], port: int) -> dict[str, Any]:
    """`spec` of the PodMonitoring.

    https://github.com/GoogleCloudPlatform/prometheus-engine/blob/main/doc/api.md#podmonitoring
    """
    return {
        "selector": {"matchLabels": labels},
        # By number there is one target a pod, whatever its containers declare: both share the pod's network.
        "endpoints": [{"port": port, "path": "/metrics", "interval": f"{SCRAPE_INTERVAL_SECONDS}s"}],
        # `pod` is what the adapter goes by; `node` tells on which accelerator pool a replica is.
        "targetLabels": {"metadata": ["pod", "container", "node", "top_level_controller_name", "top_level_controller_type"]},
    }
