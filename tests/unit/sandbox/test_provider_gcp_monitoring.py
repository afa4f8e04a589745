"""Dashboards and alert policies in the stand-in cloud: ids, outputs, differences, and what Google's API refuses."""

import json
import re
from collections.abc import Iterator
from typing import Any

import grpc  # type: ignore[import-untyped]
import pytest

from sandbox.google.records import Records
from sandbox.providers.gcp import GcpProvider
from sandbox.providers.gcp_kinds import project_number
from sandbox.providers.wire import UNKNOWN
from tests.unit.provider_client import Client, Engine, urn
from tests.unit.sandbox.test_provider_gcp import DictionaryCloud, refusal

DASHBOARD = "gcp:monitoring/dashboard:Dashboard"
ALERT_POLICY = "gcp:monitoring/alertPolicy:AlertPolicy"


@pytest.fixture
def client(records: Records) -> Iterator[Client]:
    with Engine(lambda: GcpProvider(DictionaryCloud(), records)) as engine:
        connected = engine.connect()
        connected.configure(project="p", region="asia-northeast1")
        yield connected


def chart(query: str = "up", **more: Any) -> dict[str, Any]:
    return {"xyChart": {"dataSets": [{"timeSeriesQuery": {"prometheusQuery": query}}], **more}}


def tile(widget: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"width": 12, "height": 4, "widget": widget, **more}


def document(*tiles: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"displayName": "d", "mosaicLayout": {"columns": 48, "tiles": list(tiles)}, **more}


def inputs(value: dict[str, Any]) -> dict[str, Any]:
    return {"dashboardJson": json.dumps(value)}


