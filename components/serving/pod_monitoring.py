"""How Managed Service for Prometheus finds the servers' `/metrics`, which the dashboard, the alerts and the autoscaler read.

It replaces GKE's automatic monitoring of vLLM: with both, every pod would be scraped twice, and the autoscaler's adapter
adds up all series of a pod. Left out: how the metrics are used.
"""

from __future__ import annotations

from typing import Any

#: Seconds between two scrapes; Cloud Monitoring bills by sample.
SCRAPE_INTERVAL_SECONDS = 15


def pod_monitoring_spec(*, labels: dict[str, str], port: int) -> dict[str, Any]:
    """`spec` of the PodMonitoring.

    https://github.com/GoogleCloudPlatform/prometheus-engine/blob/main/doc/api.md#podmonitoring
    """
    return {
        "selector": {"matchLabels": labels},
        # By number, since both containers share the pod's network: one target for each pod, whatever the containers declare.
        "endpoints": [{"port": port, "path": "/metrics", "interval": f"{SCRAPE_INTERVAL_SECONDS}s"}],
        # The adapter uses `pod`; `node` tells on which accelerator pool a replica is.
        "targetLabels": {"metadata": ["pod", "container", "node", "top_level_controller_name", "top_level_controller_type"]},
    }
