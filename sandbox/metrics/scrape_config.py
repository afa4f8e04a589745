"""Prometheus's configuration from PodMonitorings, by the rules of Managed Service for Prometheus.

The rules are those of GoogleCloudPlatform/prometheus-engine, pkg/operator/apis/monitoring/v1 (pod_config.go,
common_types.go). Beside them: pods' addresses become the loopback addresses behind them, and scrapes are on the sandbox's
clock. Left out, and refused: what no PodMonitoring of this project says, such as relabelings, limits, expressions in a selector, ports
by name, and authorization, TLS and proxies of an endpoint.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sandbox.google.latencies import Clock

Object = dict[str, Any]

#: Prometheus's durations, of which a PodMonitoring's are: 1h30m, 15s, 500ms.
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0, "y": 31536000.0}
_DURATION = re.compile(r"(\d+)(ms|[smhdwy])")

#: However fast the clock: a scrape is a real request.
_LEAST_SECONDS = 1.0

_META = "__meta_kubernetes_pod"
_DEFAULT_METADATA = ("container", "pod", "top_level_controller_name", "top_level_controller_type")

#: What is read of each part of a PodMonitoring's spec.
_READ = {
    "spec": {"selector", "endpoints", "targetLabels"},
    "spec.selector": {"matchLabels"},
    "spec.targetLabels": {"metadata"},
    "spec.endpoints[]": {"port", "path", "interval", "timeout"},
}

#: `10.88.a.b`, with or without a port, as in sandbox/host/addresses.py.
_POD_ADDRESS = r"10\.(88\..+)"
_LOOPBACK_ADDRESS = "127.$1"


def prometheus_config(
    pod_monitorings: Iterable[Object], *, kubeconfig: Path, project: str, location: str, cluster: str, clock: Clock
) -> Object:
    """The configuration for `--config.file`; labels of the targets are those of Google's `prometheus_target`.

    Raises `ValueError` on a PodMonitoring with a field that is not read here.
    """
    jobs: list[Object] = []
    for each in sorted(pod_monitorings, key=_name):
        _check_read(each)
        place = [_set_label("project_id", project), _set_label("location", location), _set_label("cluster", cluster)]
        jobs += [_scrape_config(each, endpoint, place, kubeconfig, clock) for endpoint in each["spec"]["endpoints"]]
    return {"scrape_configs": jobs}


def seconds(duration: str) -> float:
    """`1m30s` -> 90. Raises `ValueError` on what is none of Prometheus's durations."""
    if not re.fullmatch(rf"({_DURATION.pattern})+", duration):
        raise ValueError(f"{duration!r} is not a duration of Prometheus's: give one like 15s or 1m30s")
    return sum(int(count) * _UNITS[unit] for count, unit in _DURATION.findall(duration))


def _name(pod_monitoring: Object) -> tuple[str, str]:
    return pod_monitoring["metadata"]["namespace"], pod_monitoring["metadata"]["name"]


def _scrape_config(monitoring: Object, endpoint: Object, place: list[Object], kubeconfig: Path, clock: Clock) -> Object:
    namespace, name = _name(monitoring)
    spec, port = monitoring["spec"], endpoint["port"]
    interval = max(_LEAST_SECONDS, clock.scaled(seconds(endpoint["interval"])))
    timeout = max(_LEAST_SECONDS, clock.scaled(seconds(endpoint.get("timeout") or endpoint["interval"])))
    relabelings = [
        *place,
        _keep(["__meta_kubernetes_namespace"], re.escape(namespace)),
        *(_keep([f"{_META}_label_{_sanitized(key)}"], value) for key, value in sorted((spec["selector"].get("matchLabels") or {}).items())),
        *_metadata(spec.get("targetLabels", {}).get("metadata", _DEFAULT_METADATA)),
        _copy_label(["__meta_kubernetes_namespace"], "namespace"),
        _set_label("job", name),
        {"action": "drop", "source_labels": [f"{_META}_phase"], "regex": "(Failed|Succeeded)"},
        # Prometheus finds a target for each container and declared port; by number, all of a pod's must become one.
        {"action": "labeldrop", "regex": "container"},
        _copy_label([f"{_META}_name"], "instance", "(.*)", f"$1:{port}"),
        _copy_label([f"{_META}_ip"], "__address__", _POD_ADDRESS, f"{_LOOPBACK_ADDRESS}:{port}"),
    ]
    return {
        "job_name": f"PodMonitoring/{namespace}/{name}/{port}",
        "metrics_path": endpoint.get("path") or "/metrics",
        "scrape_interval": f"{round(interval * 1000)}ms",
        "scrape_timeout": f"{round(min(timeout, interval) * 1000)}ms",
        "honor_timestamps": False,
        "kubernetes_sd_configs": [{"role": "pod", "kubeconfig_file": str(kubeconfig)}],
        "relabel_configs": relabelings,
    }


def _check_read(monitoring: Object) -> None:
    spec = monitoring["spec"]
    parts = [("spec", spec), ("spec.selector", spec["selector"]), ("spec.targetLabels", spec.get("targetLabels") or {})]
    parts += [("spec.endpoints[]", each) for each in spec["endpoints"]]
    unread = [f"{place}.{key}" for place, part in parts for key in part if key not in _READ[place]]
    unread += [f"spec.endpoints[].port {each['port']!r}" for each in spec["endpoints"] if not isinstance(each["port"], int)]
    if unread:
        what = f"PodMonitoring {'/'.join(_name(monitoring))}: {', '.join(unread)}"
        raise ValueError(f"{what}: the sandbox's Prometheus does not read it; leave it out, and give ports as numbers, to scrape pods here")


def _metadata(wanted: Iterable[str]) -> list[Object]:
    source = {"pod": f"{_META}_name", "container": f"{_META}_container_name", "node": f"{_META}_node_name"}
    rules = [_copy_label([source[name]], name) for name in ("pod", "container", "node") if name in wanted]
    owner = [f"{_META}_controller_kind", f"{_META}_labelpresent_pod_template_hash", f"{_META}_controller_name"]
    if "top_level_controller_name" in wanted:
        # A ReplicaSet with a template's hash is a Deployment's, and its name the Deployment's and the hash.
        rules += [
            _copy_label([f"{_META}_controller_name"], "top_level_controller_name"),
            _copy_label(owner, "top_level_controller_name", "ReplicaSet;true;(.+)-[a-z0-9]+", "$1"),
        ]
    if "top_level_controller_type" in wanted:
        rules += [
            _copy_label([f"{_META}_controller_kind"], "top_level_controller_type"),
            _copy_label(owner, "top_level_controller_type", "ReplicaSet;true;(.+)-[a-z0-9]+", "Deployment"),
        ]
    return rules


def _keep(labels: list[str], regex: str) -> Object:
    return {"action": "keep", "source_labels": labels, "regex": regex}


def _set_label(name: str, value: str) -> Object:
    return {"action": "replace", "target_label": name, "replacement": value.replace("$", "$$")}


def _copy_label(labels: list[str], target: str, regex: str = "(.*)", replacement: str = "$1") -> Object:
    return {"action": "replace", "source_labels": labels, "regex": regex, "target_label": target, "replacement": replacement}


def _sanitized(label: str) -> str:
    """As Prometheus's service discovery writes a pod's label."""
    return re.sub(r"[^a-zA-Z0-9_]", "_", label)
