"""PodMonitorings as Prometheus's configuration: whom they select, where that is on this machine, and what it is called."""

import re
from pathlib import Path
from typing import Any

import pytest

from sandbox.google.latencies import Clock
from sandbox.metrics.scrape_config import prometheus_config, seconds

Object = dict[str, Any]


def monitoring(name: str = "vllm", **spec: Any) -> Object:
    endpoint = {"port": 8000, "interval": "15s", **spec.pop("endpoint", {})}
    return {
        "metadata": {"namespace": "default", "name": name},
        "spec": {"selector": {"matchLabels": {"app": "vllm"}}, "endpoints": [endpoint], **spec},
    }


def jobs(*monitorings: Object, speed: float = 100.0) -> list[Object]:
    config = prometheus_config(
        monitorings, kubeconfig=Path("/state/admin"), project="p", location="asia-northeast1", cluster="c", clock=Clock(speed)
    )
    return list(config["scrape_configs"])


def target(meta: dict[str, str], *monitorings: Object) -> dict[str, str] | None:
    """The labels of a target that Prometheus's rules make of a discovered one; None when they drop it."""
    (job,) = jobs(*(monitorings or (monitoring(),)))
    labels = {"__address__": meta.get("__meta_kubernetes_pod_ip", ""), **meta}
    for rule in job["relabel_configs"]:
        joined = ";".join(labels.get(name, "") for name in rule.get("source_labels", ()))
        match = re.fullmatch(rule.get("regex", "(.*)"), joined)
        match rule["action"]:
            case "keep" if not match:
                return None
            case "drop" if match:
                return None
            case "labeldrop":
                labels = {name: value for name, value in labels.items() if not re.fullmatch(rule["regex"], name)}
            case "replace" if match:
                expanded = re.sub(r"\$(\d)", r"\\\1", rule["replacement"].replace("$$", "$"))
                labels[rule["target_label"]] = match.expand(expanded)
    return {name: value for name, value in labels.items() if value and (name == "__address__" or name[:2] != "__")}


POD = {
    "__meta_kubernetes_namespace": "default",
    "__meta_kubernetes_pod_name": "vllm-6d69c65549-7ld5b",
    "__meta_kubernetes_pod_ip": "10.88.0.7",
    "__meta_kubernetes_pod_phase": "Running",
    "__meta_kubernetes_pod_node_name": "gke-tpu-1",
    "__meta_kubernetes_pod_container_name": "vllm-gpu",
    "__meta_kubernetes_pod_label_app": "vllm",
    "__meta_kubernetes_pod_labelpresent_app": "true",
    "__meta_kubernetes_pod_labelpresent_pod_template_hash": "true",
    "__meta_kubernetes_pod_controller_kind": "ReplicaSet",
    "__meta_kubernetes_pod_controller_name": "vllm-6d69c65549",
}


def test_a_pod_is_scraped_at_its_loopback_address_and_has_googles_labels() -> None:
    assert target(POD) == {
        "__address__": "127.88.0.7:8000",
        "project_id": "p",
        "location": "asia-northeast1",
        "cluster": "c",
        "namespace": "default",
        "job": "vllm",
        "instance": "vllm-6d69c65549-7ld5b:8000",
        "pod": "vllm-6d69c65549-7ld5b",
        "top_level_controller_name": "vllm",
        "top_level_controller_type": "Deployment",
    }


def test_the_containers_of_a_pod_are_one_target_when_the_port_is_a_number() -> None:
    assert target(POD) == target(POD | {"__meta_kubernetes_pod_container_name": "vllm-tpu"})


@pytest.mark.parametrize(
    "other",
    [
        {"__meta_kubernetes_namespace": "elsewhere"},
        {"__meta_kubernetes_pod_label_app": "vllm2"},
        {"__meta_kubernetes_pod_phase": "Failed"},
        {"__meta_kubernetes_pod_phase": "Succeeded"},
    ],
)
def test_finished_pods_and_pods_of_other_namespaces_and_labels_are_not_targets(other: dict[str, str]) -> None:
    assert target(POD | other) is None


def test_the_node_is_a_label_only_when_asked_for() -> None:
    found = target(POD, monitoring(targetLabels={"metadata": ["pod", "node"]}))
    assert found is not None
    assert found["node"] == "gke-tpu-1"
    assert "top_level_controller_name" not in found


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"limits": {"samples": 5}}, r"spec\.limits"),
        ({"selector": {"matchLabels": {}, "matchExpressions": []}}, r"spec\.selector\.matchExpressions"),
        ({"endpoint": {"metricRelabeling": []}}, r"spec\.endpoints\[\]\.metricRelabeling"),
        ({"endpoint": {"port": "http"}}, r"spec\.endpoints\[\]\.port 'http'"),
    ],
)
def test_what_is_not_read_is_refused_with_its_place(spec: Object, field: str) -> None:
    with pytest.raises(ValueError, match=rf"PodMonitoring default/vllm: {field}: the sandbox's Prometheus does not read it; leave it out"):
        jobs(monitoring(**spec))


def test_intervals_are_on_the_sandboxs_clock_but_never_below_a_second() -> None:
    def times(endpoint: Object, speed: float) -> tuple[str, str]:
        (job,) = jobs(monitoring(endpoint=endpoint), speed=speed)
        return job["scrape_interval"], job["scrape_timeout"]

    assert times({"interval": "15s"}, 100.0) == ("1000ms", "1000ms")
    assert times({"interval": "1m", "timeout": "30s"}, 10.0) == ("6000ms", "3000ms")
    assert times({"interval": "15s", "timeout": "5s"}, 1.0) == ("15000ms", "5000ms")


@pytest.mark.parametrize(("text", "expected"), [("15s", 15), ("1m30s", 90), ("500ms", 0.5), ("1h", 3600)])
def test_durations_are_prometheuss(text: str, expected: float) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "15", "s", "1.5s", "15 s"])
def test_an_invalid_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration.*15s"):
        seconds(text)
