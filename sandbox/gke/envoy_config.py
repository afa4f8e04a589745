"""What Envoy is told, as plain dictionaries: listeners with their routes, clusters, and the endpoints of each cluster.

Google's regional balancers are Envoy; where its defaults are kinder than Google's they are set here. Left out: Cloud Armor, logging, and
cutting what outlives `drainingTimeoutSec`, which Envoy cannot do: it lets requests on an endpoint that was removed finish.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sandbox.host.tcp_proxy import Address

Config = dict[str, Any]

_TYPES = "type.googleapis.com/envoy"

#: "HTTP keepalive": 600 s towards clients and backends, https://docs.cloud.google.com/load-balancing/docs/https/request-distribution
_IDLE_SECONDS = 600

#: What Google's regional proxies answer where no route matches, as many public notes of GKE's gateways show it.
_NO_ROUTE = {"status": 404, "body": {"inline_string": "fault filter abort"}}


@dataclass(frozen=True, kw_only=True)
class HealthCheck:
    """Of every endpoint. GKE's for a Service without a policy: 15 s, 15 s, 1, 2 and `/` (kubernetes/ingress-gce, pkg/healthchecks)."""

    path: str = "/"
    host: str = ""
    #: None: the serving port.
    port: int | None = None
    interval: int = 15
    timeout: int = 15
    healthy: int = 1
    unhealthy: int = 2

    @classmethod
    def of(cls, policy: Mapping[str, Any] | None) -> HealthCheck:
        """From a HealthCheckPolicy, whose definition gives these defaults."""
        if policy is None:
            return cls()
        default = policy["spec"].get("default") or {}
        http = (default.get("config") or {}).get("httpHealthCheck") or {}
        return cls(
            path=http.get("requestPath") or "/",
            host=http.get("host") or "",
            port=http.get("port"),
            interval=default.get("checkIntervalSec", 5),
            timeout=default.get("timeoutSec", 5),
            healthy=default.get("healthyThreshold", 2),
            unhealthy=default.get("unhealthyThreshold", 2),
        )


@dataclass(frozen=True, kw_only=True)
class Backend:
    """A Service's port behind a balancer."""

    name: str
    health: HealthCheck = field(default_factory=HealthCheck)
    #: GCPBackendPolicy's default. From the request to the last byte of its answer.
    timeout_seconds: int = 30


@dataclass(frozen=True, kw_only=True)
class Route:
    """One match of an HTTPRoute's rule: to a backend, or redirected."""

    hosts: Sequence[str]
    path: str = "/"
    exact: bool = False
    backend: Backend | None = None
    #: A RequestRedirect's scheme and status code.
    redirect: tuple[str, int] | None = None


@dataclass(frozen=True, kw_only=True)
class Listener:
    """A port of a balancer. With `certificate` and `key` it speaks TLS; `closed`: it ends each connection, having no certificate yet."""

    name: str
    address: Address
    routes: Sequence[Route] = ()
    certificate: Path | None = None
    key: Path | None = None
    closed: bool = False


def _typed(kind: str, **fields: Any) -> Config:
    return {"@type": f"{_TYPES}.{kind}", **fields}


def bootstrap(folder: Path) -> Config:
    """What Envoy starts with; it reads the other files again whenever one is moved into its place."""
    dynamic = {f"{kind}_config": _file(folder / f"{kind}.json") for kind in ("lds", "cds")}
    return {"node": {"id": "sandbox", "cluster": "sandbox"}, "dynamic_resources": dynamic}


def _file(path: Path) -> Config:
    return {"path_config_source": {"path": str(path)}, "resource_api_version": "V3"}


def resources(*found: Config) -> Config:
    """The content of one of the files."""
    return {"resources": list(found)}


def listener(each: Listener) -> Config:
    host, port = each.address
    chain: Config = {"filters": [_closes() if each.closed else _http(each)]}
    if each.certificate and each.key and not each.closed:
        files = {"certificate_chain": {"filename": str(each.certificate)}, "private_key": {"filename": str(each.key)}}
        # HTTP/2 cannot be switched off at Google's balancers either.
        tls = {"tls_certificates": [files], "alpn_protocols": ["h2", "http/1.1"]}
        context = _typed("extensions.transport_sockets.tls.v3.DownstreamTlsContext", common_tls_context=tls)
        chain["transport_socket"] = {"name": "tls", "typed_config": context}
    return _typed(
        "config.listener.v3.Listener",
        name=each.name,
        address={"socket_address": {"address": host, "port_value": port}},
        # Another sandbox's Envoy could share the port otherwise.
        enable_reuse_port=False,
        filter_chains=[chain],
    )


def _closes() -> Config:
    return {"name": "closes", "typed_config": _typed("extensions.filters.network.direct_response.v3.Config")}


