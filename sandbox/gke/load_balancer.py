"""Google's network load balancer on one machine: Services of type LoadBalancer listen on loopback addresses.

The endpoints are those of the real controllers' EndpointSlices. Left out: Services with a `loadBalancerClass` (somebody
else's), UDP and SCTP (a Warning Event says so), `loadBalancerSourceRanges`, `externalTrafficPolicy` and session affinity,
which make no difference when every client is on this machine.
"""

from __future__ import annotations

import errno
import logging
import queue
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from kubernetes import client
from urllib3.exceptions import HTTPError

from sandbox.host.addresses import LISTEN_ADDRESSES, to_loopback
from sandbox.host.tcp_proxy import Address, TcpProxy
from sandbox.kube.kube_api import ApiError, KubeApi, Watcher

logger = logging.getLogger(__name__)

Object = dict[str, Any]

#: (namespace, name)
Key = tuple[str, str]

_SERVICE_LABEL = "kubernetes.io/service-name"
_COMPONENT = "sandbox-load-balancer"

_RETRY_SECONDS = 2.0
_REPEAT_EVENT_SECONDS = 300.0


class LoadBalancerError(Exception):
    """A Service cannot be listened for; `reason` is that of its Event."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def is_ours(service: Object) -> bool:
    """Whether the Service wants a load balancer of this machine."""
    spec = service["spec"]
    return spec.get("type") == "LoadBalancer" and not spec.get("loadBalancerClass") and not service["metadata"].get("deletionTimestamp")


def backends_of(slices: Iterable[Object], port_name: str) -> list[Address]:
    """Where connections to the Service's port of this name go, as addresses of this machine; "" is a nameless port.

    Ready endpoints, or, when there is none, those that end but still serve: the same choice as kube-proxy's.
    """
    ready: dict[Address, None] = {}
    ending: dict[Address, None] = {}
    for each in slices:
        if each.get("addressType") != "IPv4":
            continue
        ports = [
            port["port"]
            for port in each.get("ports") or []
            if (port.get("name") or "") == port_name and port.get("protocol", "TCP") == "TCP" and port.get("port")
        ]
        for endpoint in each.get("endpoints") or []:
            conditions = endpoint.get("conditions") or {}
            # An absent condition of readiness means ready, and serving is as ready unless it says otherwise.
            is_ready = conditions.get("ready", True)
            terminating = conditions.get("terminating", False)
            if is_ready and not terminating:
                chosen = ready
            elif terminating and conditions.get("serving", is_ready):
                chosen = ending
            else:
                continue
            chosen.update((address, None) for address in _loopback_addresses(endpoint, ports))
    return list(ready or ending)


def _loopback_addresses(endpoint: Object, ports: list[int]) -> Iterator[Address]:
    # All addresses of an endpoint are the same pod's.
    address = endpoint["addresses"][0]
    try:
        host = to_loopback(address)
    except ValueError:
        # An endpoint that was written by hand and may be anywhere.
        host = address
    for port in ports:
        yield host, port


def choose_address(ports: Iterable[int], taken: Iterable[Address], preferred: str | None = None) -> str:
    """The first loopback address at which no other Service has any of the ports; `preferred` is asked first.

    Raises `LoadBalancerError` when every address is taken.
    """
    wanted, occupied = set(ports), set(taken)
    first = [preferred] if preferred in LISTEN_ADDRESSES else []
    for address in [*first, *LISTEN_ADDRESSES]:
        if not any((address, port) in occupied for port in wanted):
            return address
    raise LoadBalancerError("NoAddress", f"other Services have port {_listing(wanted)} on all {len(LISTEN_ADDRESSES)} loopback addresses")


def explain(error: OSError, address: str, port: int) -> LoadBalancerError:
    """It cannot listen; the message has the fix."""
    if error.errno == errno.EADDRINUSE:
        return LoadBalancerError(
            "PortInUse",
            f"port {port} of {address} is taken by another program on this machine: end it, or choose another port "
            f"for the Service (setting `servicePort`); tried again every {_RETRY_SECONDS:.0f} s",
        )
    if isinstance(error, PermissionError):
        return LoadBalancerError(
            "PortNotPermitted",
            f"port {port} of {address} needs a privilege that the sandbox does not have, as ports below 1024 do: choose "
            f"a higher one for the Service (setting `servicePort`)",
        )
    return LoadBalancerError("ListenFailed", f"cannot listen on port {port} of {address}: {error}")


@dataclass
class _Listening:
    """What is open for one Service: port number -> port name."""

    address: str
    ports: dict[int, str] = field(default_factory=dict)


class Frontends:
    """Which loopback address and ports each Service of all the sandbox's clusters has; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken: set[Address] = set()

    def take(self, ports: Iterable[int], preferred: str | None = None) -> str:
        """An address on which all the ports are free, by `choose_address`. Raises `LoadBalancerError`."""
        wanted = set(ports)
        with self._lock:
            address = choose_address(wanted, self._taken, preferred)
            self._taken.update((address, port) for port in wanted)
        return address

    def free(self, address: str, ports: Iterable[int]) -> None:
        with self._lock:
            self._taken.difference_update((address, port) for port in ports)


