"""Managed collection of one cluster: a real Prometheus that scrapes what the cluster's PodMonitorings name.

It runs while a Deployment of the metrics adapter is there, since nothing else reads its metrics here; what a stack without
autoscaling never needs is never built. Left out: the status of PodMonitorings, ClusterPodMonitoring, rules and alerts,
and Cloud Monitoring behind it all, whose delay of some tens of seconds a sandbox does not have.
"""

import logging
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import requests
import urllib3
import yaml
from kubernetes import client

from sandbox.control_plane.control_plane import ControlPlane, kubeconfig_document
from sandbox.google.latencies import Clock
from sandbox.host.ports import free_ports
from sandbox.host.processes import Spawner, end
from sandbox.host.state_files import write_object, write_text
from sandbox.images.image_store import split_reference
from sandbox.kube.kube_api import ApiError, KubeApi, Mirror
from sandbox.metrics import adapter
from sandbox.metrics.scrape_config import prometheus_config
from sandbox.toolchain.tools import ToolError

logger = logging.getLogger(__name__)

Object = dict[str, Any]

#: (namespace, name) of a service account.
Identity = tuple[str, str]

_LOOK_SECONDS = 1.0
_READY_SECONDS = 30.0
_STOP_SECONDS = 5.0

#: After a failure: a program that ended, a tool that could not be built, an API server that does not answer.
_RETRY_SECONDS = 10.0

_TOKEN_SECONDS = 365 * 24 * 3600


class CollectionError(Exception):
    """Prometheus is not what it should be; the message says why and names its log."""


def adapter_identity(deployments: Iterable[Object]) -> Identity | None:
    """The service account of the metrics adapter's pods; None when no Deployment runs its image."""
    for deployment in deployments:
        pod = deployment["spec"]["template"]["spec"]
        if any(_repository(each["image"]) == adapter.IMAGE_REPOSITORY for each in pod["containers"]):
            return deployment["metadata"]["namespace"], pod.get("serviceAccountName") or "default"
    return None


def _repository(image: str) -> str:
    try:
        return split_reference(image)[0]
    except ValueError:
        return ""


