"""Credentials, errors and bounds of preflight, against a local server that breaks as Google's and others do."""

from __future__ import annotations

import json
import time
from typing import Any

import google.auth
import pytest
from google.oauth2 import credentials as user_credentials

from ops.findings import Finding, ok
from ops.preflight.calls import CallFailed
from ops.preflight.context import Check, Context
from ops.preflight.runner import run_checks
from tests.unit.preflight_project import FAMILY, PROJECT, TPU_QUOTA
from tests.unit.preflight_run import Bench
from tests.unit.preflight_server import ACCESS_TOKEN, REFRESH_TOKEN, Fault, api_error, disabled, old_error

BILLING = "cloudbilling.projects.getBillingInfo"


def test_no_credentials_names_the_login_command_and_skips_what_needs_them(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS")
    report = bench.run()
    statuses = {outcome.check: outcome.status for outcome in report.outcomes}
    assert statuses.pop("credentials") == "failed"
    assert statuses.pop("images") == statuses.pop("model") == "ok"
    assert set(statuses.values()) == {"skipped"}
    (credentials,) = report.outcomes[0].findings
    assert credentials.value == "there are none"
    assert credentials.fix.startswith("gcloud auth application-default login")
    (skipped,) = report.outcomes[1].findings
    assert "credentials" in skipped.reason
    assert not [each for each in bench.server.seen if each.method.startswith("compute.")]


def test_an_invalid_credentials_file_differs_from_a_missing_one(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    (bench.folder / "key.json").write_text("{")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(bench.folder / "key.json"))
    (finding,) = bench.findings("credentials")
    assert finding.value == "cannot be used"


def test_expired_credentials(bench: Bench) -> None:
    body = {"error": "invalid_grant", "error_description": "Token has been expired or revoked."}
    bench.server.answers["token"] = Fault(status=400, body=json.dumps(body).encode())
    (finding,) = bench.findings("credentials")
    assert finding.status == "failed"
    assert "expired or revoked" in finding.value
    assert "Token has been expired or revoked" in finding.reason


def test_a_persons_credentials_ask_in_the_name_of_the_stacks_project(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    person = user_credentials.Credentials(  # type: ignore[no-untyped-call]
        None, refresh_token=REFRESH_TOKEN, token_uri=f"{bench.server.url}/token/", client_id="a", client_secret="b"
    )
    monkeypatch.setattr(google.auth, "default", lambda scopes: (person, None))
    report = bench.run()
    assert report.passed(strict=True), report.text()
    asked = [each for each in bench.server.seen if each.headers.get("authorization") == f"Bearer {ACCESS_TOKEN}"]
    assert {each.headers.get("x-goog-user-project") for each in asked} == {PROJECT}
    bench.server.set(BILLING, api_error(403, "denied"))
    (found,) = bench.findings("billing")
    assert "--member=user:YOUR_EMAIL" in found.fix


def test_a_service_account_asks_in_the_name_of_its_own_project(bench: Bench) -> None:
    bench.run()
    assert not [each for each in bench.server.seen if "x-goog-user-project" in each.headers]


FAULTS = [
    (disabled("cloudbilling"), "skipped", ["is off", "gcloud services enable cloudbilling.googleapis.com --project=my-project"]),
    (old_error(403, "Access Not Configured.", "accessNotConfigured"), "skipped", ["is off", "gcloud services enable cloudbilling."]),
    (api_error(403, "The caller does not have permission"), "warning", ["permission denied", "add-iam-policy-binding my-project"]),
    (api_error(404, "Project not found"), "failed", ["does not exist", "Project not found", "check the name"]),
    (api_error(400, "Bad name"), "failed", ["the request was refused", "Bad name", "read the reason"]),
    (api_error(429, "Quota exceeded"), "failed", ["too many requests", "Quota exceeded", "again in some minutes"]),
    (old_error(403, "Rate Limit Exceeded", "rateLimitExceeded"), "failed", ["too many requests", "Rate Limit"]),
    (api_error(500, "Internal error"), "failed", ["the server has trouble", "Internal error", "status.cloud.google.com"]),
    (Fault(status=503, body=b"<html>"), "failed", ["the server has trouble", "HTTP 503"]),
    (Fault(drop=True), "failed", ["no connection", "dropped", "proxy"]),
    (Fault(body=b"{not json"), "failed", ["makes no sense", "not JSON", "answers in its place"]),
    (Fault(body=b"[]"), "failed", ["makes no sense", "is list, not an object"]),
]


@pytest.mark.parametrize(("fault", "status", "words"), FAULTS)
def test_every_fault_of_a_server_has_words_of_its_own(bench: Bench, fault: Fault, status: str, words: list[str]) -> None:
    bench.server.set(BILLING, fault)
    (found,) = bench.findings("billing")
    assert found.status == status
    for word in words:
        assert word in f"{found.value} / {found.reason} / {found.fix}"


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (api_error(403, "denied"), "roles/serviceusage.serviceUsageViewer"),
        (api_error(503, "unavailable"), "has trouble"),
        (Fault(drop=True), "no connection"),
        (Fault(body=b"{not json"), "makes no sense"),
        (api_error(404, "no such quota"), "no quota of this name"),
        ({}, "no quota of this name"),
    ],
)
def test_an_unreadable_quota_does_not_hide_the_others(bench: Bench, fault: Any, words: str) -> None:
    bench.server.set(TPU_QUOTA, fault)
    found = bench.findings("quotas")
    (tpu,) = [each for each in found if each.field.startswith(FAMILY)]
    assert words in f"{tpu.value} {tpu.fix}"
    assert [each.status for each in found].count("ok") == 6


