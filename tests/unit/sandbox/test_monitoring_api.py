"""The stand-in for Cloud Monitoring's lists, asked by the recovery as it asks Google."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from ops.recovery.monitoring import ALERT_POLICY, DASHBOARD, ListingError, Monitoring
from sandbox.google.monitoring_api import MonitoringApi
from sandbox.google.records import Records

POLICY: dict[str, Any] = {"project": "p", "displayName": "c: no replica", "userLabels": {"cluster": "c"}}


@pytest.fixture
def monitoring(records: Records) -> Iterator[Monitoring]:
    api = MonitoringApi(records)
    yield Monitoring({"GOOGLE_MONITORING_CUSTOM_ENDPOINT": api.endpoint})
    api.stop()


def test_a_policy_is_found_by_name_and_labels_in_its_project(monitoring: Monitoring, records: Records) -> None:
    assert monitoring.ids(ALERT_POLICY, POLICY, "p") == []
    records.create(ALERT_POLICY, "projects/p/alertPolicies/1", POLICY, owner="urn:1")
    records.create(ALERT_POLICY, "projects/p/alertPolicies/2", {**POLICY, "userLabels": {"cluster": "d"}}, owner="urn:2")
    records.create(ALERT_POLICY, "projects/q/alertPolicies/3", {**POLICY, "project": "q"}, owner="urn:3")
    assert monitoring.ids(ALERT_POLICY, POLICY, "p") == ["projects/p/alertPolicies/1"]


def test_a_dashboard_is_found_by_its_title(monitoring: Monitoring, records: Records) -> None:
    inputs = {"project": "p", "dashboardJson": json.dumps({"displayName": "c: inference"})}
    records.create(DASHBOARD, "projects/1/dashboards/a", inputs, owner="urn:1")
    assert monitoring.ids(DASHBOARD, inputs, "p") == ["projects/1/dashboards/a"]
    other = {"project": "p", "dashboardJson": json.dumps({"displayName": "d: inference"})}
    assert monitoring.ids(DASHBOARD, other, "p") == []


def test_an_api_that_does_not_answer_is_reported_in_one_line() -> None:
    with pytest.raises(ListingError, match="Cloud Monitoring does not say what there is") as error:
        Monitoring({"GOOGLE_MONITORING_CUSTOM_ENDPOINT": "http://127.0.0.1:9/"}).ids(ALERT_POLICY, POLICY, "p")
    assert "\n" not in str(error.value)
