"""The front door: for each class and each way to a certificate, what Google and GKE's controller are asked for, and what clients get."""

from __future__ import annotations

import json
from typing import Any

import pytest

from components.gateway import clients, inference_pool, objects
from components.gateway.front_door import address_of
from components.settings.network_ranges import as_range
from tests.unit.program import Run, run_program

REGIONAL, GLOBAL, INTERNAL = "gke-l7-regional-external-managed", "gke-l7-global-external-managed", "gke-l7-rilb"
HOST = "llm.example.com"
NETWORK = {"nodeRange": "10.64.0.0/22", "podRange": "10.65.0.0/17", "serviceRange": "10.64.16.0/20"}

GATEWAY = f"kubernetes:{objects.API}:Gateway"
ROUTE = f"kubernetes:{objects.API}:HTTPRoute"
BACKEND_POLICY = f"kubernetes:{objects.POLICY_API}:GCPBackendPolicy"
NETWORK_POLICY = "kubernetes:networking.k8s.io/v1:NetworkPolicy"
SUBNETWORK = "gcp:compute/subnetwork:Subnetwork"


def door(class_name: str, certificate: dict[str, Any] | None = None, /, *, more: dict[str, Any] | None = None, **gateway: Any) -> Run:
    named = {"hostName": HOST, "certificate": certificate} if certificate else {}
    return run_program({"gateway": {"class": class_name, **named, **gateway}, **(more or {})})


def prefix(path: str) -> dict[str, Any]:
    return {"path": {"type": "PathPrefix", "value": path}}


def exact(path: str) -> dict[str, Any]:
    return {"path": {"type": "Exact", "value": path}}


def certificates(run: Run) -> dict[str, dict[str, Any]]:
    found = [each for each in run.resources.values() if each.type.startswith("gcp:certificatemanager/")]
    return {each.type.rpartition(":")[2]: each.inputs for each in found}


@pytest.mark.parametrize(
    ("class_name", "certificate", "tls", "annotation"),
    [
        (INTERNAL, {"secret": "tls"}, {"certificateRefs": [{"group": "", "kind": "Secret", "name": "tls"}]}, None),
        (GLOBAL, {"secret": "tls"}, {"certificateRefs": [{"group": "", "kind": "Secret", "name": "tls"}]}, None),
        (GLOBAL, {"map": "edge"}, None, "edge"),
        (GLOBAL, {"dnsAuthorization": True}, None, "tpu-gpu-fungibility-gateway-42287025"),
        (REGIONAL, {"dnsAuthorization": True}, {"options": {objects.CERTIFICATE_OPTION: "tpu-gpu-fungibility-gateway-42287025"}}, None),
    ],
)
def test_each_class_names_its_certificate_where_google_looks_for_it(
    class_name: str, certificate: dict[str, Any], tls: Any, annotation: str | None
) -> None:
    run = door(class_name, certificate)
    inputs = run.only(GATEWAY).inputs
    http, https = inputs["spec"]["listeners"]
    assert http == {"name": "http", "protocol": "HTTP", "port": 80}
    assert https == {"name": "https", "protocol": "HTTPS", "port": 443, **({"tls": {"mode": "Terminate", **tls}} if tls else {})}
    assert inputs["metadata"]["annotations"].get(objects.MAP_ANNOTATION) == annotation
    assert run.outputs["service_url"] == f"https://{HOST}/v1"
    assert run.outputs["service_ip"] == "198.51.100.8"


