"""GKE's gateway controller: what Envoy is told, what Gateways and routes say, and where clients of this machine find them."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client

import sandbox.gke.gateway as under_test
from sandbox.gke.envoy_config import Backend, HealthCheck, Listener, Route, cluster, endpoints, listener
from sandbox.gke.gateway import CERTIFICATES, GatewayController, endpoints_of
from sandbox.gke.gateway_status import NO_PROXY_SUBNET
from sandbox.gke.load_balancer import Frontends
from sandbox.google.latencies import Clock
from sandbox.google.records import Records
from sandbox.host.doors import doors, how_to_reach, use_doors
from sandbox.host.paths import Paths
from sandbox.host.processes import Spawner
from sandbox.kube import kube_api
from tests.unit.sandbox.helpers import FakeWatcher, eventually

Object = dict[str, Any]

HOST = "llm.example.com"
GATEWAY = f"{under_test._API}/namespaces/default/gateways/vllm/status"
ROUTE = f"{under_test._API}/namespaces/default/httproutes/vllm/status"


def named(name: str, spec: Object, **metadata: Any) -> Object:
    return {"metadata": {"namespace": "default", "name": name, "generation": 1, **metadata}, "spec": spec}


def gateway(tls: Object | None = None, **spec: Any) -> Object:
    https = {"name": "https", "protocol": "HTTPS", "port": 443, "tls": tls or {"options": {CERTIFICATES: "door"}}}
    listeners = [{"name": "http", "protocol": "HTTP", "port": 80}, https]
    return named("vllm", {"gatewayClassName": "gke-l7-regional-external-managed", "listeners": listeners, **spec})


def route(section: str = "https", service: str = "vllm", **backend: Any) -> Object:
    rules = [{"backendRefs": [backend or {"name": service, "port": 80}]}]
    return named("vllm", {"parentRefs": [{"name": "vllm", "sectionName": section}], "hostnames": [HOST], "rules": rules})


def slices(*conditions: Object) -> list[Object]:
    found = [{"addresses": [f"10.88.0.{number}"], "conditions": each} for number, each in enumerate(conditions, 1)]
    labels = {"kubernetes.io/service-name": "vllm"}
    return [
        {
            **{"metadata": {"namespace": "default", "name": "vllm-1", "labels": labels}, "addressType": "IPv4"},
            **{"ports": [{"name": "http", "port": 8000}], "endpoints": found},
        }
    ]


SERVICE = named("vllm", {"ports": [{"name": "http", "port": 80}]})
READY, UNREADY, ENDING = {"ready": True}, {"ready": False}, {"ready": False, "serving": True, "terminating": True}


class FakeApi:
    def __init__(self, _: object) -> None:
        self.statuses: dict[str, Object] = {}

    def create(self, path: str, body: Object) -> Object:
        return body

    def patch(self, path: str, body: Object) -> Object:
        self.statuses[path] = body["status"]
        return body


class World:
    """A controller whose watches the test feeds, and whose Envoy is not started."""

    def __init__(self, folder: Path) -> None:
        self.paths = Paths(cache=folder, state=folder)
        self.folder = folder / "clusters" / "c"
        self.records = Records(folder / "cloud.json")
        self.controller = GatewayController(
            client.ApiClient(client.Configuration()),
            state_dir=self.folder,
            tools=folder,
            environment={},
            spawner=Spawner(),
            clock=Clock(1000.0),
            frontends=Frontends(),
            records=self.records,
            location="asia-northeast1",
            network="projects/p/global/networks/own",
            neg_seconds=0.2,
        )
        self.api: FakeApi = FakeWatcher.made["gateways"].api

    def certificate(self, host: str = HOST) -> None:
        id = "projects/p/locations/asia-northeast1/certificates/door"
        self.records.create("gcp:certificatemanager/certificate:Certificate", id, {"managed": {"domains": [host]}}, owner="test")

    def start(self, **objects: list[Object]) -> None:
        given = {"gateways": [gateway()], "httproutes": [route()], "services": [SERVICE], "endpointslices": slices(READY), **objects}
        self.controller.start()
        for name, found in given.items():
            FakeWatcher.made[name].sync(found)

    def condition(self, path: str, kind: str) -> Object | None:
        status = self.api.statuses.get(path) or {}
        conditions = status.get("conditions") or [each for parent in status.get("parents") or [] for each in parent["conditions"]]
        return next((each for each in conditions if each["type"] == kind), None)

    def file(self, name: str) -> str:
        path = self.folder / "gateway" / name
        return path.read_text() if path.exists() else ""

    def backends(self) -> list[str]:
        found = json.loads(self.file("eds-default_vllm_80.json") or '{"resources": []}')["resources"]
        return [each["endpoint"]["address"]["socket_address"]["address"] for one in found for each in one["endpoints"][0]["lb_endpoints"]]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    FakeWatcher.made = {}
    monkeypatch.setattr(kube_api, "Watcher", FakeWatcher)
    monkeypatch.setattr(under_test, "KubeApi", FakeApi)
    monkeypatch.setattr(under_test, "_LOOK_SECONDS", 0.05)
    for name in ("_start_envoy", "_wait_for"):
        monkeypatch.setattr(GatewayController, name, lambda *_: None)
    found = World(tmp_path)
    yield found
    found.controller.stop()


# --- the controller


def test_a_gateway_is_programmed_after_its_certificate_and_clients_find_it_by_host_and_port(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.start()
    said = eventually(lambda: world.condition(GATEWAY, "Programmed"))
    assert (said["status"], said["message"]) == ("False", "The resource 'locations/asia-northeast1/certificates/door' was not found.")
    world.certificate()
    eventually(lambda: (world.condition(GATEWAY, "Programmed") or {})["status"] == "True")
    (address,) = world.api.statuses[GATEWAY]["addresses"]
    assert [each["attachedRoutes"] for each in world.api.statuses[GATEWAY]["listeners"]] == [0, 1]
    assert (world.condition(ROUTE, "Accepted") or {})["status"] == "True"
    place = eventually(lambda: doors(world.paths).get(f"{HOST}:443"))
    assert place[0] == address["value"]
    assert f"{HOST}" in world.file("lds.json")
    monkeypatch.setattr(socket, "getaddrinfo", socket.getaddrinfo)
    use_doors(world.paths)
    assert socket.getaddrinfo(HOST, 443)[0][4] == place
    assert how_to_reach(world.paths, f"https://{HOST}/v1") == f"--connect-to {HOST}:443:{place[0]}:{place[1]} --cacert {world.paths.trust}"
    assert how_to_reach(world.paths, "http://127.0.0.9:8000/v1") == ""


@pytest.mark.parametrize(
    ("objects", "path", "kind", "message"),
    [
        ({"gateways": [gateway({"certificateRefs": [{"name": "tls"}]})]}, GATEWAY, "Programmed", 'Secret "default/tls"'),
        ({"gateways": [gateway({"mode": "Terminate"})]}, GATEWAY, "Programmed", "has no certificate"),
        ({"httproutes": [route("tls")]}, ROUTE, "Accepted", 'no listener "tls"'),
        ({"httproutes": [route(service="other")]}, ROUTE, "ResolvedRefs", 'Service "default/other" was not found.'),
    ],
)
def test_what_is_wrong_is_said_where_gke_says_it(world: World, objects: Any, path: str, kind: str, message: str) -> None:
    world.certificate()
    world.start(**objects)
    said = eventually(lambda: world.condition(path, kind))
    assert said["status"] == "False"
    assert message in said["message"]


def test_a_regional_gateway_in_a_network_of_the_stack_wants_its_proxies_subnet(world: World) -> None:
    world.certificate()
    world.records.create("gcp:compute/network:Network", "projects/p/global/networks/own", {}, owner="test")
    world.start()
    assert eventually(lambda: world.condition(GATEWAY, "Programmed"))["message"] == NO_PROXY_SUBNET
    subnet = {"purpose": "REGIONAL_MANAGED_PROXY", "role": "ACTIVE", "network": "projects/p/global/networks/own"}
    id = "projects/p/regions/asia-northeast1/subnetworks/proxies"
    world.records.create("gcp:compute/subnetwork:Subnetwork", id, subnet, owner="test")
    eventually(lambda: (world.condition(GATEWAY, "Programmed") or {})["status"] == "True")


def test_an_inference_pool_is_served_as_the_service_of_its_name(world: World) -> None:
    world.certificate()
    world.start(httproutes=[route(group="inference.networking.k8s.io", kind="InferencePool", name="vllm")])
    assert eventually(world.backends) == ["127.88.0.1"]


def test_a_certificate_that_is_not_issued_yet_ends_every_connection(world: World) -> None:
    world.certificate("llm.invalid")
    world.start()
    eventually(lambda: "direct_response.v3.Config" in world.file("lds.json"))
    # The load balancer is there, and waits.
    eventually(lambda: (world.condition(GATEWAY, "Programmed") or {})["status"] == "True")


def test_endpoints_come_and_go_late_ready_or_not(world: World) -> None:
    world.certificate()
    world.start(endpointslices=slices(READY, UNREADY))
    assert eventually(world.backends) == ["127.88.0.1", "127.88.0.2"]
    FakeWatcher.made["endpointslices"].sync(slices(ENDING, UNREADY, UNREADY))
    world.controller._changed.set()
    assert world.backends() == ["127.88.0.1", "127.88.0.2"]
    eventually(lambda: world.backends() == ["127.88.0.2", "127.88.0.3"])


# --- the translation


def test_every_pod_that_is_not_ending_is_an_endpoint_of_the_service_s_port() -> None:
    assert endpoints_of(SERVICE, slices(READY, UNREADY, ENDING), 80) == [("127.88.0.1", 8000), ("127.88.0.2", 8000)]
    assert endpoints_of(SERVICE, slices(READY), 8080) == endpoints_of(None, slices(READY), 80) == []


def test_health_checks_have_gke_s_defaults_with_and_without_a_policy() -> None:
    assert HealthCheck.of(None) == HealthCheck(path="/", interval=15, timeout=15, healthy=1, unhealthy=2)
    config = {"type": "HTTP", "httpHealthCheck": {"requestPath": "/health", "port": 8001}}
    policy = HealthCheck.of(named("vllm", {"default": {"config": config}}))
    assert policy == HealthCheck(path="/health", port=8001, interval=5, timeout=5, healthy=2, unhealthy=2)
    told = cluster(Backend(name="a/b/80", health=policy), Path("/f"))
    assert told["common_lb_config"] == {"healthy_panic_threshold": {"value": 0}}
    (check,) = told["health_checks"]
    assert (check["interval"], check["no_traffic_interval"], check["http_health_check"]["path"]) == ("5s", "5s", "/health")
    (one,) = endpoints(Backend(name="a/b/80", health=policy), [("127.88.0.1", 8000)])["endpoints"][0]["lb_endpoints"]
    assert one["endpoint"]["health_check_config"] == {"port_value": 8001}


def test_a_listener_routes_by_host_and_path_redirects_retries_get_alone_and_knows_nothing_else() -> None:
    backend = Backend(name="default/vllm/80", timeout_seconds=3600)
    routes = [
        Route(hosts=[HOST], backend=backend),
        Route(hosts=[HOST], path="/v1", backend=backend),
        Route(hosts=[HOST], path="/old", exact=True, redirect=("https", 301)),
    ]
    told = listener(Listener(name="l", address=("127.0.0.2", 443), routes=routes, certificate=Path("/c.crt"), key=Path("/c.key")))
    (chain,) = told["filter_chains"]
    assert chain["transport_socket"]["typed_config"]["common_tls_context"]["alpn_protocols"] == ["h2", "http/1.1"]
    ours, others = chain["filters"][0]["typed_config"]["route_config"]["virtual_hosts"]
    assert (ours["domains"], others["domains"]) == ([HOST], ["*"])
    assert others["routes"] == ours["routes"][-1:]
    assert others["routes"][0]["direct_response"]["status"] == 404
    redirect, get, post = ours["routes"][:3]
    assert redirect["match"] == {"path": "/old"}
    assert redirect["redirect"] == {"scheme_redirect": "https", "response_code": "MOVED_PERMANENTLY"}
    assert (get["match"]["path_separated_prefix"], post["match"]) == ("/v1", {"path_separated_prefix": "/v1"})
    assert "retry_policy" in get["route"]
    assert post["route"] == {"cluster": "default/vllm/80", "timeout": "3600s"}
