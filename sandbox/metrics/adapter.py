"""What the sandbox runs for the image of Google's Custom Metrics Stackdriver Adapter: prometheus-adapter behind its flags.

Run in a pod, as `python3 -m sandbox.metrics.adapter FLAGS`, by whatever Python the pods have: standard library only. It
waits until `collection` says where Prometheus is and who the pod is to the API server, then becomes prometheus-adapter.
Metrics have the names that the real one gives to those of Managed Service for Prometheus,
`prometheus.googleapis.com|NAME|gauge`. Left out: external metrics, counters and histograms, metrics of nodes and objects.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

#: The image, in any of its versions.
IMAGE_REPOSITORY = "gcr.io/gke-release/custom-metrics-stackdriver-adapter"

#: Where a pod finds what is its cluster's; set by the node agent.
CLUSTER_DIR_VARIABLE = "SANDBOX_CLUSTER_DIR"

#: Between two looks for `adapter.json`, and how often it is said that there is none yet.
_LOOK_SECONDS = 0.2
_SAY_SECONDS = 15.0

#: How soon a new series becomes a metric; prometheus-adapter's own 10 minutes are for large clusters.
_RELIST_SECONDS = 1

#: Flags of the real program (k8s-stackdriver custom-metrics-stackdriver-adapter/adapter.go, v0.16.9) that have no effect here.
_SWITCHES = (
    "use-new-resource-model",
    "fallback-for-container-metrics",
    "enable-custom-metrics-api",
    "enable-external-metrics-api",
    "enable-core-metrics-api",
    "enable-distribution-support",
    "list-full-custom-metrics",
    "logtostderr",
)
_VALUES = (
    "metrics-address",
    "stackdriver-endpoint",
    "external-metric-cache-ttl",
    "external-metric-cache-size",
    "metric-kind-cache-size",
    "metric-kind-cache-ttl",
)


def rules() -> dict[str, Any]:
    """prometheus-adapter's configuration: gauges of pods; all series of one pod are added up, as the real adapter does."""
    return {
        "rules": [
            {
                # The label comes with Prometheus's feature type-and-unit-labels.
                "seriesQuery": '{__type__="gauge",namespace!="",pod!=""}',
                "resources": {"overrides": {"namespace": {"resource": "namespace"}, "pod": {"resource": "pod"}}},
                "name": {"matches": "^(.*)$", "as": "prometheus.googleapis.com|${1}|gauge"},
                "metricsQuery": "sum(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>)",
            }
        ]
    }


def command_line(flags: Sequence[str], connection: Mapping[str, str], *, address: str, cert_dir: str) -> list[str]:
    """prometheus-adapter's. `connection` is what `adapter.json` says. Exits with a message on a flag that is not known."""
    wanted = _parser().parse_args(flags)
    kubeconfig = connection["kubeconfig"]
    return [
        connection["program"],
        f"--config={connection['rules']}",
        f"--prometheus-url={connection['prometheus']}",
        f"--metrics-relist-interval={_RELIST_SECONDS}s",
        f"--lister-kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        f"--bind-address={address}",
        f"--secure-port={wanted.secure_port}",
        f"--cert-dir={cert_dir}",
        f"--v={wanted.v}",
    ]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="adapter", allow_abbrev=False, add_help=False)
    parser.add_argument("--secure-port", type=_port, default=443)
    parser.add_argument("--v", type=int, default=0)
    for name in _SWITCHES:
        parser.add_argument(f"--{name}", nargs="?", choices=("true", "false"), const="true")
    for name in _VALUES:
        parser.add_argument(f"--{name}")
    return parser


def _port(text: str) -> int:
    port = int(text)
    if port < 1024 and os.geteuid() != 0:
        raise argparse.ArgumentTypeError(
            f"port {port} needs root in the sandbox; give the adapter --secure-port=6443, and its Service targetPort 6443"
        )
    return port


def _wait_for(path: Path) -> dict[str, str]:
    say_at = time.monotonic()
    while True:
        try:
            return dict(json.loads(path.read_text()))
        except FileNotFoundError:
            if time.monotonic() >= say_at:
                print(
                    "waits for Prometheus; the first time the sandbox builds it, which takes minutes "
                    "(`python -m sandbox logs --daemon` says how far it is)",
                    file=sys.stderr,
                    flush=True,
                )
                say_at = time.monotonic() + _SAY_SECONDS
            time.sleep(_LOOK_SECONDS)


def main(flags: Sequence[str]) -> None:
    _parser().parse_args(flags)
    connection = _wait_for(Path(os.environ[CLUSTER_DIR_VARIABLE]) / "metrics" / "adapter.json")
    argv = command_line(flags, connection, address=os.environ["SANDBOX_POD_ADDRESS"], cert_dir=f"{os.environ['TMPDIR']}/certificates")
    os.execv(argv[0], argv)  # noqa: S606 - becoming another program is what this is for


if __name__ == "__main__":
    main(sys.argv[1:])