def test_clear_text_is_only_redirected_where_there_is_a_certificate_and_served_inside_the_vpc_where_there_is_none() -> None:
    serve, redirect = sorted(door(GLOBAL, {"secret": "tls"}).of_type(ROUTE), key=lambda each: each.name)
    assert (serve.inputs["metadata"]["name"], redirect.inputs["metadata"]["name"]) == ("vllm-service", "vllm-service-redirect")
    assert serve.inputs["spec"] == {
        "parentRefs": [{"name": "vllm-service", "sectionName": "https"}],
        "hostnames": [HOST],
        "rules": [{"matches": [prefix("/v1"), exact("/health")], "backendRefs": [{"name": "vllm-service", "port": 80}]}],
    }
    assert redirect.inputs["spec"]["parentRefs"] == [{"name": "vllm-service", "sectionName": "http"}]
    (rule,) = redirect.inputs["spec"]["rules"]
    assert rule == {"filters": [{"type": "RequestRedirect", "requestRedirect": {"scheme": "https", "statusCode": 301}}]}
    plain = door(INTERNAL)
    assert plain.only(ROUTE).inputs["spec"]["parentRefs"] == [{"name": "vllm-service", "sectionName": "http"}]
    assert (plain.outputs["service_url"], plain.outputs["dns_records"]) == ("http://198.51.100.8/v1", [])


@pytest.mark.parametrize(
    ("class_name", "location", "kind"), [(REGIONAL, "asia-northeast1", "PER_PROJECT_RECORD"), (GLOBAL, None, "FIXED_RECORD")]
)
def test_a_managed_certificate_is_of_the_scope_of_its_load_balancer_and_its_record_an_output(
    class_name: str, location: str | None, kind: str
) -> None:
    run = door(class_name, {"dnsAuthorization": True})
    found = certificates(run)
    assert (found["DnsAuthorization"]["type"], found["DnsAuthorization"].get("location")) == (kind, location)
    assert found["Certificate"].get("location") == location
    assert found["Certificate"]["managed"] == {"domains": [HOST], "dnsAuthorizations": ["gateway-certificate-id"]}
    assert ("CertificateMap" in found, "CertificateMapEntry" in found) == ((False, False) if location else (True, True))
    assert [(each["name"], each["type"]) for each in run.outputs["dns_records"]] == [
        (f"{HOST}.", "A"),
        (f"_acme-challenge.{HOST}.", "CNAME"),
    ]


@pytest.mark.parametrize(
    ("class_name", "type_token"), [(REGIONAL, "regionSecurityPolicy:RegionSecurityPolicy"), (GLOBAL, "securityPolicy:SecurityPolicy")]
)
def test_source_ranges_become_a_policy_of_the_class_s_scope(class_name: str, type_token: str) -> None:
    run = door(class_name, {"secret": "tls"}, sourceRanges=["203.0.113.0/24"])
    policy = run.only(f"gcp:compute/{type_token}")
    assert [rule["action"] for rule in policy.inputs["rules"]] == ["allow", "deny(403)"]
    assert run.only(BACKEND_POLICY).inputs["spec"]["default"]["securityPolicy"] == policy.inputs["name"]


def test_a_rule_has_as_many_ranges_as_google_takes_and_everybody_else_is_refused() -> None:
    found = clients.rules([f"203.0.113.{number}/32" for number in range(21)])
    assert [len(rule["match"]["config"]["src_ip_ranges"]) for rule in found] == [10, 10, 1, 1]
    assert [rule["priority"] for rule in found] == [1000, 1001, 1002, 2**31 - 1]
    assert found[-1]["match"]["config"]["src_ip_ranges"] == ["*"]


def test_an_answer_may_take_an_hour_and_a_pod_that_ends_finishes_its_requests() -> None:
    run = door(INTERNAL, more={"terminationGracePeriodSeconds": 90})
    policy = run.only(BACKEND_POLICY).inputs["spec"]
    assert policy["targetRef"] == {"group": "", "kind": "Service", "name": "vllm-service"}
    assert policy["default"] == {"timeoutSec": 3600, "connectionDraining": {"drainingTimeoutSec": 90}, "logging": {"enabled": True}}
    check = run.only(f"kubernetes:{objects.POLICY_API}:HealthCheckPolicy").inputs["spec"]["default"]
    assert (check["config"]["httpHealthCheck"]["requestPath"], check["config"]["httpHealthCheck"]["port"]) == ("/health", 8000)
    assert check["timeoutSec"] <= check["checkIntervalSec"]
    service = run.only("kubernetes:core/v1:Service").inputs["spec"]
    assert (service["type"], "externalTrafficPolicy" in service) == ("ClusterIP", False)


