"""The front door on the stack of the tier: turned on, asked in every way, and turned off again. The tests run in order."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import requests

from ops.smoke.service import Service
from sandbox.cli.client import Sandbox
from sandbox.cli.http2 import Http2Adapter
from sandbox.cli.traffic import Traffic
from tests.sandbox.stacks import doors_of

HOST = "llm.example.com"
_UP = ("up", "--yes", "--skip-preview", "--non-interactive")
_GATEWAY = {"class": "gke-l7-regional-external-managed", "hostName": HOST, "certificate": {"dnsAuthorization": True}}


@pytest.fixture(scope="module")
def door(sandbox: Sandbox) -> Iterator[Sandbox]:
    """The dev stack with a gateway, which this process can reach."""
    sandbox.pulumi(*_UP, overrides={"gateway": _GATEWAY})
    with doors_of(sandbox):
        yield sandbox
    sandbox.pulumi(*_UP)


@pytest.fixture
def http2(door: Sandbox) -> requests.Session:
    session = requests.Session()
    session.mount("https://", Http2Adapter(str(door.paths.trust)))
    return session


def test_outputs_give_the_gateway_s_address_and_the_records_that_its_name_needs(door: Sandbox) -> None:
    outputs = door.outputs()
    assert outputs["service_url"] == f"https://{HOST}/v1"
    host, proof = outputs["dns_records"]
    assert host == {"name": f"{HOST}.", "type": "A", "data": outputs["service_ip"]}
    assert (proof["type"], proof["data"].partition(".authorize.")[2]) == ("CNAME", "certificatemanager.goog.")
    door.pulumi("preview", "--expect-no-changes", "--non-interactive", overrides={"gateway": _GATEWAY})


def test_objects_say_what_gke_s_controller_says(door: Sandbox) -> None:
    conditions = "jsonpath={range .status.conditions[*]}{.type}={.status} {end}"
    said = door.kubectl("get", "gateway", "vllm-service", "-o", conditions)
    assert said.split() == ["Accepted=True", "Programmed=True", "networking.gke.io/GatewayHealthy=True"]
    routes = json.loads(door.kubectl("get", "httproutes", "-o", "json"))["items"]
    for route in routes:
        (parent,) = route["status"]["parents"]
        assert {each["status"] for each in parent["conditions"]} == {"True"}, route
    refused = door.kubectl(
        "patch", "healthcheckpolicy", "vllm-service", "--type=merge", "-p", '{"spec":{"default":{"timeoutSec":0}}}', check=False
    )
    assert "should be greater than or equal to 1" in refused


def test_https_answers_by_host_name_whole_and_streamed_over_both_versions_of_http(door: Sandbox, http2: requests.Session) -> None:
    outputs = door.outputs()
    for session in (None, http2):
        service = Service(outputs["service_url"], seconds=30, session=session)
        service.health()
        for stream in (False, True):
            answer = service.ask(outputs["model"], "Why is the sky blue?", stream=stream)
            assert answer.text
            assert answer.pod.startswith("vllm-")
    assert outputs["model"] in door.command("chat", "Who serves?").stderr


def test_http_is_redirected_and_another_host_is_not_served(door: Sandbox) -> None:
    plain = requests.get(f"http://{HOST}/v1/models?x=1", allow_redirects=False, timeout=10)
    assert (plain.status_code, plain.headers["Location"]) == (301, f"https://{HOST}/v1/models?x=1")
    other = requests.get(f"https://{HOST}/v1/models", headers={"Host": "other.example.com"}, timeout=10)
    assert (other.status_code, other.text) == (404, "fault filter abort")


def test_a_rolling_update_loses_no_request(door: Sandbox) -> None:
    outputs = door.outputs()
    clients = [Traffic(outputs["service_url"], outputs["model"], rate=2, keep_alive=not http2, http2=http2) for http2 in (False, True)]
    for client in clients:
        client.start()
    door.pulumi(*_UP, overrides={"gateway": _GATEWAY, "maxModelLen": 4096})
    for client in clients:
        report = client.stop()
        assert report.count("answered") == len(report.exchanges), report.as_document()


def test_without_the_setting_the_service_is_as_it_was_and_the_definitions_are_gone(door: Sandbox) -> None:
    door.pulumi(*_UP)
    assert door.outputs()["service_url"].startswith("http://127.0.0.")
    door.command("chat", "Who serves?")
    assert "gateway" not in door.kubectl("get", "customresourcedefinitions", "-o", "name")
