"""Dashboard and alerts: that every query parses, which series it asks for, and what of the settings reaches it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import promql_parser
import pytest

from components.catalog.prices import node_price
from components.monitoring import promql
from components.monitoring.alerts import Alert, alerts
from components.monitoring.dashboard import PricedPool, dashboard
from components.monitoring.observability import alert_policy
from components.monitoring.promql import Scope
from components.settings.accelerator_pool import AcceleratorPool
from components.settings.settings import load_stack
from components.settings.stack_files import PROJECT_DIR
from sandbox.providers.gcp_monitoring import alert_policy_problems, dashboard_problems, same_dashboard
from tests.unit.program import Run, run_program

DASHBOARD = "gcp:monitoring/dashboard:Dashboard"
ALERT_POLICY = "gcp:monitoring/alertPolicy:AlertPolicy"
CLUSTER = "gcp:container/cluster:Cluster"

SCOPE = Scope(cluster="main", location="us-central1")
SETTINGS = load_stack("dev", {"gcp:project": "my-project"})
POOLS = SETTINGS.accelerators.pools

#: The matchers of a metric's cluster, by the beginning of its name.
CLUSTER_LABELS = {"kube_": "cluster", "vllm:": "cluster", "kubernetes_io:": "cluster_name"}

MONITORED_RESOURCES = {
    "kubernetes_io:container_uptime": "k8s_container",
    "kubernetes_io:container_restart_count": "k8s_container",
    "kubernetes_io:node_cpu_allocatable_cores": "k8s_node",
    "kubernetes_io:node_pool_interruption_count": "k8s_node_pool",
}


def queries() -> dict[str, str]:
    return {
        "wanted_replicas": promql.wanted_replicas(SCOPE),
        "ready_replicas": promql.ready_replicas(SCOPE),
        "pending_replicas": promql.pending_replicas(SCOPE),
        "pending_by_pod": promql.pending_by_pod(SCOPE),
        "pools_passed_over": promql.pools_passed_over(SCOPE),
        "no_ready_replica": promql.no_ready_replica(SCOPE),
        "ready_by_pool": promql.ready_by_pool(SCOPE),
        "tokens_per_second_by_pool": promql.tokens_per_second_by_pool(SCOPE),
        "waiting_requests": promql.waiting_requests(SCOPE),
        "running_requests": promql.running_requests(SCOPE),
        "time_to_first_token": promql.time_to_first_token(SCOPE, 0.95),
        "unavailable_replicas": promql.unavailable_replicas(SCOPE),
        "restarts_by_pod": promql.restarts_by_pod(SCOPE, "30m"),
        "nodes_of_pool": promql.nodes_of_pool(SCOPE, "l4"),
        "cost_of_pool": promql.cost_of_pool(SCOPE, "l4", 0.5),
        "preemptions_by_pool": promql.preemptions_by_pool(SCOPE, ["v6e-1", "l4"], "1h"),
    }


def selectors(expression: Any) -> Iterator[tuple[str, dict[str, str]]]:
    """Every metric that a parsed query asks for, with what it asks of each label."""
    if isinstance(expression, promql_parser.VectorSelector):
        assert expression.name is not None
        yield expression.name, {matcher.name: matcher.value for matcher in expression.matchers.matchers}
    elif isinstance(expression, promql_parser.MatrixSelector):
        yield from selectors(expression.vector_selector)
    elif isinstance(expression, promql_parser.BinaryExpr):
        yield from selectors(expression.lhs)
        yield from selectors(expression.rhs)
    elif isinstance(expression, (promql_parser.AggregateExpr, promql_parser.ParenExpr)):
        yield from selectors(expression.expr)
    elif isinstance(expression, promql_parser.Call):
        for argument in expression.args:
            yield from selectors(argument)
    else:
        assert isinstance(expression, (promql_parser.NumberLiteral, promql_parser.StringLiteral)), type(expression)


def found_alerts(pools: Sequence[AcceleratorPool] = POOLS, **more: Any) -> dict[str, Alert]:
    return {each.name: each for each in alerts(scope=SCOPE, pools=pools, settings=replace(SETTINGS.monitoring, **more))}


def made_dashboard(pools: Sequence[PricedPool] = (), **more: Any) -> dict[str, Any]:
    priced = [PricedPool(pool=each, price=node_price(each.machine_type, each.provisioning, "us-central1")) for each in POOLS]
    return dashboard(scope=SCOPE, pools=pools or priced, settings=replace(SETTINGS.monitoring, **more))


def widgets(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {tile["widget"]["title"]: tile["widget"] for tile in document["mosaicLayout"]["tiles"]}


def chart_queries(document: dict[str, Any], title: str) -> dict[str, str]:
    sets = widgets(document)[title]["xyChart"]["dataSets"]
    return {each.get("legendTemplate", ""): each["timeSeriesQuery"]["prometheusQuery"] for each in sets}


# --- queries


@pytest.mark.parametrize(("name", "query"), queries().items(), ids=queries())
def test_a_query_is_promql_for_this_cluster_only(name: str, query: str) -> None:
    found = list(selectors(promql_parser.parse(query)))
    assert found
    for metric, labels in found:
        cluster = next(label for prefix, label in CLUSTER_LABELS.items() if metric.startswith(prefix))
        assert (labels[cluster], labels["location"]) == ("main", "us-central1"), metric
        # Some system metrics are of more than one kind of resource.
        assert labels.get("monitored_resource") == MONITORED_RESOURCES.get(metric)


def test_the_deployment_of_the_queries_is_the_one_that_there_is(dev: Run) -> None:
    deployment = dev.only("kubernetes:apps/v1:Deployment").inputs
    assert deployment["metadata"]["name"] == promql.DEPLOYMENT_NAME
    containers = [each["name"] for each in deployment["spec"]["template"]["spec"]["containers"]]
    assert containers == [f"{promql.DEPLOYMENT_NAME}-gpu", f"{promql.DEPLOYMENT_NAME}-tpu"]
    assert f'container_name=~"{promql.DEPLOYMENT_NAME}-(gpu|tpu)"' in promql.ready_by_pool(SCOPE)


def test_metrics_that_are_asked_for_are_collected(dev: Run) -> None:
    monitoring = dev.only(CLUSTER).inputs["monitoringConfig"]
    names = {metric for query in queries().values() for metric, _ in selectors(promql_parser.parse(query))}
    components = {"kube_pod_": "POD", "kube_deployment_": "DEPLOYMENT", "kubernetes_io:": "SYSTEM_COMPONENTS"}
    for name in names:
        if not name.startswith("vllm:"):
            component = next(component for prefix, component in components.items() if name.startswith(prefix))
            assert component in monitoring["enableComponents"], name
    assert monitoring["managedPrometheus"]["enabled"] is True


# --- dashboard


def test_the_api_takes_the_dashboard_and_gives_it_back_as_it_is() -> None:
    text = json.dumps(made_dashboard())
    assert dashboard_problems({"dashboardJson": text}) == []
    assert same_dashboard(text, text)


def test_a_chart_of_nodes_and_one_of_cost_have_a_line_a_pool() -> None:
    document = made_dashboard()
    nodes = chart_queries(document, "Nodes by pool")
    assert list(nodes) == ["v6e-1", "l4-spot", "l4"]
    cost = chart_queries(document, "Cost an hour by pool, at list prices")
    assert cost["v6e-1"] == f"{nodes['v6e-1']} * 2.7"


def test_a_pool_without_a_price_has_no_line_of_cost_and_says_so() -> None:
    pools = [PricedPool(pool=each, price=None) for each in POOLS]
    document = made_dashboard(pools=pools)
    assert "No price is known" in widgets(document)["Cost an hour by pool, at list prices"]["text"]["content"]
    assert "| 1 | v6e-1 | ct6e-standard-1t, on-demand | unknown | 1 to 2 |" in widgets(document)["The ladder"]["text"]["content"]
    assert dashboard_problems({"dashboardJson": json.dumps(document)}) == []
    priced = PricedPool(pool=POOLS[2], price=node_price(POOLS[2].machine_type, "on-demand", "us-central1"))
    some = made_dashboard(pools=[PricedPool(pool=POOLS[0], price=None), priced])
    assert list(chart_queries(some, "Cost an hour by pool, at list prices")) == ["l4"]


# --- alerts


RUNBOOK = (PROJECT_DIR / "docs" / "operate.md").read_text()


def test_an_alert_links_to_its_section_where_the_runbooks_address_is_known() -> None:
    alert = found_alerts()["replica-pending"]
    linked = alert_policy(alert, cluster_name="c", runbook_url="https://example.com/operate.md")["documentation"]
    assert linked["links"] == [
        {"display_name": "Runbook: The TPU is out of stock", "url": "https://example.com/operate.md#the-tpu-is-out-of-stock"}
    ]
    without = alert_policy(alert, cluster_name="c", runbook_url="")["documentation"]
    assert "links" not in without
    assert without["content"].endswith("*The TPU is out of stock*.")


def test_every_alert_says_what_it_means_what_to_do_and_where_the_runbook_is() -> None:
    for alert in found_alerts().values():
        assert alert.documentation.startswith("## What it means\n")
        assert "\n1. " in alert.documentation
        assert f"\n## {alert.runbook}\n" in RUNBOOK
        promql_parser.parse(alert.query)


@pytest.mark.parametrize("name", ["no-ready-replica", "replica-pending", "preemptions"])
def test_alerts_of_a_rung_name_the_one_line_way_out(name: str) -> None:
    assert "`enabled: false`" in found_alerts()[name].documentation


@pytest.mark.parametrize(
    ("setting", "value", "name", "seen"),
    [
        ("waiting_alert_requests", 7, "requests-waiting", "> 7"),
        ("first_token_alert_seconds", 3, "first-token-slow", "> 3"),
        ("preemption_alert_count", 2, "preemptions", ">= 2"),
    ],
)
def test_a_threshold_is_in_the_query_and_in_the_text(setting: str, value: int, name: str, seen: str) -> None:
    alert = found_alerts(POOLS, **{setting: value})[name]
    assert alert.query.endswith(seen)
    assert f" {value} " in alert.documentation


def test_pending_minutes_are_the_alerts_patience() -> None:
    alert = found_alerts(pending_alert_minutes=90)["replica-pending"]
    assert alert.minutes == 90
    assert "90 min" in alert.documentation


def test_preemptions_are_watched_where_they_can_happen() -> None:
    assert 'node_pool_name=~"l4-spot"' in found_alerts()["preemptions"].query
    assert "preemptions" not in found_alerts(pools=[POOLS[0], POOLS[2]])


# --- in the graph


@pytest.fixture(scope="module")
def dev() -> Run:
    return run_program()


def test_every_policy_is_one_that_the_api_takes(dev: Run) -> None:
    policies = dev.of_type(ALERT_POLICY)
    assert len(policies) == 7
    for policy in policies:
        assert alert_policy_problems(policy.inputs) == [], policy.name
        (condition,) = policy.inputs["conditions"]
        # Else Google refuses it in a project that has no such metric yet.
        assert condition["conditionPrometheusQueryLanguage"]["disableMetricValidation"] is True
    assert len({policy.inputs["displayName"] for policy in policies}) == 7


def test_alerts_notify_the_notification_channels_and_no_one_without_them() -> None:
    channels = ["projects/my-project/notificationChannels/1", "projects/my-project/notificationChannels/2"]
    for given in ([], channels):
        policies = run_program({"notificationChannels": given}).of_type(ALERT_POLICY)
        assert [policy.inputs.get("notificationChannels", []) for policy in policies] == [given] * 7