def test_a_new_pod_has_time_to_get_requests_and_a_server_closes_no_connection_before_google_s_proxies_do() -> None:
    spec = door(INTERNAL).only("kubernetes:apps/v1:Deployment").inputs["spec"]
    assert spec["minReadySeconds"] == 30
    for container in spec["template"]["spec"]["containers"]:
        assert {"name": "VLLM_HTTP_TIMEOUT_KEEP_ALIVE", "value": "620"} in container["env"]


@pytest.mark.parametrize(("class_name", "proxies"), [(INTERNAL, ["10.129.0.0/23"]), (REGIONAL, ["10.129.0.0/23"]), (GLOBAL, [])])
def test_pods_take_connections_from_the_load_balancer_s_proxies_and_checks_alone(class_name: str, proxies: list[str]) -> None:
    certificate = None if class_name == INTERNAL else {"secret": "tls"}
    run = door(class_name, certificate, more={"network": NETWORK, "networkPolicy": True})
    (rule,) = run.only(NETWORK_POLICY).inputs["spec"]["ingress"]
    blocks = [each["ipBlock"]["cidr"] for each in rule["from"] if "ipBlock" in each]
    assert blocks == ["35.191.0.0/16", "130.211.0.0/22", *proxies]
    made = [each.inputs for each in run.of_type(SUBNETWORK) if each.inputs.get("purpose") == "REGIONAL_MANAGED_PROXY"]
    assert [each["ipCidrRange"] for each in made] == proxies
    assert all(as_range(each).prefixlen <= 26 for each in proxies)
    waits_for = run.only(GATEWAY).dependencies
    assert any(urn.endswith("::network-proxies") for urn in waits_for) is bool(proxies)


def test_a_gateway_that_chooses_by_load_asks_the_picker_of_the_servers_pool() -> None:
    run = door(INTERNAL, more={"inferenceGateway": True, "networkPolicy": True, "network": NETWORK})
    reference = {"group": inference_pool.GROUP, "kind": "InferencePool", "name": "vllm-service"}
    (rule,) = run.only(ROUTE).inputs["spec"]["rules"]
    assert rule["backendRefs"] == [reference]
    assert run.only(BACKEND_POLICY).inputs["spec"]["targetRef"] == reference
    spec = run.only(f"kubernetes:{inference_pool.GROUP}/v1:InferencePool").inputs["spec"]
    picker = run.named("kubernetes:apps/v1:Deployment", "gateway-pool").inputs["spec"]["template"]
    assert spec["endpointPickerRef"] == {"name": "vllm-service-picker", "port": {"number": 9002}, "failureMode": "FailOpen"}
    assert spec["selector"]["matchLabels"] == run.named("kubernetes:apps/v1:Deployment", "vllm").inputs["spec"]["selector"]["matchLabels"]
    assert run.named("kubernetes:core/v1:Service", "gateway-pool").inputs["spec"]["selector"] == picker["metadata"]["labels"]
    (container,) = picker["spec"]["containers"]
    assert "@sha256:" in container["image"]
    plugins = json.loads(inference_pool.picker_config())["schedulingProfiles"][0]["plugins"]
    assert [each["pluginRef"] for each in plugins] == ["queue-scorer", "kv-cache-utilization-scorer", "prefix-cache-scorer"]
    # It reads the servers' metrics.
    (admitted,) = run.only(NETWORK_POLICY).inputs["spec"]["ingress"]
    assert {"podSelector": {"matchLabels": picker["metadata"]["labels"]}} in admitted["from"]


def test_a_gateway_that_could_not_be_made_has_no_address() -> None:
    assert address_of(None) is None
    assert address_of({"conditions": []}) is None
