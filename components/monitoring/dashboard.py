"""The Cloud Monitoring dashboard of one stack, as the JSON that its API takes.

https://docs.cloud.google.com/monitoring/api/ref_v3/rest/v1/projects.dashboards. Left out: charts that GKE's own dashboards
have (CPU, memory, logs).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from components.catalog.prices import Price
from components.monitoring import promql
from components.monitoring.promql import Scope
from components.settings.accelerator_pool import AcceleratorPool
from components.settings.sections import MonitoringSettings

#: Columns of the grid; two charts stand side by side.
_COLUMNS = 48
_WIDTH = _COLUMNS // 2
_HEIGHT = 14
_TEXT_HEIGHT = 14


@dataclass(frozen=True, kw_only=True)
class PricedPool:
    """A pool, and what one of its nodes costs an hour; None if that is not known."""

    pool: AcceleratorPool
    price: Price | None


@dataclass(frozen=True, kw_only=True)
class _Chart:
    title: str
    #: Name of a line and its query; without a name the labels of the result name the lines.
    queries: Sequence[tuple[str, str]]
    axis: str
    stacked: bool = False
    #: A horizontal line: its name and its value.
    threshold: tuple[str, float] | None = None


def dashboard(*, scope: Scope, pools: Sequence[PricedPool], settings: MonitoringSettings, timed: bool = False) -> dict[str, Any]:
    """A text with the ladder on top, and the charts under it in rows of two. `timed`: whether there is a fallback timer."""
    charts = _charts(scope, pools, settings)
    if timed:
        charts.append(_Chart(title="Pools passed over", queries=[("", promql.pools_passed_over(scope))], axis="pools", stacked=True))
    text = {
        "width": _COLUMNS,
        "height": _TEXT_HEIGHT,
        "widget": {"title": "The ladder", "text": {"format": "MARKDOWN", "content": _ladder(scope, pools)}},
    }
    tiles = [
        {
            # A zero would show as a difference in every preview, since Google's answer leaves it out (terraform-provider-google#7242).
            **({"xPos": _WIDTH} if index % 2 else {}),
            "yPos": _TEXT_HEIGHT + _HEIGHT * (index // 2),
            "width": _WIDTH,
            "height": _HEIGHT,
            "widget": _widget(chart),
        }
        for index, chart in enumerate(charts)
    ]
    return {"displayName": f"{scope.cluster}: inference", "mosaicLayout": {"columns": _COLUMNS, "tiles": [text, *tiles]}}


def _charts(scope: Scope, pools: Sequence[PricedPool], settings: MonitoringSettings) -> list[_Chart]:
    names = [each.pool.name for each in pools]
    return [
        _Chart(title="Ready replicas by pool", queries=[("", promql.ready_by_pool(scope))], axis="replicas", stacked=True),
        _Chart(
            title="Replicas",
            queries=[
                ("wanted", promql.wanted_replicas(scope)),
                ("ready", promql.ready_replicas(scope)),
                ("pending", promql.pending_replicas(scope)),
            ],
            axis="replicas",
        ),
        _Chart(title="Nodes by pool", queries=[(name, promql.nodes_of_pool(scope, name)) for name in names], axis="nodes", stacked=True),
        _Chart(
            title="Cost an hour by pool, at list prices",
            queries=[
                (each.pool.name, promql.cost_of_pool(scope, each.pool.name, each.price.usd)) for each in pools if each.price is not None
            ],
            axis="USD an hour",
            stacked=True,
        ),
        _Chart(
            title="Requests",
            queries=[("waiting", promql.waiting_requests(scope)), ("running", promql.running_requests(scope))],
            axis="requests",
            threshold=("alert: waiting", settings.waiting_alert_requests),
        ),
        _Chart(
            title="Time to first token",
            queries=[("median", promql.time_to_first_token(scope, 0.5)), ("95th percentile", promql.time_to_first_token(scope, 0.95))],
            axis="seconds",
            threshold=("alert: 95th percentile", settings.first_token_alert_seconds),
        ),
        _Chart(
            title="Generated tokens a second by pool",
            queries=[("", promql.tokens_per_second_by_pool(scope))],
            axis="tokens a second",
            stacked=True,
        ),
        _Chart(
            title="Preempted nodes by pool, in the hour before",
            queries=[("", promql.preemptions_by_pool(scope, names, "1h"))],
            axis="nodes",
        ),
    ]


def _widget(chart: _Chart) -> dict[str, Any]:
    if not chart.queries:
        # The API refuses a chart without data.
        return {"title": chart.title, "text": {"format": "MARKDOWN", "content": "No price is known of any pool."}}
    xy_chart: dict[str, Any] = {
        "dataSets": [
            {
                "timeSeriesQuery": {"prometheusQuery": query},
                "plotType": "STACKED_AREA" if chart.stacked else "LINE",
                "targetAxis": "Y1",
                **({"legendTemplate": name} if name else {}),
            }
            for name, query in chart.queries
        ],
        "yAxis": {"label": chart.axis, "scale": "LINEAR"},
    }
    if chart.threshold is not None:
        label, value = chart.threshold
        xy_chart["thresholds"] = [{"label": label, "value": value, "targetAxis": "Y1"}]
    return {"title": chart.title, "xyChart": xy_chart}


def _number(pool: AcceleratorPool) -> str:
    """The number of nodes in all zones, as text."""
    return f"{pool.min_nodes} to {pool.max_nodes}" if pool.enabled else "out of service"


def _ladder(scope: Scope, pools: Sequence[PricedPool]) -> str:
    """The pools in order of priority, and what to do first."""
    rows = [
        f"| {place} | {each.pool.name} | {each.pool.machine_type}, {each.pool.provisioning} "
        f"| {'unknown' if each.price is None else f'{each.price.usd:.2f}'} "
        f"| {_number(each.pool)} |"
        for place, each in enumerate(pools, start=1)
    ]
    dates = sorted({each.price.source.date for each in pools if each.price is not None})
    return "\n".join(
        [
            "| | pool | nodes | USD an hour each | number |",
            "|---|---|---|---|---|",
            *rows,
            "",
            *([f"List prices of {dates[0]} (`components/catalog/prices.py`). "] if dates else []),
            f"Cluster {scope.cluster} in {scope.location}. Replicas belong on the first pool that has room; a pool that is out of "
            "stock is taken out of service by `enabled: false` in its entry of `acceleratorPools`. Runbook: docs/operate.md.",
        ]
    )
