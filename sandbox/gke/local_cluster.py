"""One GKE cluster of the sandbox: a control plane, and the parts that make, fill and serve its nodes.

Left out: what each part does, which is its own module's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sandbox.control_plane.control_plane import ControlPlane
from sandbox.gke.autoscaler import Autoscaler
from sandbox.gke.gateway import GatewayController
from sandbox.gke.load_balancer import Frontends, LoadBalancer
from sandbox.gke.node_pools import NodePools
from sandbox.google.access_tokens import AccessTokens
from sandbox.google.faults import FaultStore
from sandbox.google.latencies import Clock
from sandbox.google.records import Records
from sandbox.google.stock import Stock
from sandbox.host.addresses import PodAddresses
from sandbox.host.processes import Spawner
from sandbox.images.image_store import ImageStore
from sandbox.metrics.collection import MetricsCollection
from sandbox.node_agent import NodeAgent
from sandbox.toolchain.tools import GATEWAY_TOOLS, METRICS_TOOLS, Tool


@dataclass(kw_only=True)
class LocalCluster:
    """Starts and ends its parts in their order; `node_pools` are there from `start` on."""

    name: str
    project: str
    location: str
    #: Of pools that name none.
    zones: list[str]
    state_dir: Path
    tools: Path
    token: str
    environment: Mapping[str, str]
    spawner: Spawner
    images: ImageStore
    pod_addresses: PodAddresses
    frontends: Frontends
    clock: Clock
    stock: Stock
    #: Makes `tools` hold these; called when something first needs them.
    ensure_tools: Callable[[Sequence[Tool]], None]
    access_tokens: AccessTokens
    faults: FaultStore
    #: Google's resources that have no effect here.
    records: Records
    #: The VPC network, by any of its names.
    network: str
    node_pools: NodePools = field(init=False)
    control_plane: ControlPlane = field(init=False)

    def __post_init__(self) -> None:
        #: In the order in which they started.
        self._parts: list[NodePools | MetricsCollection | NodeAgent | LoadBalancer | Autoscaler] = []
        self._gateway: GatewayController | None = None
        self.control_plane = ControlPlane(
            state_dir=self.state_dir,
            tools=self.tools,
            token=self.token,
            environment=self.environment,
            spawner=self.spawner,
            clock=self.clock,
            access_tokens=self.access_tokens,
            faults=self.faults,
        )

    def start(self) -> None:
        self.control_plane.start()
        api = self.control_plane.api_client
        pools = self.node_pools = NodePools(
            api(),
            cluster=self.name,
            project=self.project,
            zones=self.zones,
            state_dir=self.state_dir,
            addresses=self.pod_addresses,
            clock=self.clock,
            stock=self.stock,
        )
        self._parts.append(pools)
        # Before the pods, of which one may be waiting for it.
        metrics = MetricsCollection(
            api(),
            control_plane=self.control_plane,
            state_dir=self.state_dir,
            tools=self.tools,
            ensure_tools=lambda: self.ensure_tools(METRICS_TOOLS),
            environment=self.environment,
            spawner=self.spawner,
            clock=self.clock,
            project=self.project,
            location=self.location,
            cluster=self.name,
        )
        self._start(metrics)
        certificates = self.control_plane.certificates
        node_agent = NodeAgent(
            api(),
            images=self.images,
            state_dir=self.state_dir,
            pod_addresses=self.pod_addresses,
            environment=self.environment,
            speed=self.clock.speed,
            pull_seconds=self._pull_seconds,
            spawner=self.spawner,
            cert_file=certificates.server,
            key_file=certificates.server_key,
            machine_ends=pools.lose_node,
        )
        self._start(node_agent)
        pools.kubelet_port = node_agent.kubelet_port
        self._start(LoadBalancer(api(), self.frontends))
        self._start(Autoscaler(pools, api(), state_dir=self.state_dir))

    def set_gateway_api(self, on: bool) -> None:
        """As GKE does by the cluster's `gatewayApiConfig`: definitions, classes and controller. Raises `ToolError`."""
        if on == (self._gateway is not None):
            return
        if self._gateway is not None:
            self._gateway.stop()
            self._gateway = None
            self.control_plane.set_gateway_api(False)
            return
        self.ensure_tools(GATEWAY_TOOLS)
        self.control_plane.set_gateway_api(True)
        controller = GatewayController(
            self.control_plane.api_client(),
            state_dir=self.state_dir,
            tools=self.tools,
            environment=self.environment,
            spawner=self.spawner,
            clock=self.clock,
            frontends=self.frontends,
            records=self.records,
            location=self.location,
            network=self.network,
        )
        controller.start()
        self._gateway = controller

    def _start(self, part: MetricsCollection | NodeAgent | LoadBalancer | Autoscaler) -> None:
        # One that fails half-way is ended with the others.
        self._parts.append(part)
        part.start()

    def stop(self) -> None:
        """Ends everything that runs; what is on disk stays."""
        if self._parts:
            # First: a machine that is waited for holds up the thread that waits.
            self.node_pools.stop()
        if self._gateway is not None:
            self._gateway.stop()
        for part in reversed(self._parts[1:]):
            part.stop()
        self.control_plane.stop()

    def _pull_seconds(self, node: str, image: str) -> float:
        """How long the node takes to pull one of the stack's images; what others publish is small here."""
        if self.images.is_published(image):
            return 0.0
        return self.clock.seconds("image_pull_streamed" if self.node_pools.streams_images(node) else "image_pull")