def _http(each: Listener) -> Config:
    by_host: dict[str, list[Config]] = {}
    # The longest path first, as the Gateway API has it.
    for route in sorted(each.routes, key=lambda route: (not route.exact, -len(route.path))):
        for host in route.hosts or ("*",):
            by_host.setdefault(host, []).extend(_routes(route))
    everything = by_host.pop("*", [])
    hosts = [{"name": host, "domains": [host], "routes": [*routes, _nowhere()]} for host, routes in by_host.items()]
    manager = _typed(
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix=each.name,
        via="1.1 google",
        strip_any_host_port=True,
        common_http_protocol_options={"idle_timeout": f"{_IDLE_SECONDS}s"},
        http_filters=[{"name": "router", "typed_config": _typed("extensions.filters.http.router.v3.Router")}],
        route_config={
            "name": each.name,
            "virtual_hosts": [*hosts, {"name": "*", "domains": ["*"], "routes": [*everything, _nowhere()]}],
            # They come in a file of their own, which may be read later.
            "validate_clusters": False,
        },
    )
    return {"name": "http", "typed_config": manager}


def _nowhere() -> Config:
    return {"match": {"prefix": "/"}, "direct_response": _NO_ROUTE}


def _routes(route: Route) -> list[Config]:
    match: Config = {"path": route.path} if route.exact else {"prefix": "/"} if route.path == "/" else {"path_separated_prefix": route.path}
    if route.redirect:
        scheme, code = route.redirect
        names = {301: "MOVED_PERMANENTLY", 302: "FOUND", 303: "SEE_OTHER", 307: "TEMPORARY_REDIRECT", 308: "PERMANENT_REDIRECT"}
        return [{"match": match, "redirect": {"scheme_redirect": scheme, "response_code": names[code]}}]
    if route.backend is None:
        return [{"match": match, "direct_response": {"status": 500}}]
    action = {"cluster": route.backend.name, "timeout": f"{route.backend.timeout_seconds}s"}
    # Requests without a body that end in 502, 503 or 504 are sent again once, a POST never:
    # https://docs.cloud.google.com/load-balancing/docs/l7-internal#retries
    get = {**match, "headers": [{"name": ":method", "string_match": {"exact": "GET"}}]}
    once = {"retry_on": "gateway-error", "num_retries": 1}
    return [{"match": get, "route": {**action, "retry_policy": once}}, {"match": match, "route": action}]


def cluster(backend: Backend, folder: Path) -> Config:
    health = backend.health
    check = {
        "timeout": f"{health.timeout}s",
        "interval": f"{health.interval}s",
        # Envoy looks once a minute while there are no requests.
        "no_traffic_interval": f"{health.interval}s",
        "healthy_threshold": health.healthy,
        "unhealthy_threshold": health.unhealthy,
        "reuse_connection": False,
        "http_health_check": {
            "path": health.path,
            **({"host": health.host} if health.host else {}),
            # Envoy goes by the threshold only for these.
            "retriable_statuses": [{"start": 100, "end": 200}, {"start": 201, "end": 600}],
        },
    }
    http = _typed(
        "extensions.upstreams.http.v3.HttpProtocolOptions",
        explicit_http_config={"http_protocol_options": {}},
        common_http_protocol_options={"idle_timeout": f"{_IDLE_SECONDS}s"},
    )
    many = 1 << 20
    return _typed(
        "config.cluster.v3.Cluster",
        name=backend.name,
        type="EDS",
        eds_cluster_config={"eds_config": _file(endpoints_file(backend.name, folder))},
        connect_timeout="5s",
        # An endpoint that was removed gets no more requests, however healthy.
        ignore_health_on_host_removal=True,
        # Envoy asks unhealthy endpoints too when half of them are.
        common_lb_config={"healthy_panic_threshold": {"value": 0}},
        circuit_breakers={"thresholds": [{"max_connections": many, "max_pending_requests": many, "max_requests": many}]},
        health_checks=[check],
        typed_extension_protocol_options={"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http},
    )


def endpoints_file(name: str, folder: Path) -> Path:
    return folder / f"eds-{name.replace('/', '_')}.json"


def endpoints(backend: Backend, addresses: Sequence[Address]) -> Config:
    found = []
    for host, port in addresses:
        endpoint: Config = {"address": {"socket_address": {"address": host, "port_value": port}}}
        if backend.health.port and backend.health.port != port:
            endpoint["health_check_config"] = {"port_value": backend.health.port}
        found.append({"endpoint": endpoint})
    return _typed("config.endpoint.v3.ClusterLoadAssignment", cluster_name=backend.name, endpoints=[{"lb_endpoints": found}])
