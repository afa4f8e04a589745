"""A node's heartbeats: its Lease and its conditions, and what the API server is told again and what not."""

import datetime
import threading
from collections.abc import Callable
from typing import Any, cast

import pytest

from sandbox.kube.kube_api import ApiError, KubeApi
from sandbox.node_agent import heartbeats
from sandbox.node_agent.heartbeats import Beat, Heartbeats

Object = dict[str, Any]

LEASE = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/node-1"
STATUS = "/api/v1/nodes/node-1/status"


def node(ready: str | None = None, age_seconds: float = 0) -> Object:
    heard = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=age_seconds)
    condition = {"type": "Ready", "status": ready, "lastTransitionTime": "2026-01-01T00:00:00Z"}
    condition["lastHeartbeatTime"] = f"{heard:%Y-%m-%dT%H:%M:%SZ}"
    return {"metadata": {"name": "node-1", "uid": "uid-1"}, "status": {"conditions": [condition]} if ready else {}}


class Api:
    """Has no Lease until one is created; what it is sent, in order."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Object]] = []
        self.leases: set[str] = set()
        self.away = False
        self._changed = threading.Condition()

    def patch(self, path: str, body: Object, content_type: str = "") -> Object:
        if path == LEASE and LEASE not in self.leases:
            raise ApiError(404, "not found")
        return self._take(path, body)

    def create(self, path: str, body: Object) -> Object:
        self.leases.add(f"{path}/{body['metadata']['name']}")
        return self._take(path, body)

    def _take(self, path: str, body: Object) -> Object:
        if self.away:
            raise ApiError(503, "starting")
        with self._changed:
            self.sent.append((path, body))
            self._changed.notify_all()
        return {}

    def wait(self, what: Callable[[], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(what, 10), self.sent

    def told(self) -> list[list[Object]]:
        return [body["status"]["conditions"] for path, body in self.sent if path == STATUS]


@pytest.fixture
def api() -> Api:
    return Api()


def beat(api: Api, *beats: Beat, count: int = 1) -> None:
    """Lets `count` rounds of heartbeats pass."""
    rounds = 0
    over = threading.Event()

    def beating() -> list[Beat]:
        nonlocal rounds
        rounds += 1
        if rounds > count:
            over.set()
            return []
        return list(beats)

    heart = Heartbeats(cast(KubeApi, api), beating)
    heart.start()
    for _ in range(count):
        heart.soon()
        over.wait(0.02)
    heart.soon()
    assert over.wait(10)
    heart.stop()


@pytest.mark.parametrize(
    ("ready", "age", "told"),
    [("True", 0, False), ("True", 100, False), ("True", 301, True), ("Unknown", 0, True), ("False", 0, False)],
    ids=["reported", "reported lately", "reported long ago", "counted as silent", "shutting down"],
)
def test_the_lease_is_renewed_each_time_and_the_status_reported_when_it_is_due(api: Api, ready: str, age: float, told: bool) -> None:
    api.leases.add(LEASE)
    beat(api, Beat(node(ready, age), ready=ready != "False"))
    assert [path for path, _ in api.sent] == [LEASE, *([STATUS] if told else [])]


def test_heartbeats_go_on_soon_after_the_api_server_was_away(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeats, "_RETRY_SECONDS", 0.01)
    api.leases.add(LEASE)
    api.away = True
    heart = Heartbeats(cast(KubeApi, api), lambda: [Beat(node())])
    heart.start()
    assert not api.sent
    api.away = False
    api.wait(lambda: len(api.told()) == 1)
    heart.stop()
