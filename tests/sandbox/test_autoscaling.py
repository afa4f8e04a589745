"""Scaling on the server's own metrics: PodMonitoring, the metrics adapter, the custom metrics API and the real HPA controller.

With it, since one update makes both, everything that speeds up starts. The tests run in order, and the last one turns it all off.
The objects are the program's, as it makes them for GKE; only the settings are such that a test can wait for what they do.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

from sandbox.cli.client import Sandbox
from sandbox.host.paths import Paths
from sandbox.toolchain.tools import METRICS_TOOLS, Toolbox
from trials.drills.events import pools

METRIC = "prometheus.googleapis.com|vllm:num_requests_waiting|gauge"
METRIC_PATH = f"/apis/custom.metrics.k8s.io/v1beta2/namespaces/default/pods/*/{METRIC.replace('|', '%7C')}"

#: Each server takes few requests at once, so that few clients make some wait; the scale-down window is real seconds here too.
SETTINGS: dict[str, Any] = {
    "maxReplicas": 3,
    "targetWaitingRequests": 5,
    "scaleDownStabilizationSeconds": 5,
    "gpuServerArguments": ["--max-num-seqs=2"],
    "tpuServerArguments": ["--max-num-seqs=2"],
}

#: 2 are served and 10 wait: twice the 5 that the HPA allows a replica; with two replicas 4 wait at each.
CLIENTS = 12

_SECONDS = 60.0


def eventually(check: Callable[[], Any], what: str, seconds: float = _SECONDS) -> Any:
    """The first true answer; those before it are in the message when there is none in time."""
    deadline, answer = time.monotonic() + seconds, None
    while time.monotonic() < deadline:
        if answer := check():
            return answer
        time.sleep(0.5)
    raise AssertionError(f"{what}: not so within {seconds:.0f} s")


class Load:
    """Clients that ask again and again, each on a connection of its own; what became of each request is counted."""

    def __init__(self, service_url: str, model: str) -> None:
        self.outcomes: Counter[str] = Counter()
        self._url, self._model = f"{service_url}/completions", model
        self._over = threading.Event()
        self._clients = [threading.Thread(target=self._ask) for _ in range(CLIENTS)]

    def __enter__(self) -> Load:
        for client in self._clients:
            client.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for client in self._clients:
            client.join()

    def _ask(self) -> None:
        request = {"model": self._model, "prompt": "Count", "max_tokens": 100, "ignore_eos": True}
        while not self._over.is_set():
            try:
                response = requests.post(self._url, json=request, timeout=60)
                outcome = "answered" if response.ok else f"status {response.status_code}"
            except requests.RequestException as error:
                outcome = type(error).__name__
            self.outcomes[outcome] += 1


@pytest.fixture(scope="module")
def settings(sandbox: Sandbox) -> dict[str, Any]:
    tpu, spot, on_demand = pools(sandbox)
    return {
        **SETTINGS,
        "weightsCache": True,
        "gpuEphemeralStorageLimit": "38Gi",
        "acceleratorPools": [tpu, {**spot, "secondaryBootDiskImage": "global/images/vllm"}, on_demand],
    }


@pytest.fixture(scope="module")
def scaling(sandbox: Sandbox, settings: dict[str, Any]) -> Sandbox:
    """The dev stack with an autoscaler, and with everything that speeds up starts."""
    # Else the daemon builds them while `pulumi up` waits for the adapter.
    Toolbox(Paths.from_environment(sandbox.environment), lambda text, fraction: None).ensure(METRICS_TOOLS)
    sandbox.pulumi("up", "--yes", "--skip-preview", "--non-interactive", overrides=settings)
    return sandbox


def _metric(sandbox: Sandbox) -> dict[str, float]:
    """Pod -> waiting requests, as the HPA controller reads it; empty while there is none."""
    answer = sandbox.kubectl("get", "--raw", METRIC_PATH, check=False)
    try:
        items = json.loads(answer)["items"]
    except (ValueError, KeyError):
        return {}
    return {each["describedObject"]["name"]: float(each["value"]) for each in items}


def _servers(sandbox: Sandbox) -> list[str]:
    return [each["name"] for each in sandbox.status()["pods"] if each["name"].startswith("vllm-")]


def _replicas(sandbox: Sandbox) -> tuple[int, int]:
    """Wanted and ready."""
    deployment = json.loads(sandbox.kubectl("get", "deployment", "vllm", "-o", "json"))
    return deployment["spec"]["replicas"], deployment["status"].get("readyReplicas", 0)


def _accounts(sandbox: Sandbox) -> set[str]:
    """Service accounts of the servers' pods."""
    pods = json.loads(sandbox.kubectl("get", "pods", "-l", "app=vllm", "-o", "json"))["items"]
    return {pod["spec"]["serviceAccountName"] for pod in pods}