def test_a_server_is_asked_again_after_the_pause_that_it_asks_for(bench: Bench) -> None:
    busy = Fault(status=429, headers={"Retry-After": "7"}, body=b"{}")
    bench.server.answers[BILLING] = [busy, Fault(status=503), bench.server.answers[BILLING]]
    (found,) = bench.findings("billing")
    assert found.status == "ok"
    assert bench.pauses == [7.0, 2.0]


def test_a_server_that_stays_broken_is_asked_four_times(bench: Bench) -> None:
    bench.server.set(BILLING, Fault(status=500, headers={"Retry-After": "3600"}))
    bench.findings("billing")
    assert len(bench.server.requests(BILLING)) == 4
    assert bench.pauses == [10.0, 10.0, 10.0]


def test_a_server_that_does_not_answer_is_given_up(bench: Bench) -> None:
    bench.server.set(BILLING, Fault(delay=0.5))
    (found,) = bench.findings("billing", seconds=0.1)
    assert found.status == "failed"
    assert "no answer in time" in found.value
    assert "0.1 s" in found.reason


def test_one_broken_answer_hides_no_other_check(bench: Bench) -> None:
    bench.server.set("compute.regions.get", Fault(body=b'{"quotas": [{"limit": "many"}]}'))
    report = bench.run()
    bad = [outcome for outcome in report.outcomes if outcome.status != "ok"]
    assert [outcome.check for outcome in bad] == ["quotas"]
    (found,) = bad[0].findings
    assert "unexpected shape" in found.reason
    assert not report.passed()


def test_the_whole_run_is_bounded(bench: Bench) -> None:
    def slow(context: Context) -> list[Finding]:
        time.sleep(5)
        return []

    def quick(context: Context) -> list[Finding]:
        return [ok("quick", "well")]

    checks = (
        Check(name="slow", title="Slow", run=slow),
        Check(name="after", title="After", needs=("slow",), run=quick),
        Check(name="quick", title="Quick", run=quick),
    )
    start = time.monotonic()
    outcomes = run_checks(checks, bench.context(), seconds=0.2)
    assert time.monotonic() - start < 2
    assert [outcome.status for outcome in outcomes][0::2] == ["failed", "ok"]
    assert outcomes[1].status in ("failed", "skipped")
    assert "0.2 s" in outcomes[0].findings[0].value
    assert "--timeout" in outcomes[0].findings[0].fix


def test_the_test_server_refuses_what_google_s_own_descriptions_do_not_allow(bench: Bench) -> None:
    google = bench.context().google
    google.authenticate()
    with pytest.raises(CallFailed, match=r"Unknown name .*permission"):
        google.post("cloudresourcemanager", f"v3/projects/{PROJECT}:testIamPermissions", {"permission": []})
    with pytest.raises(CallFailed, match="no such method"):
        google.get("compute", "compute/v1/projects")
    with pytest.raises(CallFailed, match="query parameter nope=x is unknown"):
        google.get("compute", f"compute/v1/projects/{PROJECT}", nope="x")
    assert len(bench.server.violations) == 3
    bench.server.violations.clear()
