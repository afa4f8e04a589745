"""When Prometheus runs, with which configuration, and what the adapter is told: a program in its place, and news from the test."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import requests
from kubernetes import client

from sandbox.google.latencies import Clock
from sandbox.host.processes import Spawner, processes_with
from sandbox.kube import kube_api
from sandbox.kube.kube_api import ApiError
from sandbox.metrics import adapter, collection
from sandbox.metrics.collection import MetricsCollection
from sandbox.toolchain.tools import ToolError
from tests.unit.sandbox.helpers import FakeWatcher, eventually, install

Object = dict[str, Any]

#: Answers /-/ready, and /config with what it was last told to read; ends at once on a configuration that says so.
_PROMETHEUS = f"""#!{sys.executable}
import http.server, signal, sys
flags = dict(each.split("=", 1) for each in sys.argv[1:])
def read(*_):
    global config
    config = open(flags["--config.file"]).read()
    if "/ends" in config:
        sys.exit(3)
read()
signal.signal(signal.SIGHUP, read)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(config.encode())
    def log_message(self, *_):
        pass
host, port = flags["--web.listen-address"].split(":")
http.server.ThreadingHTTPServer((host, int(port)), Handler).serve_forever()
"""

DEPLOYMENT: Object = {
    "metadata": {"uid": "d", "namespace": "custom-metrics", "name": "adapter"},
    "spec": {
        "template": {
            "spec": {"serviceAccountName": "csa", "containers": [{"name": "adapter", "image": f"{adapter.IMAGE_REPOSITORY}:v0.16.9-gke.0"}]}
        }
    },
}


def monitoring(path: str = "/metrics") -> Object:
    return {
        "metadata": {"uid": "m", "namespace": "default", "name": "vllm"},
        "spec": {"selector": {"matchLabels": {"app": "vllm"}}, "endpoints": [{"port": 8000, "path": path, "interval": "15s"}]},
    }


class FakeApi:
    """Gives tokens."""

    def __init__(self, _: object) -> None:
        self.asked: list[str] = []
        self.refusals = 0

    def create(self, path: str, body: Object) -> Object:
        self.asked.append(path)
        if self.refusals:
            self.refusals -= 1
            raise ApiError(404, 'serviceaccounts "csa" not found')
        return {"status": {"token": f"token-{len(self.asked)}"}}


class Cluster:
    def __init__(self, folder: Path) -> None:
        FakeWatcher.made = {}
        self.folder = folder
        self.tool_requests = 0
        self.tool_failures = 0
        tools = folder / "tools"
        install(tools / "prometheus", _PROMETHEUS)
        (folder / "logs").mkdir()
        self.spawner = Spawner()
        plane = SimpleNamespace(kubeconfig=folder / "admin", endpoint="127.0.0.1:6443", certificates=SimpleNamespace(ca=folder / "ca.crt"))
        self.collection = MetricsCollection(
            client.ApiClient(client.Configuration()),
            control_plane=cast(Any, plane),
            state_dir=folder,
            tools=tools,
            ensure_tools=self._ensure_tools,
            environment={"PATH": os.environ["PATH"], "UNDER_TEST": str(folder)},
            spawner=self.spawner,
            clock=Clock(100.0),
            project="p",
            location="l",
            cluster="c",
        )
        self.deployments = FakeWatcher.made["deployments"]
        self.monitorings = FakeWatcher.made["podmonitorings"]
        self.api = self.deployments.api
        self.collection.start()

    def _ensure_tools(self) -> None:
        self.tool_requests += 1
        if self.tool_failures:
            self.tool_failures -= 1
            raise ToolError("no network")

    @property
    def connection(self) -> dict[str, str] | None:
        try:
            return dict(json.loads((self.folder / "metrics" / "adapter.json").read_text()))
        except FileNotFoundError:
            return None

    def config(self) -> str:
        """What Prometheus goes by; empty while there is none."""
        connection = self.connection
        if connection is None:
            return ""
        try:
            return requests.get(f"{connection['prometheus']}/config", timeout=2).text
        except requests.RequestException:
            return ""

    def pids(self) -> list[int]:
        return processes_with("UNDER_TEST", str(self.folder))


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    monkeypatch.setattr(kube_api, "Watcher", FakeWatcher)
    monkeypatch.setattr(collection, "KubeApi", FakeApi)
    monkeypatch.setattr(collection, "_LOOK_SECONDS", 0.05)
    monkeypatch.setattr(collection, "_RETRY_SECONDS", 0.1)
    cluster = Cluster(tmp_path)
    yield cluster
    cluster.collection.stop()
    left = cluster.pids()
    cluster.spawner.stop()
    assert left == []


def test_an_adapter_gets_a_prometheus_that_scrapes_what_is_asked_for(cluster: Cluster) -> None:
    cluster.monitorings.event("ADDED", monitoring())
    cluster.deployments.event("ADDED", DEPLOYMENT)
    assert "job_name: PodMonitoring/default/vllm/8000" in eventually(cluster.config)
    cluster.monitorings.event("MODIFIED", monitoring("/other"))
    eventually(lambda: "metrics_path: /other" in cluster.config())
    assert len(cluster.pids()) == 1
    cluster.monitorings.event("DELETED", monitoring())
    eventually(lambda: "PodMonitoring" not in cluster.config())
    assert cluster.tool_requests == 1


def test_a_prometheus_that_ends_is_started_again_and_named(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    cluster.deployments.event("ADDED", DEPLOYMENT)
    eventually(cluster.config)
    (before,) = cluster.pids()
    os.kill(before, signal.SIGKILL)
    eventually(lambda: cluster.pids() not in ([], [before]) and cluster.config())
    assert "prometheus ended with status -9; its log: " in caplog.text


def test_an_invalid_prometheus_configuration_is_reported_and_the_next_one_repairs_it(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    cluster.monitorings.event("ADDED", monitoring("/ends"))
    cluster.deployments.event("ADDED", DEPLOYMENT)
    eventually(lambda: "prometheus is not ready" in caplog.text)
    assert cluster.connection is None
    cluster.monitorings.event("MODIFIED", monitoring())
    eventually(cluster.config)


def test_a_failed_tool_build_and_a_missing_account_are_tried_again(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    cluster.tool_failures = cluster.api.refusals = 1
    cluster.deployments.event("ADDED", DEPLOYMENT)
    eventually(cluster.config)
    assert "no network" in caplog.text
    assert 'serviceaccounts "csa" not found' in caplog.text
