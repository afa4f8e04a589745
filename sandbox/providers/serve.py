"""Stand-ins for the Pulumi providers that the program uses, served over the real provider protocol.

`serve` starts them; each listens on a port of its own, which PULUMI_DEBUG_PROVIDERS tells the engine. Where the real
Kubernetes plugin is on this machine, it is left to work, since the API server behind it is real.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from sandbox.gke.cloud import Cloud
from sandbox.google.access_tokens import AccessTokens
from sandbox.google.faults import FaultStore
from sandbox.google.latencies import Clock
from sandbox.google.records import Records
from sandbox.google.secret_manager import SecretStore
from sandbox.host.paths import PROJECT_DIR
from sandbox.host.real_plugins import real_plugin_on_path
from sandbox.images.image_builder import ImageBuilder
from sandbox.providers.docker import DockerProvider
from sandbox.providers.gcp import GcpProvider
from sandbox.providers.google_requests import GoogleRequests
from sandbox.providers.kubernetes import Clusters, KubernetesProvider
from sandbox.providers.server import ProviderServer
from sandbox.providers.unfinished import Unfinished


@dataclass(frozen=True)
class Providers:
    """Running providers by package."""

    servers: Mapping[str, ProviderServer]

    @property
    def debug_providers(self) -> str:
        """The value of PULUMI_DEBUG_PROVIDERS: `gcp:PORT,kubernetes:PORT,docker:PORT`."""
        return ",".join(f"{package}:{server.port}" for package, server in self.servers.items())

    def stop(self) -> None:
        for server in self.servers.values():
            server.stop()


def serve(cloud: Cloud, builder: ImageBuilder, state_dir: Path, environment: Mapping[str, str], clock: Clock) -> Providers:
    """Starts every provider that is needed. `environment`: of the programs that providers start, exec plugins for one.

    `clock`: on which images are built and requests to Google wait before they are tried again. Raises `StateError`.
    """
    records = Records(state_dir / "cloud.json")
    # A file that cannot be used is told now, and not by an update that has begun.
    records.check()
    unfinished = Unfinished(state_dir / "unfinished.json")
    unfinished.take_back(records, state_dir / "own-kubeconfig")
    secret_store = SecretStore(state_dir / "secret-manager")
    requests = GoogleRequests(faults=FaultStore(state_dir), tokens=AccessTokens(state_dir), clock=clock)
    # Read once: a provider is made for each connection, while an engine waits for it.
    folders = programs(PROJECT_DIR)
    servers = {"gcp": ProviderServer(lambda: GcpProvider(cloud, records, secret_store, requests), unfinished.creating)}
    if real_plugin_on_path("kubernetes", environment) is None:
        clusters = Clusters()
        servers["kubernetes"] = ProviderServer(lambda: KubernetesProvider(clusters), unfinished.creating)
    servers["docker"] = ProviderServer(lambda: DockerProvider(builder, PROJECT_DIR, folders, requests, clock=clock))
    return Providers(servers)


def programs(root: Path) -> dict[str, Path]:
    """The folder of each Pulumi project below `root`, by the project's name: its own, and those of the examples."""
    found = {}
    for file in (root / "Pulumi.yaml", *sorted(root.glob("examples/*/Pulumi.yaml"))):
        found[str(yaml.safe_load(file.read_text())["name"])] = file.parent
    return found
