"""GKE's gateway controller on one machine: Gateways become listeners of a real Envoy, HTTPRoutes its routes, pods its endpoints.

As with container-native balancing on GKE, every pod that is not ending is an endpoint, ready or not, and the balancer's own health check
decides (kubernetes/ingress-gce, pkg/neg/types/types.go, EndpointsDataFromEndpointSlices). Endpoints come and go `NEG_SECONDS` late. Ports
that this user may not open are mapped to high ones, which `sandbox.host.doors` tells the clients. Left out: matches by header, query and
method, weights, other filters than redirects, addresses that a Gateway asks for, gateways of several clusters, Google's readiness gates.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import socket
import subprocess
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trustme
import urllib3
from kubernetes import client

from sandbox.gke import gateway_status as status
from sandbox.gke.envoy_config import (
    Backend,
    HealthCheck,
    Listener,
    Route,
    bootstrap,
    cluster,
    endpoints,
    endpoints_file,
    listener,
    resources,
)
from sandbox.gke.load_balancer import Frontends, LoadBalancerError
from sandbox.google.latencies import NEG_SECONDS, Clock
from sandbox.google.records import Records
from sandbox.host.addresses import to_loopback
from sandbox.host.certificates import issue_for, write_pair
from sandbox.host.doors import write_doors
from sandbox.host.ports import free_ports, is_free
from sandbox.host.processes import Spawner, end
from sandbox.host.state_files import write_text
from sandbox.host.tcp_proxy import Address
from sandbox.kube.kube_api import ApiError, KubeApi, Mirror

logger = logging.getLogger(__name__)

Object = dict[str, Any]

#: (namespace, name)
Key = tuple[str, str]

#: Class -> whether its balancer is a region's, whose proxies have a subnet of their own. GKE's for single clusters:
#: https://docs.cloud.google.com/kubernetes-engine/docs/concepts/gateway-api#gatewayclass
CLASSES = {"gke-l7-global-external-managed": False, "gke-l7-regional-external-managed": True, "gke-l7-rilb": True, "gke-l7-gxlb": False}

CERTIFICATE_MAP = "networking.gke.io/certmap"
CERTIFICATES = "networking.gke.io/cert-manager-certs"

_API = "/apis/gateway.networking.k8s.io/v1"
_PATHS = {
    "Gateway": f"{_API}/gateways",
    "HTTPRoute": f"{_API}/httproutes",
    "HealthCheckPolicy": "/apis/networking.gke.io/v1/healthcheckpolicies",
    "GCPBackendPolicy": "/apis/networking.gke.io/v1/gcpbackendpolicies",
    "Service": "/api/v1/services",
    "EndpointSlice": "/apis/discovery.k8s.io/v1/endpointslices",
    "Secret": "/api/v1/secrets",
}
_QUERIES = {"EndpointSlice": {"labelSelector": "kubernetes.io/service-name"}, "Secret": {"fieldSelector": "type=kubernetes.io/tls"}}

_LOOK_SECONDS = 1.0
_RETRY_SECONDS = 5.0
_LISTEN_SECONDS = 20.0
_STOP_SECONDS = 5.0


class GatewayError(Exception):
    """Envoy does not run or does not listen; the message names its log."""


@dataclass
class _Door:
    """What is open for one Gateway: port of the Gateway -> port of this machine."""

    address: str
    ports: dict[int, int]
    #: When the balancer is there, by the sandbox's clock.
    ready_at: float
    told: bool = False


@dataclass
class _Group:
    """A network endpoint group: which addresses the balancer has, and since when another choice is wanted."""

    current: dict[Address, None] = field(default_factory=dict)
    changes: dict[Address, float] = field(default_factory=dict)

    def settle(self, wanted: Iterable[Address], now: float, delay: float) -> None:
        wished = set(wanted)
        differing = wished ^ self.current.keys()
        self.changes = {each: self.changes.get(each, now) for each in sorted(differing)}
        for each in [each for each, since in self.changes.items() if now - since >= delay]:
            del self.changes[each]
            if each in wished:
                self.current[each] = None
            else:
                del self.current[each]


class GatewayController:
    """Serves the Gateways of one cluster from `start` to `stop`; everything that it decides happens on one thread."""

    def __init__(
        self,
        api_client: client.ApiClient,
        *,
        state_dir: Path,
        tools: Path,
        environment: Mapping[str, str],
        spawner: Spawner,
        clock: Clock,
        frontends: Frontends,
        records: Records,
        location: str,
        network: str,
        neg_seconds: float = NEG_SECONDS,
    ) -> None:
        """`network`: the cluster's, by any of its names; `records`: Google's resources that the stack made."""
        self._api = KubeApi(api_client)
        self._dir = state_dir / "gateway"
        self._log = state_dir / "logs" / "envoy.log"
        self._envoy = tools / "envoy"
        self._environment = {**environment, "HOME": str(state_dir)}
        self._spawner, self._clock, self._frontends, self._records = spawner, clock, frontends, records
        self._region = "-".join(location.split("-")[:2])
        self._network = network.rpartition("/")[2]
        self._neg_seconds = neg_seconds
        self._changed, self._stopping = threading.Event(), threading.Event()
        self._doors: dict[Key, _Door] = {}
        self._groups: dict[str, _Group] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._work, name="gateway", daemon=True)
        self._mirrors = {kind: Mirror(self._api, path, self._changed, _QUERIES.get(kind)) for kind, path in _PATHS.items()}

    def start(self) -> None:
        self._dir.mkdir(parents=True, exist_ok=True)
        for name in CLASSES:
            self._make_class(name)
        for watcher in self._mirrors.values():
            watcher.start()
        self._thread.start()

    def stop(self) -> None:
        for watcher in self._mirrors.values():
            watcher.stop()
        self._stopping.set()
        self._changed.set()
        self._thread.join(timeout=_STOP_SECONDS + 1)

    def _make_class(self, name: str) -> None:
        body = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": {"name": name}}
        path = f"{_API}/gatewayclasses"
        with suppress(ApiError):
            self._api.create(path, {**body, "spec": {"controllerName": status.CONTROLLER}})
        accepted = {"conditions": [status.condition("Accepted", "Accepted")]}
        self._api.patch(f"{path}/{name}/status", {"status": status.with_times(accepted, None)})

    # --- what is done about it; on the thread

    def _work(self) -> None:
        while not self._stopping.is_set():
            # Endpoints change some seconds after the pods, and a certificate becomes ready, without an event.
            self._changed.wait(_LOOK_SECONDS)
            self._changed.clear()
            try:
                self._settle()
            except (GatewayError, ApiError, urllib3.exceptions.HTTPError, OSError) as error:
                if not self._stopping.is_set():
                    logger.warning("gateway: %s; tries again in %.0f s", error, _RETRY_SECONDS)
                    self._stopping.wait(_RETRY_SECONDS)
                    self._changed.set()
        self._end_envoy()
        for door in self._doors.values():
            self._frontends.free(door.address, door.ports)
        write_doors(self._dir, {})

    def _settle(self) -> None:
        objects = {kind: known for kind, mirror in self._mirrors.items() if (known := mirror.objects()) is not None}
        if self._stopping.is_set() or objects.keys() != _PATHS.keys():
            return
        gateways = {key: each for key, each in objects["Gateway"].items() if each["spec"]["gatewayClassName"] in CLASSES}
        for key in [key for key in self._doors if key not in gateways]:
            self._close(key)
        routes = {key: self._route(each, gateways, objects) for key, each in objects["HTTPRoute"].items()}
        statuses, listeners, names = [], [], {}
        for key, body in gateways.items():
            found, problems, report = self._listeners(key, body, routes.values(), objects["Secret"])
            listeners += found
            door = self._doors.get(key)
            there = door is not None and time.monotonic() >= door.ready_at
            if door and there and not problems:
                names.update(_names(body, routes.values(), door))
            statuses.append(("gateways", body, status.gateway(body, problems, report, door.address if door and there else None)))
        used = {each.backend.name: each.backend for one in listeners for each in one.routes if each.backend}
        self._tell_envoy(listeners, used, objects)
        write_doors(self._dir, names)
        for each in routes.values():
            if each.parents:
                statuses.append(("httproutes", each.body, status.route(each.body, each.parents, each.missing)))
        for kind, body, wanted in statuses:
            self._write_status(kind, body, wanted)

    # --- Gateways

    def _listeners(
        self, key: Key, body: Object, routes: Iterable[_Attached], secrets: Mapping[Key, Object]
    ) -> tuple[list[Listener], list[str], list[tuple[str, int, str]]]:
        """Envoy's listeners, what is wrong with the Gateway, and for its status each listener's name, routes and wrong reference."""
        problems = [] if self._has_proxies(body["spec"]["gatewayClassName"]) else [status.NO_PROXY_SUBNET]
        found: list[Listener] = []
        report: list[tuple[str, int, str]] = []
        for each in body["spec"]["listeners"]:
            attached = [route for one in routes for parent, route in one.routes if parent == (*key, each["name"])]
            why, closed = "", False
            files: tuple[Path | None, Path | None] = (None, None)
            if each["protocol"] == "HTTPS":
                hosts = [host for group in attached for route in group for host in route.hosts]
                why, files, closed = self._certificate(body, each, [*hosts, *filter(None, [each.get("hostname")])], secrets)
            report.append((each["name"], len(attached), why))
            if problems or any(why for _, _, why in report):
                # One mistake keeps all of the balancer from being made.
                found.clear()
                continue
            door = self._doors.get(key) or self._open(key, body)
            port = door.ports[each["port"]]
            name = f"{key[0]}/{key[1]}/{each['name']}"
            certificate, private = files
            routed = [route for group in attached for route in group]
            found.append(
                Listener(name=name, address=(door.address, port), routes=routed, certificate=certificate, key=private, closed=closed)
            )
        return found, problems, report

    def _has_proxies(self, class_name: str) -> bool:
        """Whether a regional class has the proxies' subnet; a network that the stack did not make is taken to have one."""
        networks = self._records.of_kind("gcp:compute/network:Network")
        if not CLASSES[class_name] or self._network not in {each.rpartition("/")[2] for each in networks}:
            return True
        subnets = self._records.of_kind("gcp:compute/subnetwork:Subnetwork")
        return any(
            each.get("purpose") == "REGIONAL_MANAGED_PROXY"
            and each.get("role") == "ACTIVE"
            and f"/regions/{self._region}/" in id
            and str(each.get("network")).rpartition("/")[2] == self._network
            for id, each in subnets.items()
        )

    def _certificate(
        self, body: Object, listener: Object, hosts: list[str], secrets: Mapping[Key, Object]
    ) -> tuple[str, tuple[Path | None, Path | None], bool]:
        """Why there is none, its files, and whether the balancer has to do without one for now."""
        tls, namespace = listener.get("tls") or {}, body["metadata"]["namespace"]
        if reference := next(iter(tls.get("certificateRefs") or []), None):
            key = (reference.get("namespace") or namespace, reference["name"])
            secret = secrets.get(key)
            if secret is None:
                return f'Secret "{"/".join(key)}" of type kubernetes.io/tls was not found.', (None, None), False
            parts = [base64.b64decode(secret["data"][part]) for part in ("tls.crt", "tls.key")]
            files = self._files(_digest(*parts))
            if not files[1].exists():
                write_pair(*files, *map(trustme.Blob, parts))
            return "", files, False
        if wanted := (body["metadata"].get("annotations") or {}).get(CERTIFICATE_MAP):
            noun, entries = (
                "global/certificateMaps",
                self._records.of_kind("gcp:certificatemanager/certificateMapEntry:CertificateMapEntry"),
            )
            names = [each["hostname"] for each in entries.values() if each["map"].rpartition("/")[2] == wanted and each.get("hostname")]
            # A map that the stack did not make is taken to be there.
            there = bool(names) or not entries
        elif wanted := (tls.get("options") or {}).get(CERTIFICATES):
            noun, made = f"{self._region}/certificates", self._records.of_kind("gcp:certificatemanager/certificate:Certificate")
            certificate = next((each for id, each in made.items() if id.endswith(f"/certificates/{wanted}")), None)
            names, there = ((certificate or {}).get("managed") or {}).get("domains") or [], certificate is not None
        else:
            return "The listener has no certificate: give tls.certificateRefs, or one of Certificate Manager's.", (None, None), False
        if not there:
            return f"The resource 'locations/{noun}/{wanted}' was not found.", (None, None), False
        names = sorted({*(names or hosts)}) or ["localhost"]
        if any(each.endswith(PENDING_DOMAIN) for each in names):
            return "", (None, None), True
        files = self._files(_digest(*(each.encode() for each in names)))
        if not files[1].exists():
            issue_for(self._dir, names, *files)
        return "", files, False

    def _files(self, stem: str) -> tuple[Path, Path]:
        """Named by content, since Envoy looks at a listener again only when something in it is new."""
        return self._dir / f"{stem}.crt", self._dir / f"{stem}.key"

    def _open(self, key: Key, body: Object) -> _Door:
        """An address for the Gateway, and ports of this machine. Raises `GatewayError`."""
        ports = [each["port"] for each in body["spec"]["listeners"]]
        known = next((each["value"] for each in (body.get("status") or {}).get("addresses") or []), None)
        try:
            address = self._frontends.take(ports, preferred=known)
        except LoadBalancerError as error:
            raise GatewayError(str(error)) from error
        wait = 0.0 if known else self._clock.seconds("gateway_program")
        taken = {port: port if is_free(port, address) else free_ports(1, address)[0] for port in ports}
        door = self._doors[key] = _Door(address, taken, time.monotonic() + wait)
        return door

    def _close(self, key: Key) -> None:
        door = self._doors.pop(key)
        self._frontends.free(door.address, door.ports)

    # --- HTTPRoutes

    def _route(self, body: Object, gateways: Mapping[Key, Object], objects: Mapping[str, Mapping[Key, Object]]) -> _Attached:
        namespace = body["metadata"]["namespace"]
        missing: list[str] = []
        hosts = body["spec"].get("hostnames") or []
        rules = [each for rule in body["spec"].get("rules") or [] for each in self._rule(namespace, hosts, rule, objects, missing)]
        found = _Attached(body, missing=" ".join(dict.fromkeys(missing)))
        for reference in body["spec"].get("parentRefs") or []:
            parent = (reference.get("namespace") or namespace, reference["name"])
            if parent not in gateways:
                continue
            section = reference.get("sectionName")
            listeners = [each for each in gateways[parent]["spec"]["listeners"] if section in (None, each["name"])]
            fitting = [each for each in listeners if not hosts or not each.get("hostname") or each["hostname"] in hosts]
            if not listeners:
                found.parents.append((reference, "NoMatchingParent", f'There is no listener "{section}" in Gateway "{parent[1]}".'))
            elif not fitting:
                message = f'No listener of Gateway "{parent[1]}" has one of the hostnames {", ".join(hosts)}.'
                found.parents.append((reference, "NoMatchingListenerHostname", message))
            else:
                found.parents.append((reference, "", ""))
            found.routes += [((*parent, each["name"]), rules) for each in fitting]
        return found

    def _rule(
        self, namespace: str, hosts: list[str], rule: Object, objects: Mapping[str, Mapping[Key, Object]], missing: list[str]
    ) -> list[Route]:
        redirect = next((each["requestRedirect"] for each in rule.get("filters") or [] if each["type"] == "RequestRedirect"), None)
        backend = None
        for reference in rule.get("backendRefs") or []:
            key = (reference.get("namespace") or namespace, reference["name"])
            if key not in objects["Service"]:
                missing.append(f'Service "{"/".join(key)}" was not found.')
                continue
            # An InferencePool is served as the Service of its name, which has the same pods: no picker runs here.
            name = f"{'/'.join(key)}/{reference.get('port') or objects['Service'][key]['spec']['ports'][0]['port']}"
            health = HealthCheck.of(_policy(objects["HealthCheckPolicy"], key))
            policy = _policy(objects["GCPBackendPolicy"], key) or {"spec": {}}
            timeout = (policy["spec"].get("default") or {}).get("timeoutSec", 30)
            backend = Backend(name=name, health=health, timeout_seconds=timeout)
        sent = (redirect.get("scheme") or "http", redirect.get("statusCode") or 302) if redirect else None
        paths = [each.get("path") or {} for each in rule.get("matches") or [{}]]
        return [
            Route(hosts=hosts, path=path.get("value") or "/", exact=path.get("type") == "Exact", backend=backend, redirect=sent)
            for path in paths
        ]

    # --- Envoy

    def _tell_envoy(self, listeners: list[Listener], used: Mapping[str, Backend], objects: Mapping[str, Mapping[Key, Object]]) -> None:
        """Raises `GatewayError`."""
        now = time.monotonic()
        self._groups = {name: self._groups.get(name) or _Group() for name in used}
        for name, backend in used.items():
            namespace, service, port = name.split("/")
            wanted = endpoints_of(objects["Service"].get((namespace, service)), objects["EndpointSlice"].values(), int(port))
            group = self._groups[name]
            # Those of a balancer that is made now are there when it is.
            group.settle(wanted, now, self._neg_seconds if group.current else 0.0)
            self._write(endpoints_file(name, self._dir), resources(endpoints(backend, list(group.current))))
        self._write(self._dir / "cds.json", resources(*(cluster(each, self._dir) for each in used.values())))
        self._write(self._dir / "lds.json", resources(*map(listener, listeners)))
        if not listeners:
            self._end_envoy()
            return
        if self._process is not None and (code := self._process.poll()) is not None:
            self._process = None
            raise GatewayError(f"envoy ended with status {code}; its log: {self._log}")
        if self._process is None:
            self._start_envoy()
        self._wait_for([each.address for each in listeners])

    def _write(self, path: Path, document: Object) -> None:
        text = json.dumps(document, indent=1)
        if not path.exists() or path.read_text() != text:
            write_text(path, text)

    def _start_envoy(self) -> None:
        self._write(self._dir / "bootstrap.json", bootstrap(self._dir))
        with self._log.open("ab") as output:
            self._process = self._spawner.spawn(
                [str(self._envoy), "-c", str(self._dir / "bootstrap.json"), "--disable-hot-restart", "--concurrency", "1", "-l", "warning"],
                env=self._environment,
                cwd=self._dir,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def _wait_for(self, addresses: list[Address]) -> None:
        deadline = time.monotonic() + _LISTEN_SECONDS
        for address in addresses:
            while not self._stopping.is_set():
                try:
                    socket.create_connection(address, timeout=1).close()
                    break
                except OSError as error:
                    if time.monotonic() > deadline:
                        where = "{}:{}".format(*address)
                        raise GatewayError(f"envoy does not listen on {where} ({error}); its log: {self._log}") from error
                    time.sleep(0.05)

    def _end_envoy(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            end(process, _STOP_SECONDS)

    def _write_status(self, kind: str, body: Object, wanted: Object) -> None:
        before = body.get("status") or {}
        after = status.with_times(wanted, before)
        if all(before.get(key) == value for key, value in after.items()):
            return
        namespace, name = _key(body)
        try:
            self._api.patch(f"{_API}/namespaces/{namespace}/{kind}/{name}/status", {"status": after})
        except ApiError as error:
            if error.status != 404:
                raise


@dataclass
class _Attached:
    """An HTTPRoute: its routes by (namespace, Gateway, listener), and what its status says."""

    body: Object
    routes: list[tuple[tuple[str, str, str], list[Route]]] = field(default_factory=list)
    parents: list[tuple[Object, str, str]] = field(default_factory=list)
    missing: str = ""


#: No certificate is ever issued for a name below it (RFC 2606): here it stands for one whose DNS record is not there yet.
PENDING_DOMAIN = ".invalid"


def endpoints_of(service: Object | None, slices: Iterable[Object], port: int) -> list[Address]:
    """The pods behind a Service's port, as addresses of this machine: all that are not ending, ready or not."""
    if service is None:
        return []
    names = [each.get("name") or "" for each in service["spec"].get("ports") or [] if each["port"] == port]
    found: dict[Address, None] = {}
    for each in slices:
        owner = (each["metadata"]["namespace"], each["metadata"]["labels"]["kubernetes.io/service-name"])
        if owner != _key(service) or each.get("addressType") != "IPv4":
            continue
        ports = [one["port"] for one in each.get("ports") or [] if (one.get("name") or "") in names]
        for endpoint in each.get("endpoints") or []:
            if not (endpoint.get("conditions") or {}).get("terminating"):
                found.update(((to_loopback(endpoint["addresses"][0]), number), None) for number in ports)
    return list(found)


def _policy(policies: Mapping[Key, Object], service: Key) -> Object | None:
    """The policy of a Service, in its namespace."""
    for key, each in policies.items():
        target = each["spec"]["targetRef"]
        if key[0] == service[0] and target["name"] == service[1]:
            return each
    return None


def _names(body: Object, routes: Iterable[_Attached], door: _Door) -> dict[str, Address]:
    """Where clients of this machine find what they ask for by host and port."""
    key = _key(body)
    found = {}
    for each in body["spec"]["listeners"]:
        attached = (rule for one in routes for parent, rules in one.routes if parent == (*key, each["name"]) for rule in rules)
        for host in [door.address, *(host for rule in attached for host in rule.hosts)]:
            found[f"{host}:{each['port']}"] = (door.address, door.ports[each["port"]])
    return found


def _key(obj: Object) -> Key:
    return obj["metadata"]["namespace"], obj["metadata"]["name"]


def _digest(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:12]
