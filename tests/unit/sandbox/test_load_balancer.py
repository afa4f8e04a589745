"""The load balancer: what it picks, how it forwards, and what it tells the API server."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from typing import Any

import pytest
from kubernetes import client

import sandbox.gke.load_balancer as under_test
from sandbox.gke.load_balancer import Frontends, LoadBalancer, backends_of, choose_address, explain
from sandbox.host.tcp_proxy import Address, TcpProxy
from tests.unit.sandbox.helpers import FakeWatcher, eventually

Object = dict[str, Any]

_SECONDS = 5.0


# --- endpoints


def endpoint(address: str, **conditions: bool) -> Object:
    return {"addresses": [address], "conditions": conditions}


def endpoint_slice(*endpoints: Object, port: int = 8000, name: str = "", service: str = "vllm-service") -> Object:
    return {
        "metadata": {"namespace": "default", "name": f"{service}-abc", "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "ports": [{"name": name, "port": port, "protocol": "TCP"}],
        "endpoints": list(endpoints),
    }


SILENT = endpoint("10.88.0.1", ready=False, serving=False, terminating=False)
ENDING = endpoint("10.88.0.2", ready=False, serving=True, terminating=True)
READY = endpoint("10.88.0.3", ready=True, serving=True, terminating=False)


@pytest.mark.parametrize(("endpoints", "used"), [((SILENT, ENDING, READY), "127.88.0.3"), ((SILENT, ENDING), "127.88.0.2")])
def test_endpoints_that_end_are_used_only_if_they_serve_and_none_is_ready(endpoints: tuple[Object, ...], used: str) -> None:
    assert backends_of([endpoint_slice(*endpoints)], "") == [(used, 8000)]


def test_ports_are_matched_by_name_over_all_slices_of_the_service() -> None:
    slices = [
        endpoint_slice(endpoint("10.88.0.1"), port=8000, name="http"),
        endpoint_slice(endpoint("10.88.0.2"), port=9000, name="http"),
        endpoint_slice(endpoint("10.88.0.1"), port=9100, name="metrics"),
    ]
    assert backends_of(slices, "http") == [("127.88.0.1", 8000), ("127.88.0.2", 9000)]
    assert backends_of(slices, "metrics") == [("127.88.0.1", 9100)]


# --- choices


def test_a_service_gets_the_address_of_its_status_again() -> None:
    assert choose_address([80], [], preferred="127.0.0.7") == "127.0.0.7"
    assert choose_address([80], [("127.0.0.7", 80)], preferred="127.0.0.7") == "127.0.0.2"
    assert choose_address([80], [], preferred="34.1.2.3") == "127.0.0.2"


def test_a_port_without_permission_is_explained_with_its_fix() -> None:
    error = explain(PermissionError(13, "Permission denied"), "127.0.0.1", 80)
    assert error.reason == "PortNotPermitted"
    assert "port 80" in str(error)
    assert "servicePort" in str(error)


# --- forwarding


class Backend:
    """Answers each connection with its name and then whatever it gets, and ends after the client has."""

    def __init__(self, name: str, host: str = "127.0.0.1") -> None:
        self._server = socket.create_server((host, 0))
        self._name = name
        self.address: Address = self._server.getsockname()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        # Wakes the thread that accepts, too.
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            connection.sendall(self._name.encode())
            received = b""
            while data := connection.recv(65536):
                received += data
            connection.sendall(received)


@pytest.fixture
def proxy() -> Iterator[TcpProxy]:
    proxy = TcpProxy()
    proxy.start()
    yield proxy
    proxy.stop()


@pytest.fixture
def backend() -> Iterator[Callable[[str], Backend]]:
    made: list[Backend] = []

    def make(name: str) -> Backend:
        made.append(Backend(name))
        return made[-1]

    yield make
    for each in made:
        each.close()


def free_address() -> Address:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()  # type: ignore[no-any-return]


def connect(address: Address) -> socket.socket:
    return socket.create_connection(address, timeout=_SECONDS)


def who_answers(address: Address) -> str:
    with connect(address) as connection:
        return connection.recv(16).decode()


def test_what_the_client_sends_arrives_and_its_end_does_not_end_the_answer(proxy: TcpProxy, backend: Callable[[str], Backend]) -> None:
    address = free_address()
    proxy.listen(address, [backend("a").address])
    sent = b"x" * 300_000
    with connect(address) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        received = b""
        while data := connection.recv(65536):
            received += data
    assert received == b"a" + sent


@pytest.mark.parametrize("backends", [[], [("127.0.0.1", 1)]], ids=["none", "none-that-answers"])
def test_a_connection_without_a_backend_is_closed_at_once(proxy: TcpProxy, backends: list[Address]) -> None:
    address = free_address()
    proxy.listen(address, backends)
    begun = time.monotonic()
    with connect(address) as connection, suppress(ConnectionResetError):
        assert connection.recv(1) == b""
    assert time.monotonic() - begun < 1


def test_a_connection_outlives_its_backends_leaving_and_its_listener(proxy: TcpProxy, backend: Callable[[str], Backend]) -> None:
    address = free_address()
    proxy.listen(address, [backend("a").address])
    with connect(address) as old:
        assert old.recv(1) == b"a"
        proxy.set_backends(address, [backend("b").address])
        assert who_answers(address) == "b"
        proxy.close(address)
        with pytest.raises(ConnectionRefusedError):
            connect(address)
        old.sendall(b"still there")
        old.shutdown(socket.SHUT_WR)
        assert old.recv(64) == b"still there"


# --- towards the API server


class FakeApi:
    """Remembers what is written."""

    def __init__(self, api_client: object) -> None:
        self.ingress: dict[str, Any] = {}
        self.events: list[Object] = []

    def patch(self, path: str, body: Object) -> Object:
        name = path.removeprefix("/api/v1/namespaces/default/services/").removesuffix("/status")
        self.ingress[name] = body["status"]["loadBalancer"]["ingress"]
        return {}

    def create(self, path: str, body: Object) -> Object:
        assert path == "/api/v1/namespaces/default/events"
        self.events.append(body)
        return {}


class Cluster:
    """A load balancer and the API server's side of it."""

    def __init__(self, frontends: Frontends) -> None:
        FakeWatcher.made = {}
        self.balancer = LoadBalancer(client.ApiClient(), frontends)
        self.services = FakeWatcher.made["services"]
        self.slices = FakeWatcher.made["endpointslices"]
        self.api = self.services.api
        self.balancer.start()

    def reasons(self) -> list[str]:
        return [each["reason"] for each in self.api.events]


