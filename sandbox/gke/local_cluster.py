"""One GKE cluster of the sandbox: a control plane, and the parts that make, fill and serve its nodes.

Left out: what each part does, which is its own module's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from sandbox.control_plane.control_plane import ControlPlane
from sandbox.gke.autoscaler import Autoscaler
from sandbox.gke.load_balancer import Frontends, LoadBalancer
from sandbox.gke.node_pools import NodePools
from sandbox.google.access_tokens import AccessTokens
from sandbox.google.faults import FaultStore
from sandbox.google.latencies import Clock
from sandbox.google.stock import Stock
from sandbox.host.addresses import PodAddresses
from sandbox.host.processes import Spawner
from sandbox.images.image_store import ImageStore
from sandbox.metrics.collection import MetricsCollection
from sandbox.node_agent import NodeAgent


class LocalCluster:
    """Starts and ends its parts in their order; `node_pools` are there from `start` on."""

    node_pools: NodePools

    def __init__(
        self,
        *,
        name: str,
        project: str,
        location: str,
        zones: list[str],
        state_dir: Path,
        tools: Path,
        token: str,
        environment: Mapping[str, str],
        spawner: Spawner,
        images: ImageStore,
        pod_addresses: PodAddresses,
        frontends: Frontends,
        clock: Clock,
        stock: Stock,
        ensure_metrics_tools: Callable[[], None],
        access_tokens: AccessTokens,
        faults: FaultStore,
    ) -> None:
        """`ensure_metrics_tools` makes `tools` hold what scaling on metrics needs; called when it first does."""
        self._name = name
        self._project = project
        self._zones = zones
        self._clock = clock
        self._stock = stock
        self._dir = state_dir
        self._images = images
        self._pod_addresses = pod_addresses
        self._frontends = frontends
        self._environment = dict(environment)
        self.control_plane = ControlPlane(
            state_dir=state_dir,
            tools=tools,
            token=token,
            environment=environment,
            spawner=spawner,
            clock=clock,
            access_tokens=access_tokens,
            faults=faults,
        )
        self._spawner = spawner
        self._location = location
        self._tools = tools
        self._ensure_metrics_tools = ensure_metrics_tools
        #: In the order in which they started.
        self._parts: list[NodePools | MetricsCollection | NodeAgent | LoadBalancer | Autoscaler] = []

    def start(self) -> None:
        self.control_plane.start()
        api = self.control_plane.api_client
        pools = self.node_pools = NodePools(
            api(),
            cluster=self._name,
            project=self._project,
            zones=self._zones,
            state_dir=self._dir,
            addresses=self._pod_addresses,
            clock=self._clock,
            stock=self._stock,
        )
        self._parts.append(pools)
        # Before the pods, of which one may be waiting for it.
        metrics = MetricsCollection(
            api(),
            control_plane=self.control_plane,
            state_dir=self._dir,
            tools=self._tools,
            ensure_tools=self._ensure_metrics_tools,
            environment=self._environment,
            spawner=self._spawner,
            clock=self._clock,
            project=self._project,
            location=self._location,
            cluster=self._name,
        )
        self._start(metrics)
        certificates = self.control_plane.certificates
        node_agent = NodeAgent(
            api(),
            images=self._images,
            state_dir=self._dir,
            pod_addresses=self._pod_addresses,
            environment=self._environment,
            speed=self._clock.speed,
            pull_seconds=self._pull_seconds,
            spawner=self._spawner,
            cert_file=certificates.server,
            key_file=certificates.server_key,
            machine_ends=pools.lose_node,
        )
        self._start(node_agent)
        pools.kubelet_port = node_agent.kubelet_port
        self._start(LoadBalancer(api(), self._frontends))
        self._start(Autoscaler(pools, api(), state_dir=self._dir))

    def _start(self, part: MetricsCollection | NodeAgent | LoadBalancer | Autoscaler) -> None:
        # One that fails half-way is ended with the others.
        self._parts.append(part)
        part.start()

    def stop(self) -> None:
        """Ends everything that runs; what is on disk stays."""
        if self._parts:
            # First: a machine that is waited for holds up the thread that waits.
            self.node_pools.stop()
        for part in reversed(self._parts[1:]):
            part.stop()
        self.control_plane.stop()

    def _pull_seconds(self, node: str, image: str) -> float:
        """How long the node takes to pull one of the stack's images; what others publish is small here."""
        if self._images.is_published(image):
            return 0.0
        return self._clock.seconds("image_pull_streamed" if self.node_pools.streams_images(node) else "image_pull")
