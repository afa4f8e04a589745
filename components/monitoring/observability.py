"""What is seen of a running stack: its dashboard and its alert policies in Cloud Monitoring.

They wait for nothing but the API, so that they are there when the rest does not come up. Left out: the collection of the metrics, which
is the cluster's (`components.cluster`) and the inference server's.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pulumi
from pulumi_gcp import monitoring

from components.catalog.prices import node_price
from components.cluster.project_services import enable_apis
from components.monitoring.alerts import Alert, alerts
from components.monitoring.dashboard import PricedPool, dashboard
from components.monitoring.promql import Scope
from components.settings.accelerator_pool import AcceleratorPool
from components.settings.settings import Settings

#: How long an incident stays open once its data has stopped coming; the API's minimum.
_AUTO_CLOSE = "1800s"

_EVALUATION_INTERVAL = "60s"


@dataclass(frozen=True, kw_only=True)
class ObservabilityArgs:
    project: str
    #: The cluster's region.
    location: str
    cluster_name: str
    #: The best first.
    pools: tuple[AcceleratorPool, ...]
    #: `projects/P/notificationChannels/N`; empty tells nobody, and incidents are seen in the console.
    notification_channels: tuple[str, ...]
    pending_alert_minutes: int
    waiting_alert_requests: int
    first_token_alert_seconds: int
    preemption_alert_count: int

    @classmethod
    def of(cls, settings: Settings) -> ObservabilityArgs:
        return cls(
            project=settings.project,
            location=settings.region,
            cluster_name=settings.cluster_name,
            pools=settings.accelerator_pools,
            notification_channels=settings.notification_channels,
            pending_alert_minutes=settings.pending_alert_minutes,
            waiting_alert_requests=settings.waiting_alert_requests,
            first_token_alert_seconds=settings.first_token_alert_seconds,
            preemption_alert_count=settings.preemption_alert_count,
        )


def alert_policy(alert: Alert, *, cluster_name: str) -> dict[str, Any]:
    """What an AlertPolicy resource says of an alert, but for whom it tells."""
    return {
        "display_name": f"{cluster_name}: {alert.title}",
        "severity": alert.severity,
        # A policy in PromQL has one condition.
        "combiner": "OR",
        "conditions": [
            {
                "display_name": alert.title,
                "condition_prometheus_query_language": {
                    "query": alert.query,
                    "duration": f"{alert.minutes * 60}s",
                    "evaluation_interval": _EVALUATION_INTERVAL,
                    # A new project has none of these metrics until the first replica runs; Google would refuse the policy.
                    "disable_metric_validation": True,
                },
            }
        ],
        "documentation": {"content": alert.documentation, "mime_type": "text/markdown"},
        "alert_strategy": {"auto_close": _AUTO_CLOSE},
        "user_labels": {"cluster": cluster_name},
    }


class Observability(pulumi.ComponentResource):
    """One dashboard, and one alert policy an alert."""

    #: `projects/P/dashboards/ID`.
    dashboard_id: pulumi.Output[str]

    def __init__(self, name: str, args: ObservabilityArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("fungibility:index:Observability", name, None, opts)
        scope = Scope(cluster=args.cluster_name, location=args.location)
        apis = enable_apis(name, ("monitoring",), project=args.project, parent=self)
        # No output of an API's says that it is on.
        child = pulumi.ResourceOptions(parent=self, depends_on=apis)
        document = dashboard(
            scope=scope,
            pools=[PricedPool(pool=pool, price=node_price(pool.machine_type, pool.provisioning, args.location)) for pool in args.pools],
            waiting_alert_requests=args.waiting_alert_requests,
            first_token_alert_seconds=args.first_token_alert_seconds,
        )
        self.dashboard_id = monitoring.Dashboard(
            f"{name}-dashboard", project=args.project, dashboard_json=json.dumps(document), opts=child
        ).id
        for alert in alerts(
            scope=scope,
            pools=args.pools,
            pending_alert_minutes=args.pending_alert_minutes,
            waiting_alert_requests=args.waiting_alert_requests,
            first_token_alert_seconds=args.first_token_alert_seconds,
            preemption_alert_count=args.preemption_alert_count,
        ):
            monitoring.AlertPolicy(
                f"{name}-{alert.name}",
                project=args.project,
                notification_channels=list(args.notification_channels),
                **alert_policy(alert, cluster_name=args.cluster_name),
                opts=child,
            )
        self.register_outputs({"dashboard_id": self.dashboard_id})
