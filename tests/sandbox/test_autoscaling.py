"""Scaling on the server's own metrics: PodMonitoring, the metrics adapter, the custom metrics API and the real HPA controller.

What is applied are the objects that GKE takes: nothing in them is the sandbox's.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from tests.sandbox.conftest import Sandbox

pytestmark = pytest.mark.sandbox

MANIFESTS = Path(__file__).parent / "manifests"

METRIC = "prometheus.googleapis.com|vllm:num_requests_waiting|gauge"
METRIC_PATH = f"/apis/custom.metrics.k8s.io/v1beta2/namespaces/default/pods/*/{METRIC.replace('|', '%7C')}"

#: Each server takes this many requests at once, so that few clients make some wait.
LIMIT = ["--max-num-seqs=2"]

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
def scaling(sandbox: Sandbox) -> Iterator[Sandbox]:
    """The dev stack with an HPA on its Deployment; afterwards it is as it was."""
    limited = {"gpuServerArguments": LIMIT, "tpuServerArguments": LIMIT}
    sandbox.pulumi("up", "--yes", "--skip-preview", "--non-interactive", overrides=limited)
    files = [argument for name in ("metrics-adapter", "autoscaling") for argument in ("-f", f"{MANIFESTS / name}.yaml")]
    sandbox.kubectl("apply", *files)
    yield sandbox
    sandbox.kubectl("delete", "--ignore-not-found", "--wait", *files)
    sandbox.command("up")


def _metric(sandbox: Sandbox) -> dict[str, float]:
    """Pod -> waiting requests, as the HPA controller reads it; empty while there is none."""
    answer = sandbox.kubectl("get", "--raw", METRIC_PATH, check=False)
    try:
        items = json.loads(answer)["items"]
    except (ValueError, KeyError):
        return {}
    return {each["describedObject"]["name"]: float(each["value"]) for each in items}


def _replicas(sandbox: Sandbox) -> tuple[int, int]:
    """Wanted and ready."""
    deployment = json.loads(sandbox.kubectl("get", "deployment", "vllm", "-o", "json"))
    return deployment["spec"]["replicas"], deployment["status"].get("readyReplicas", 0)


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
    metric = eventually(lambda: _metric(scaling), "the adapter serves the metric", seconds=600)
    (pod,) = [each["name"] for each in scaling.status()["pods"] if each["name"].startswith("vllm-")]
    assert metric == {pod: 0}


def test_the_adapter_has_the_rights_of_its_own_service_account_and_no_more(scaling: Sandbox) -> None:
    state = next(scaling.state.glob("clusters/*/metrics/adapter-kubeconfig"))
    own = ["--kubeconfig", str(state)]
    assert "custom-metrics:custom-metrics-stackdriver-adapter" in scaling.kubectl("auth", "whoami", *own)
    assert scaling.kubectl("auth", "can-i", "list", "pods", *own).strip() == "yes"
    assert scaling.kubectl("auth", "can-i", "get", "secrets", *own, check=False).strip().startswith("no")


def test_waiting_requests_scale_out_and_their_absence_scales_in(scaling: Sandbox) -> None:
    outputs = scaling.outputs()
    with Load(outputs["service_url"], outputs["model"]) as load:
        eventually(lambda: _replicas(scaling)[0] >= 2, "the HPA wants a second replica", seconds=30)
        eventually(lambda: min(_replicas(scaling)) >= 2, "two replicas are ready")
        both = eventually(lambda: len(_metric(scaling)) >= 2 and _metric(scaling), "both have the metric")
    assert load.outcomes["answered"] > CLIENTS
    assert set(load.outcomes) == {"answered"}
    assert len(both) <= 3
    described = json.loads(scaling.kubectl("get", "hpa", "vllm", "-o", "json"))
    conditions = {each["type"]: each["status"] for each in described["status"]["conditions"]}
    assert conditions["ScalingActive"] == "True"
    eventually(lambda: _replicas(scaling) == (1, 1), "one replica is left")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("timeout", "20s", r"scrape timeout \(20s\) must not be greater than scrape interval \(15s\)"),
        ("port", 0, "Port is required"),
        ("interval", None, "interval: Required value"),
    ],
)
def test_a_pod_monitoring_that_google_refuses_is_refused(
    sandbox: Sandbox, field: str, value: Any, message: str
) -> None:
    monitoring = next(yaml.safe_load_all((MANIFESTS / "autoscaling.yaml").read_text()))
    endpoint = monitoring["spec"]["endpoints"][0]
    if value is None:
        del endpoint[field]
    else:
        endpoint[field] = value
    answer = sandbox.kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(monitoring), check=False)
    assert re.search(message, answer), answer


def test_without_the_adapter_nothing_of_it_is_left(scaling: Sandbox) -> None:
    scaling.kubectl("delete", "--wait", "-f", f"{MANIFESTS / 'metrics-adapter'}.yaml")
    eventually(
        lambda: not _programs(scaling) & {"prometheus", "prometheus-adapter"}, "Prometheus and the adapter have ended"
    )