def _programs(sandbox: Sandbox) -> set[str]:
    found = set()
    for pid in sandbox.processes():
        try:
            found.add(Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode().rpartition("/")[2])
        except OSError:
            continue
    return found


def test_nothing_of_metrics_runs_until_an_adapter_asks_for_it(sandbox: Sandbox) -> None:
    assert not _programs(sandbox) & {"prometheus", "prometheus-adapter"}


def test_the_servers_waiting_requests_are_a_custom_metric_of_each_pod(scaling: Sandbox) -> None:
    # In the end: the rollout's last pod may still be moving to a better pool.
    eventually(
        lambda: len(metric := _metric(scaling)) == 1 and metric == dict.fromkeys(_servers(scaling), 0.0),
        "the adapter serves the metric of the one pod, and nobody waits",
    )


def test_the_adapter_has_the_rights_of_its_own_service_account_and_no_more(scaling: Sandbox) -> None:
    state = next(scaling.state.glob("clusters/*/metrics/adapter-kubeconfig"))
    own = ["--kubeconfig", str(state)]
    assert "custom-metrics:custom-metrics-stackdriver-adapter" in scaling.kubectl("auth", "whoami", *own)
    assert scaling.kubectl("auth", "can-i", "list", "pods", *own).strip() == "yes"
    assert scaling.kubectl("auth", "can-i", "get", "secrets", *own, check=False).strip().startswith("no")


def test_a_server_with_a_weights_cache_reads_it_by_an_account_of_its_own(scaling: Sandbox) -> None:
    assert _accounts(scaling) == {"vllm"}


def test_waiting_requests_scale_out_and_their_absence_scales_in(scaling: Sandbox, settings: dict[str, Any]) -> None:
    outputs = scaling.outputs()
    with Load(outputs["service_url"], outputs["model"]) as load:
        eventually(lambda: _replicas(scaling)[0] >= 2, "the HPA wants a second replica")
        eventually(lambda: min(_replicas(scaling)) >= 2, "two replicas are ready")
        eventually(lambda: len(_metric(scaling)) >= 2, "both have the metric")
        # The autoscaler owns the replicas, so its changes show no difference.
        assert scaling.preview(**settings) == {}
    assert load.outcomes["answered"] > CLIENTS
    assert set(load.outcomes) == {"answered"}
    described = json.loads(scaling.kubectl("get", "hpa", "vllm", "-o", "json"))
    conditions = {each["type"]: each["status"] for each in described["status"]["conditions"]}
    assert conditions["ScalingActive"] == "True"
    eventually(lambda: _replicas(scaling) == (1, 1), "one replica is left")


@pytest.mark.parametrize(
    ("endpoint", "message"),
    [
        ({"port": 8000, "interval": "15s", "timeout": "20s"}, r"scrape timeout \(20s\) must not be greater than scrape interval \(15s\)"),
        ({"port": 0, "interval": "15s"}, "Port is required"),
        ({"port": 8000}, "interval: Required value"),
    ],
)
def test_a_pod_monitoring_that_google_refuses_is_refused(sandbox: Sandbox, endpoint: dict[str, Any], message: str) -> None:
    monitoring = {
        "apiVersion": "monitoring.googleapis.com/v1",
        "kind": "PodMonitoring",
        "metadata": {"name": "refused", "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": "vllm"}}, "endpoints": [endpoint]},
    }
    answer = sandbox.kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(monitoring), check=False)
    assert re.search(message, answer), answer


def test_with_the_settings_of_before_nothing_of_it_is_left(scaling: Sandbox) -> None:
    scaling.command("up")
    eventually(lambda: not _programs(scaling) & {"prometheus", "prometheus-adapter"}, "Prometheus and the adapter have ended")
    assert [each["name"].partition("-")[0] for each in scaling.status()["pods"]] == ["vllm"]
    assert scaling.kubectl("get", "namespace", "custom-metrics", "--ignore-not-found") == ""
    # A pod that still wanted the account would not come up again.
    assert _accounts(scaling) == {"default"}
    assert "vllm" not in scaling.kubectl("get", "serviceaccounts", "-o", "name")