class MetricsCollection:
    """Watches from `start` to `stop`; everything that it does happens on one thread of its own."""

    def __init__(
        self,
        api_client: client.ApiClient,
        *,
        control_plane: ControlPlane,
        state_dir: Path,
        tools: Path,
        ensure_tools: Callable[[], None],
        environment: Mapping[str, str],
        spawner: Spawner,
        clock: Clock,
        project: str,
        location: str,
        cluster: str,
    ) -> None:
        """`ensure_tools` makes `tools` hold `METRICS_TOOLS`; it may take minutes and raise `ToolError`."""
        self._api = KubeApi(api_client)
        self._control_plane = control_plane
        self._dir = state_dir / "metrics"
        self._log = state_dir / "logs" / "prometheus.log"
        self._tools = tools
        self._ensure_tools = ensure_tools
        self._environment = {**environment, "HOME": str(state_dir)}
        self._spawner = spawner
        self._clock = clock
        self._labels = {"project": project, "location": location, "cluster": cluster}
        self._changed = threading.Event()
        self._stopping = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0
        self._config = ""
        self._known: Identity | None = None
        self._thread = threading.Thread(target=self._work, name="metrics", daemon=True)
        self._monitorings = Mirror(self._api, "/apis/monitoring.googleapis.com/v1/podmonitorings", self._changed)
        self._deployments = Mirror(self._api, "/apis/apps/v1/deployments", self._changed)

    def start(self) -> None:
        # That of an earlier daemon names a Prometheus which is gone.
        self._connection.unlink(missing_ok=True)
        for watcher in (self._monitorings, self._deployments):
            watcher.start()
        self._thread.start()

    def stop(self) -> None:
        for watcher in (self._monitorings, self._deployments):
            watcher.stop()
        self._stopping.set()
        self._changed.set()
        # A build that is under way ends with the daemon.
        self._thread.join(timeout=_STOP_SECONDS + 1)

    # --- what is done about it; on the thread

    @property
    def _connection(self) -> Path:
        """What the adapter waits for."""
        return self._dir / "adapter.json"

    def _work(self) -> None:
        while not self._stopping.is_set():
            # Changes apart, to see that Prometheus still runs.
            self._changed.wait(_LOOK_SECONDS)
            self._changed.clear()
            try:
                self._settle()
            except (ToolError, CollectionError, ApiError, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
                if not self._stopping.is_set():
                    logger.error("metrics: %s; tries again in %.0f s", error, _RETRY_SECONDS)
                    self._stopping.wait(_RETRY_SECONDS)
                    self._changed.set()
        self._end_prometheus()

    def _settle(self) -> None:
        identity = adapter_identity((self._deployments.objects() or {}).values())
        monitorings = list((self._monitorings.objects() or {}).values())
        if self._stopping.is_set():
            return
        if identity is None:
            self._connection.unlink(missing_ok=True)
            self._known = None
            self._end_prometheus()
            return
        if self._process is None:
            self._ensure_tools()
        config = prometheus_config(monitorings, kubeconfig=self._control_plane.kubeconfig, clock=self._clock, **self._labels)
        self._run_prometheus(yaml.safe_dump(config, sort_keys=False))
        if identity != self._known:
            self._introduce(identity)
            self._known = identity

    def _run_prometheus(self, config: str) -> None:
        """Has Prometheus run with this configuration. Raises `CollectionError`."""
        if self._process is not None and (code := self._process.poll()) is not None:
            self._process = None
            raise CollectionError(f"prometheus ended with status {code}; its log: {self._log}")
        if self._process is not None and config == self._config:
            return
        self._dir.mkdir(parents=True, exist_ok=True)
        file = self._dir / "prometheus.yaml"
        file.write_text(config)
        self._config = config
        if self._process is not None:
            # A configuration that it refuses is in its log, and the one before stays.
            self._process.send_signal(signal.SIGHUP)
            return
        self._port = self._port or free_ports(1)[0]
        with self._log.open("ab") as output:
            self._process = self._spawner.spawn(
                [
                    str(self._tools / "prometheus"),
                    f"--config.file={file}",
                    f"--storage.tsdb.path={self._dir / 'tsdb'}",
                    "--storage.tsdb.retention.time=1h",
                    f"--web.listen-address=127.0.0.1:{self._port}",
                    # By which the adapter tells gauges from the rest.
                    "--enable-feature=type-and-unit-labels",
                    "--log.level=warn",
                ],
                env=self._environment,
                cwd=self._dir,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self._wait_until_ready(self._process)

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _READY_SECONDS
        while time.monotonic() < deadline and process.poll() is None and not self._stopping.is_set():
            try:
                if requests.get(f"{self._url}/-/ready", timeout=2).ok:
                    logger.info("prometheus is ready at %s", self._url)
                    return
            except requests.RequestException:
                pass
            self._stopping.wait(0.1)
        self._end_prometheus()
        if self._known is None:
            # Somebody else may have it; once an adapter knows it, it stays.
            self._port = 0
        raise CollectionError(f"prometheus is not ready after {_READY_SECONDS:.0f} s; its log: {self._log}")

    @property
    def _url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def _introduce(self, identity: Identity) -> None:
        """Tells the adapter where Prometheus is and who it is itself, by a token of its own service account."""
        namespace, name = identity
        answer = self._api.create(
            f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token",
            {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": _TOKEN_SECONDS}},
        )
        kubeconfig = self._dir / "adapter-kubeconfig"
        plane = self._control_plane
        document = kubeconfig_document(endpoint=plane.endpoint, ca=plane.certificates.ca, token=answer["status"]["token"])
        write_text(kubeconfig, yaml.safe_dump(document), mode=0o600)
        rules = self._dir / "adapter-rules.yaml"
        rules.write_text(yaml.safe_dump(adapter.rules(), sort_keys=False))
        connection = {
            "program": str(self._tools / "prometheus-adapter"),
            "prometheus": self._url,
            "kubeconfig": str(kubeconfig),
            "rules": str(rules),
        }
        write_object(self._connection, connection)

    def _end_prometheus(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            end(process, _STOP_SECONDS)