@pytest.fixture
def frontends(monkeypatch: pytest.MonkeyPatch) -> Frontends:
    monkeypatch.setattr(under_test, "KubeApi", FakeApi)
    monkeypatch.setattr(under_test, "Watcher", FakeWatcher)
    monkeypatch.setattr(under_test, "_RETRY_SECONDS", 0.05)
    return Frontends()


@pytest.fixture
def cluster(frontends: Frontends) -> Iterator[Cluster]:
    cluster = Cluster(frontends)
    yield cluster
    cluster.balancer.stop()


def service(*ports: int, name: str = "vllm-service", protocol: str = "TCP", **spec: Any) -> Object:
    return {
        "metadata": {"namespace": "default", "name": name, "uid": f"uid-{name}"},
        "spec": {"type": "LoadBalancer", "ports": [{"name": f"p{port}", "port": port, "protocol": protocol} for port in ports], **spec},
    }


def refused(address: Address) -> bool:
    try:
        connect(address).close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:
        # The listener was closed before it had accepted this one.
        return False
    return False


@pytest.mark.parametrize("change", ["deleted", "another port", "another type", "another class"])
def test_the_listener_goes_when_its_service_does(cluster: Cluster, change: str) -> None:
    (_, port), (_, other) = free_address(), free_address()
    cluster.services.event("ADDED", service(port))
    eventually(lambda: cluster.api.ingress.get("vllm-service"))
    changes = {
        "deleted": ("DELETED", service(port)),
        "another port": ("MODIFIED", service(other)),
        "another type": ("MODIFIED", service(port, type="ClusterIP")),
        "another class": ("MODIFIED", service(port, loadBalancerClass="example.com/other")),
    }
    cluster.services.event(*changes[change])
    assert eventually(lambda: refused(("127.0.0.2", port)))
    if change == "another port":
        assert eventually(lambda: not refused(("127.0.0.2", other)))


def test_a_port_of_another_program_is_reported_and_used_once_it_is_free(cluster: Cluster) -> None:
    with closing(socket.create_server(("127.0.0.2", 0))) as other:
        port = other.getsockname()[1]
        cluster.services.event("ADDED", service(port))
        eventually(lambda: "PortInUse" in cluster.reasons())
        message = cluster.api.events[0]["message"]
        assert f"port {port} of 127.0.0.2" in message
        assert "servicePort" in message
        assert cluster.api.events[0]["type"] == "Warning"
        assert cluster.api.ingress == {}
        time.sleep(0.2)
        assert cluster.reasons() == ["PortInUse"], "told once, however often it is tried"
    assert eventually(lambda: cluster.api.ingress.get("vllm-service")) == [{"ip": "127.0.0.2", "ipMode": "VIP"}]