def policy(condition: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    query = {"query": "up == 0", "duration": "300s", "evaluationInterval": "60s", **(condition or {})}
    conditions = [{"displayName": "down", "conditionPrometheusQueryLanguage": query}]
    return {"displayName": "down", "combiner": "OR", "conditions": conditions, **more}


# --- dashboards


def test_a_dashboard_is_named_by_google_below_the_projects_number(client: Client, records: Records) -> None:
    first, outputs = client.create(urn(DASHBOARD, "d"), inputs(document(tile(chart()))))
    assert re.fullmatch(rf"projects/{project_number('p')}/dashboards/[0-9a-f-]{{36}}", first)
    assert outputs["project"] == "p"
    second, _ = client.create(urn(DASHBOARD, "d"), inputs(document()))
    assert second != first
    client.delete(urn(DASHBOARD, "d"), first, outputs)
    assert records.get(DASHBOARD, first) is None


@pytest.mark.parametrize(
    ("before", "after", "details"),
    [
        (document(tile(chart())), document(tile(chart())), {}),
        (
            {"displayName": "d", "gridLayout": {"columns": 2, "widgets": [{"blank": {}}]}},
            {"gridLayout": {"widgets": [{"blank": {}}], "columns": 2}, "displayName": "d"},
            {},
        ),
        # What goes may be a default of the API's for all that the provider knows.
        (document(tile(chart()), labels={"a": "b"}), document(tile(chart())), {}),
        (document(tile(chart())), document(tile(chart()), labels={"a": "b"}), {"dashboardJson": "UPDATE"}),
        # The API does not give back a zero, so every preview has something to do.
        (document(tile(chart(), xPos=0)), document(tile(chart(), xPos=0)), {"dashboardJson": "UPDATE"}),
        (document(tile(chart("a"))), document(tile(chart("b"))), {"dashboardJson": "UPDATE"}),
    ],
)
def test_only_what_a_dashboards_text_means_makes_a_difference(
    client: Client, before: dict[str, Any], after: dict[str, Any], details: dict[str, str]
) -> None:
    assert client.diff(urn(DASHBOARD, "d"), inputs(before), inputs(after)).details == details


def test_invalid_json_is_refused_early_and_an_unknown_text_is_not(client: Client) -> None:
    (failure,) = client.check(urn(DASHBOARD, "d"), {"dashboardJson": "{"}).failures
    assert '"dashboardJson" contains an invalid JSON' in failure[1]
    assert client.check(urn(DASHBOARD, "d"), {"dashboardJson": UNKNOWN}).failures == []


#: What of a dashboard is wrong -> the document, and what Google says.
BAD_DASHBOARDS: dict[str, tuple[dict[str, Any], str]] = {
    "unknown field": (
        document(tile({"xyChrt": {}})),
        "Unknown name \"xyChrt\" at 'dashboard.mosaic_layout.tiles[0].widget': Cannot find field.",
    ),
    "duration without its unit": (
        document(tile({"xyChart": {"dataSets": [{"minAlignmentPeriod": "60"}]}})),
        'min_alignment_period\' (google-duration), "60"',
    ),
    "no name": ({"gridLayout": {}}, "Field dashboard.display_name had an invalid value"),
    "two layouts": (document(gridLayout={}), "more than one layout: grid_layout, mosaic_layout"),
    "no size": (document(tile(chart(), width=0)), "must have a minimum width and height of 1"),
    "beyond the grid": (document(tile(chart(), xPos=40)), "must be contained within the 48 columns"),
    "two tiles in one place": (
        document(tile(chart()), tile(chart(), xPos=11, yPos=3)),
        "Field dashboard.mosaic_layout.tiles[1] overlaps with dashboard.mosaic_layout.tiles[0].",
    ),
    "chart without data": (document(tile({"xyChart": {"dataSets": []}})), "data_sets had an invalid value of []"),
    "coloured threshold in a chart": (
        document(tile(chart(thresholds=[{"value": 1, "color": "RED"}]))),
        "thresholds[0].color had an invalid value",
    ),
    "no PromQL": (document(tile(chart("sum by ("))), "cannot be parsed as PromQL"),
}


@pytest.mark.parametrize(("value", "said"), BAD_DASHBOARDS.values(), ids=BAD_DASHBOARDS)
def test_a_dashboard_that_the_api_refuses_is_refused_when_it_is_made_and_when_it_is_changed(
    client: Client, value: dict[str, Any], said: str
) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        client.create(urn(DASHBOARD, "d"), inputs(value))
    assert refusal(raised).startswith("Error creating Dashboard: googleapi: Error 400: ")
    assert said in refusal(raised)
    id, outputs = client.create(urn(DASHBOARD, "d"), inputs(document()))
    with pytest.raises(grpc.RpcError) as raised:
        client.update(urn(DASHBOARD, "d"), id, inputs(document()), outputs, inputs(value))
    assert refusal(raised).startswith("Error updating Dashboard: ")


@pytest.mark.parametrize(
    "widget",
    [
        chart("rate(vllm:generation_tokens_total[${__interval}])"),
        chart("up{${cluster}}"),
        chart(thresholds=[{"value": "10", "label": "l", "targetAxis": "Y1"}]),
        {"title": "t", "text": {"content": "c", "format": "MARKDOWN"}},
        {"scorecard": {"timeSeriesQuery": {"timeSeriesFilter": {"filter": "f"}, "unitOverride": "s"}}},
        {"blank": {}},
    ],
)
def test_a_dashboard_that_the_api_takes_is_taken(client: Client, widget: dict[str, Any]) -> None:
    client.create(urn(DASHBOARD, "d"), inputs(document(tile(widget), tile({"blank": {}}, xPos=12))))


# --- alert policies


def test_an_alert_policy_and_its_conditions_are_named_by_google(client: Client) -> None:
    id, outputs = client.create(urn(ALERT_POLICY, "a"), policy())
    assert re.fullmatch(r"projects/p/alertPolicies/\d{19}", id)
    assert outputs["name"] == id
    assert outputs["enabled"] is True
    assert re.fullmatch(rf"{id}/conditions/\d{{19}}", outputs["conditions"][0]["name"])
    assert client.create(urn(ALERT_POLICY, "a"), policy())[0] != id


#: What of an alert policy is wrong -> the policy, and what Google says.
BAD_POLICIES: dict[str, tuple[dict[str, Any], str]] = {
    "no PromQL": (policy({"query": "up ="}), 'query had an invalid value of "up =": cannot be parsed as PromQL'),
    "odd interval": (policy({"evaluationInterval": "45s"}), "must be a positive multiple of 30 seconds"),
    "negative duration": (policy({"duration": "-60s"}), "must be zero or positive"),
    "rule that is no label": (policy({"alertRule": "no-replica"}), "must be a valid Prometheus label name"),
    "closed too soon": (policy(alertStrategy={"autoClose": "60s"}), "must be at least 30 minutes"),
    "channel by its name": (policy(notificationChannels=["on-call"]), "notification_channels[0] had an invalid value"),
    "label in capitals": (policy(userLabels={"Team": "a"}), "a letter first in the key"),
}


@pytest.mark.parametrize(("value", "said"), BAD_POLICIES.values(), ids=BAD_POLICIES)
def test_an_alert_policy_that_the_api_refuses_is_refused(client: Client, value: dict[str, Any], said: str) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        client.create(urn(ALERT_POLICY, "a"), value)
    assert refusal(raised).startswith("Error creating AlertPolicy: googleapi: Error 400: ")
    assert said in refusal(raised)
