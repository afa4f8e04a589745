"""A stack's dashboard and its alert policies in Cloud Monitoring.

They wait only for the API, so that they exist if the rest does not come up. Left out: the collection of the metrics, which belongs to
the cluster (`components.cluster`) and the inference server.
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
from components.settings.sections import AcceleratorSettings, ClusterSettings, MonitoringSettings, Place

#: How long an incident stays open once its data has stopped coming; the API's minimum.
_AUTO_CLOSE = "1800s"

_EVALUATION_INTERVAL = "60s"


@dataclass(frozen=True)
class ObservabilityArgs:
    place: Place
    monitoring: MonitoringSettings
    cluster: ClusterSettings
    accelerators: AcceleratorSettings


def alert_policy(alert: Alert, *, cluster_name: str, runbook_url: str) -> dict[str, Any]:
    """Inputs of an alert's AlertPolicy resource, other than its notification channels.

    The API takes links with a whole URL alone: https://docs.cloud.google.com/monitoring/api/ref_v3/rest/v3/projects.alertPolicies
    """
    # GitHub's and GitLab's anchor of a heading.
    link = {"display_name": f"Runbook: {alert.runbook}", "url": f"{runbook_url}#{alert.runbook.lower().replace(' ', '-')}"}
    return {
        "display_name": f"{cluster_name}: {alert.title}",
        "severity": alert.severity,
        # The API allows a policy in PromQL only one condition.
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
        "documentation": {
            "content": f"{alert.documentation}\n\nThe runbook is docs/operate.md of this stack's repository: *{alert.runbook}*.",
            "mime_type": "text/markdown",
            **({"links": [link]} if runbook_url else {}),
        },
        "alert_strategy": {"auto_close": _AUTO_CLOSE},
        "user_labels": {"cluster": cluster_name},
    }


class Observability(pulumi.ComponentResource):
    """One dashboard, and one alert policy for each alert."""

    #: `projects/P/dashboards/ID`.
    dashboard_id: pulumi.Output[str]

    def __init__(self, name: str, args: ObservabilityArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("fungibility:index:Observability", name, None, opts)
        scope = Scope(cluster=args.cluster.name, location=args.place.cluster_location)
        apis = enable_apis(name, ("monitoring",), project=args.place.project, parent=self)
        # Explicit, since no output depends on an API being on.
        child = pulumi.ResourceOptions(parent=self, depends_on=apis, protect=args.cluster.deletion_protection)
        pools, minutes = args.accelerators.pools, args.accelerators.fallback_after_minutes
        document = dashboard(
            scope=scope,
            pools=[
                PricedPool(pool=pool, price=node_price(pool.machine_type, pool.provisioning, args.place.region, pool.machine.count))
                for pool in pools
            ],
            settings=args.monitoring,
            timed=minutes > 0,
        )
        self.dashboard_id = monitoring.Dashboard(
            f"{name}-dashboard", project=args.place.project, dashboard_json=json.dumps(document), opts=child
        ).id
        for alert in alerts(scope=scope, pools=pools, settings=args.monitoring, fallback_after_minutes=minutes):
            monitoring.AlertPolicy(
                f"{name}-{alert.name}",
                project=args.place.project,
                notification_channels=list(args.monitoring.notification_channels),
                **alert_policy(alert, cluster_name=args.cluster.name, runbook_url=args.monitoring.runbook_url),
                opts=child,
            )
        self.register_outputs({"dashboard_id": self.dashboard_id})