class LoadBalancer:
    """Serves every LoadBalancer Service of one cluster; restarts of its API server do not disturb connections."""

    def __init__(self, api_client: client.ApiClient, frontends: Frontends) -> None:
        self._api = KubeApi(api_client)
        self._frontends = frontends
        self._proxy = TcpProxy()
        self._lock = threading.Lock()
        self._services: dict[Key, Object] = {}
        self._slices: dict[Key, Object] = {}
        self._listening: dict[Key, _Listening] = {}
        self._told: dict[tuple[str, str, str], float] = {}
        self._dirty: queue.SimpleQueue[Key | None] = queue.SimpleQueue()
        self._worker = threading.Thread(target=self._work, name="load-balancer", daemon=True)
        self._watchers = (
            Watcher(
                self._api,
                "/apis/discovery.k8s.io/v1/endpointslices",
                query={"labelSelector": _SERVICE_LABEL},
                on_sync=self._slices_listed,
                on_event=self._slice_changed,
            ),
            Watcher(self._api, "/api/v1/services", on_sync=self._services_listed, on_event=self._service_changed),
        )

    def start(self) -> None:
        self._proxy.start()
        self._worker.start()
        for watcher in self._watchers:
            watcher.start()

    def stop(self) -> None:
        """Closes every listener and cuts every connection; the Services' status stays."""
        for watcher in self._watchers:
            watcher.stop()
        self._dirty.put(None)
        self._worker.join()
        self._proxy.stop()
        for listening in self._listening.values():
            self._frontends.free(listening.address, listening.ports)

    # --- what the API server says; on the watchers' threads

    def _services_listed(self, services: list[Object]) -> None:
        with self._lock:
            before = self._services
            self._services = {_key(each): each for each in services}
            # The API server's order, so that addresses are handed out the same way each time.
            changed = [*self._services, *(key for key in before if key not in self._services)]
        self._look_at(changed)

    def _service_changed(self, kind: str, service: Object) -> None:
        with self._lock:
            if kind == "DELETED":
                self._services.pop(_key(service), None)
            else:
                self._services[_key(service)] = service
        self._look_at([_key(service)])

    def _slices_listed(self, slices: list[Object]) -> None:
        with self._lock:
            before = [*self._slices.values()]
            self._slices = {_key(each): each for each in slices}
        self._look_at({_service_of(each) for each in [*before, *slices]})

    def _slice_changed(self, kind: str, endpoint_slice: Object) -> None:
        with self._lock:
            if kind == "DELETED":
                self._slices.pop(_key(endpoint_slice), None)
            else:
                self._slices[_key(endpoint_slice)] = endpoint_slice
        self._look_at([_service_of(endpoint_slice)])

    def _look_at(self, keys: Iterable[Key]) -> None:
        for key in keys:
            self._dirty.put(key)

    # --- what is done about it; on one thread

    def _work(self) -> None:
        again: dict[Key, float] = {}
        while True:
            timeout = max(0.0, min(again.values()) - time.monotonic()) if again else None
            try:
                key = self._dirty.get(timeout=timeout)
            except queue.Empty:
                key = min(again, key=lambda each: again[each])
            if key is None:
                return
            again.pop(key, None)
            if not self._settle(key):
                again[key] = time.monotonic() + _RETRY_SECONDS

    def _settle(self, key: Key) -> bool:
        """Brings one Service to what it should be; False when it has to be tried again."""
        with self._lock:
            service = self._services.get(key)
            slices = [each for each in self._slices.values() if _service_of(each) == key]
        try:
            if service is None or not is_ours(service):
                self._close(key)
                if service is not None and service["spec"].get("type") != "LoadBalancer":
                    self._write_status(service, None)
                return True
            try:
                address = self._open(key, service, slices)
            except LoadBalancerError as error:
                self._write_status(service, None)
                self._tell(service, "Warning", error.reason, str(error))
                return False
            self._write_status(service, address)
            return True
        except ApiError as error:
            # 404: the Service is gone, and the watch will say so.
            if error.status != 404:
                logger.warning("Service %s/%s: %s", *key, error)
            return error.status == 404
        except (HTTPError, OSError) as error:
            logger.info("Service %s/%s: the API server does not answer: %s", *key, error)
            return False

    def _open(self, key: Key, service: Object, slices: list[Object]) -> str | None:
        """Listens on the Service's ports; returns the address, None for a Service without a TCP port."""
        ports: dict[int, str] = {}
        for port in service["spec"].get("ports") or []:
            if port.get("protocol", "TCP") == "TCP":
                ports[port["port"]] = port.get("name") or ""
            else:
                what = f"port {port['port']}: {port['protocol']} is not supported by the sandbox's load balancer, only TCP"
                self._tell(service, "Warning", "UnsupportedProtocol", what)
        current = self._listening.get(key)
        if current is not None and current.ports.keys() != ports.keys():
            self._close(key)
            current = None
        backends = {port: backends_of(slices, name) for port, name in ports.items()}
        if current is None:
            if not ports:
                return None
            address = self._frontends.take(ports, preferred=_address_in_status(service))
            try:
                self._listen(address, backends)
            except LoadBalancerError:
                self._frontends.free(address, ports)
                raise
            current = self._listening[key] = _Listening(address)
            self._tell(service, "Normal", "EnsuredLoadBalancer", f"listens on {address}, port {_listing(ports)}")
        current.ports = ports
        for port, addresses in backends.items():
            self._proxy.set_backends((current.address, port), addresses)
        return current.address

    def _listen(self, address: str, backends: dict[int, list[Address]]) -> None:
        """All of the ports or none."""
        opened: list[Address] = []
        for port, addresses in backends.items():
            try:
                self._proxy.listen((address, port), addresses)
            except OSError as error:
                for each in opened:
                    self._proxy.close(each)
                raise explain(error, address, port) from error
            opened.append((address, port))

    def _close(self, key: Key) -> None:
        listening = self._listening.pop(key, None)
        if listening is None:
            return
        for port in listening.ports:
            self._proxy.close((listening.address, port))
        self._frontends.free(listening.address, listening.ports)
        # A Service that waits for these ports need not wait for its next try.
        with self._lock:
            waiting = [each for each in self._services if each not in self._listening]
        self._look_at(waiting)

    def _write_status(self, service: Object, address: str | None) -> None:
        ingress = [] if address is None else [{"ip": address, "ipMode": "VIP"}]
        if _ingress(service) == ingress:
            return
        namespace, name = _key(service)
        path = f"/api/v1/namespaces/{namespace}/services/{name}/status"
        self._api.patch(path, {"status": {"loadBalancer": {"ingress": ingress or None}}})

    def _tell(self, service: Object, kind: str, reason: str, message: str) -> None:
        """An Event on the Service; the same one again only after a while."""
        metadata = service["metadata"]
        told = (metadata["uid"], reason, message)
        if time.monotonic() - self._told.get(told, float("-inf")) < _REPEAT_EVENT_SECONDS:
            return
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"generateName": f"{metadata['name']}.", "namespace": metadata["namespace"]},
            "involvedObject": {
                "apiVersion": "v1",
                "kind": "Service",
                "name": metadata["name"],
                "namespace": metadata["namespace"],
                "uid": metadata["uid"],
            },
            "type": kind,
            "reason": reason,
            "message": message,
            "count": 1,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "source": {"component": _COMPONENT},
            "reportingComponent": _COMPONENT,
        }
        try:
            self._api.create(f"/api/v1/namespaces/{metadata['namespace']}/events", event)
        except ApiError as error:
            # Worth a line and no more: an Event must not hold up what it tells of.
            logger.warning("Event %s of Service %s/%s: %s", reason, *_key(service), error)
        self._told[told] = time.monotonic()


def _key(obj: Object) -> Key:
    return obj["metadata"]["namespace"], obj["metadata"]["name"]


def _service_of(endpoint_slice: Object) -> Key:
    metadata = endpoint_slice["metadata"]
    return metadata["namespace"], metadata["labels"][_SERVICE_LABEL]


def _ingress(service: Object) -> list[Object]:
    return ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []


def _address_in_status(service: Object) -> str | None:
    """Where an earlier daemon listened: the same address again keeps the stack's output true."""
    return next((each.get("ip") for each in _ingress(service)), None)


def _listing(ports: Iterable[int]) -> str:
    return ", ".join(str(port) for port in sorted(ports))
