"""One GKE cluster of the sandbox: a control plane, its node pools' machines, and what runs on them.

Google's operations on it (create a pool, resize it, take a node away) are here, with their latencies; the decision to
resize is the autoscaler's, what a node runs is the node agent's.
"""

from __future__ import annotations

import errno
import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kubernetes import client
from kubernetes.client import ApiException

from sandbox.addresses import PodAddresses
from sandbox.autoscaler import Autoscaler
from sandbox.control_plane import ControlPlane
from sandbox.image_store import ImageStore
from sandbox.latencies import Clock
from sandbox.load_balancer import LoadBalancer
from sandbox.metrics.collection import MetricsCollection
from sandbox.node_agent import NodeAgent
from sandbox.node_pools import NODE_POOL_LABEL, NodePool, node_labels, node_object, node_taints
from sandbox.processes import Spawner
from sandbox.state_files import read_object, unusable, write_object

logger = logging.getLogger(__name__)

_POOLS_FILE = "pools.json"

_NODE_READY_SECONDS = 60.0
_DRAIN_SECONDS = 60.0


class LocalCluster:
    """Thread-safe: Pulumi creates pools in parallel, and the autoscaler resizes them meanwhile."""

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
        clock: Clock,
        ensure_metrics_tools: Callable[[], None],
    ) -> None:
        """`ensure_metrics_tools` makes `tools` hold what scaling on metrics needs; called when it first does."""
        self.name = name
        self.project = project
        self.zones = zones
        self.clock = clock
        self.pools: dict[str, NodePool] = {}
        self.lock = threading.RLock()
        #: Pools whose creation is not over.
        self._coming: set[str] = set()
        self._dir = state_dir
        self._images = images
        self._pod_addresses = pod_addresses
        self._environment = dict(environment)
        self.control_plane = ControlPlane(
            state_dir=state_dir, tools=tools, token=token, environment=environment, spawner=spawner, clock=clock
        )
        self._spawner = spawner
        self._location = location
        self._tools = tools
        self._ensure_metrics_tools = ensure_metrics_tools
        self._metrics: MetricsCollection | None = None
        self._node_agent: NodeAgent | None = None
        self._load_balancer: LoadBalancer | None = None
        self._autoscaler: Autoscaler | None = None

    # --- life

    def start(self) -> None:
        self.control_plane.start()
        self._core = client.CoreV1Api(self.control_plane.api_client())
        self._load_pools()
        certificates = self.control_plane.certificates
        # Before the pods, of which one may be waiting for it.
        self._metrics = MetricsCollection(
            self.control_plane.api_client(),
            control_plane=self.control_plane,
            state_dir=self._dir,
            tools=self._tools,
            ensure_tools=self._ensure_metrics_tools,
            environment=self._environment,
            spawner=self._spawner,
            clock=self.clock,
            project=self.project,
            location=self._location,
            cluster=self.name,
        )
        self._metrics.start()
        self._node_agent = NodeAgent(
            self.control_plane.api_client(),
            images=self._images,
            state_dir=self._dir,
            pod_addresses=self._pod_addresses,
            environment=self._environment,
            speed=self.clock.speed,
            spawner=self._spawner,
            cert_file=certificates.server,
            key_file=certificates.server_key,
            machine_ends=self.lose_node,
        )
        self._node_agent.start()
        self._load_balancer = LoadBalancer(self.control_plane.api_client())
        self._load_balancer.start()
        self._autoscaler = Autoscaler(self, self.control_plane.api_client(), state_dir=self._dir)
        self._autoscaler.start()

    def stop(self) -> None:
        """Ends everything that runs; what is on disk stays."""
        for part in (self._autoscaler, self._load_balancer, self._node_agent, self._metrics):
            if part is not None:
                part.stop()
        self.control_plane.stop()

    # --- node pools

    def create_node_pool(self, pool_name: str, inputs: dict[str, Any]) -> None:
        """Makes the pool and its first nodes, and returns when they are Ready."""
        pool = NodePool(name=pool_name, inputs=inputs, zones=list(inputs.get("nodeLocations") or self.zones))
        with self.lock:
            self.pools[pool_name] = pool
            self._coming.add(pool_name)
        try:
            self.clock.sleep("node_pool_create")
            self._grow_in_parallel(pool, pool.initial_size)
            with self.lock:
                self._coming.discard(pool_name)
                self._save_pools()
        except OSError as error:
            if error.errno == errno.ENOSPC:
                # Of this machine's disk, which is nothing that a pool of Google's could suffer from: it has never been there.
                with self.lock:
                    del self.pools[pool_name]
            raise

    def update_node_pool(self, pool_name: str, inputs: dict[str, Any]) -> None:
        """Takes new inputs over: labels and taints reach the nodes, another machine replaces them, new limits resize."""
        with self.lock:
            pool = self.pools[pool_name]
            machine_type = pool.machine_type
            pool.inputs = inputs
            pool.zones = list(inputs.get("nodeLocations") or self.zones)
            self._save_pools()
            nodes = list(pool.nodes)
        if pool.machine_type != machine_type:
            for node in nodes:
                self.add_node(pool_name)
                self.remove_node(pool_name, node)
        else:
            for node in nodes:
                self._relabel(pool, node)
        with self.lock:
            size = len(pool.nodes)
            if pool.autoscaled:
                wanted = min(max(size, pool.minimum), pool.maximum)
            else:
                fixed = inputs.get("nodeCount")
                wanted = int(fixed) * len(pool.zones) if fixed is not None else size
            surplus = pool.nodes[wanted:]
        for node in surplus:
            self.remove_node(pool_name, node)
        self._grow_in_parallel(pool, wanted - size)

    def delete_node_pool(self, pool_name: str) -> None:
        """Drains the pool's nodes, all at once, and takes them away."""
        with self.lock:
            nodes = list(self.pools[pool_name].nodes)
        self.clock.sleep("node_pool_delete")
        threads = [threading.Thread(target=self.remove_node, args=(pool_name, node)) for node in nodes]
        _run_all(threads)
        with self.lock:
            del self.pools[pool_name]
            self._save_pools()

    # --- nodes

    def add_node(self, pool_name: str) -> str:
        """One more machine for the pool; returns its name when the node is Ready."""
        with self.lock:
            pool = self.pools[pool_name]
            # The zone with the fewest machines, as GKE's balanced policy does.
            placed = [self._zone_of(pool, node) for node in pool.nodes]
            zone = min(pool.zones, key=placed.count)
            node = pool.new_node_name(self.name)
            pool.nodes.append(node)
            pool.joining[node] = zone
            self._save_pools()
        try:
            self.clock.sleep("tpu_node_join" if pool.tpu_chips else "node_join")
            self._register(pool, node, zone)
            self._wait_until_ready(node)
        except BaseException:
            with self.lock:
                if node in pool.nodes:
                    pool.nodes.remove(node)
            raise
        finally:
            with self.lock:
                pool.joining.pop(node, None)
                self._save_pools()
        return node

    def remove_node(self, pool_name: str, node: str) -> None:
        """Cordons and drains a node, then takes the machine away."""
        self._drain(node)
        try:
            self._core.delete_node(node)
        except ApiException as error:
            if error.status != 404:
                raise
        with self.lock:
            pool = self.pools.get(pool_name)
            if pool and node in pool.nodes:
                pool.nodes.remove(node)
                self._save_pools()

    def lose_node(self, node: str) -> None:
        """The machine is gone with all that runs on it, as after a preemption; nobody drains it."""
        with self.lock:
            for pool in self.pools.values():
                if node in pool.nodes:
                    pool.nodes.remove(node)
                    self._save_pools()
        try:
            self._core.delete_node(node)
        except ApiException as error:
            if error.status != 404:
                raise

    def _grow_in_parallel(self, pool: NodePool, count: int) -> None:
        errors: list[BaseException] = []

        def add() -> None:
            try:
                self.add_node(pool.name)
            except BaseException as error:  # noqa: BLE001 - handed to the caller below
                errors.append(error)

        _run_all([threading.Thread(target=add, name=f"add-node-{pool.name}") for _ in range(count)])
        if errors:
            raise errors[0]

    def _register(self, pool: NodePool, node: str, zone: str) -> None:
        assert self._node_agent is not None
        body = node_object(
            pool,
            node=node,
            zone=zone,
            address=self._pod_addresses.node_address(node),
            project=self.project,
            kubelet_port=self._node_agent.kubelet_port,
            version=self.version,
        )
        self._core.create_node(body)

    def _relabel(self, pool: NodePool, node: str) -> None:
        """Gives a node the pool's present labels and taints; what Kubernetes itself put on it stays."""
        known = self._core.read_node(node)
        foreign = [each for each in known.spec.taints or [] if each.key.startswith("node.kubernetes.io/")]
        kept = self._core.api_client.sanitize_for_serialization(foreign)
        labels = node_labels(pool, node=node, zone=self._zone_of(pool, node))
        gone = {key: None for key in known.metadata.labels if key not in labels}
        self._core.patch_node(
            node, {"metadata": {"labels": {**gone, **labels}}, "spec": {"taints": [*node_taints(pool), *kept]}}
        )

    def _wait_until_ready(self, node: str) -> None:
        deadline = time.monotonic() + _NODE_READY_SECONDS
        while time.monotonic() < deadline:
            conditions = self._core.read_node(node).status.conditions or []
            if any(each.type == "Ready" and each.status == "True" for each in conditions):
                return
            time.sleep(0.1)
        raise TimeoutError(f"node {node} was not Ready within {_NODE_READY_SECONDS:.0f} s")

    def _drain(self, node: str) -> None:
        """Deletes the node's pods with their own grace period; a pool's deletion does not ask disruption budgets."""
        try:
            self._core.patch_node(node, {"spec": {"unschedulable": True}})
        except ApiException as error:
            if error.status == 404:
                return
            raise
        deadline = time.monotonic() + _DRAIN_SECONDS
        selector = f"spec.nodeName={node}"
        while pods := self._core.list_pod_for_all_namespaces(field_selector=selector).items:
            if time.monotonic() > deadline:
                logger.warning("node %s still runs %d pods after %.0f s", node, len(pods), _DRAIN_SECONDS)
                return
            for pod in pods:
                if pod.metadata.deletion_timestamp is None:
                    try:
                        self._core.delete_namespaced_pod(pod.metadata.name, pod.metadata.namespace)
                    except ApiException as error:
                        if error.status != 404:
                            raise
            time.sleep(0.2)

    def _zone_of(self, pool: NodePool, node: str) -> str:
        if node in pool.joining:
            return pool.joining[node]
        try:
            return str(self._core.read_node(node).metadata.labels["topology.kubernetes.io/zone"])
        except ApiException:
            return pool.zones[0]

    @property
    def version(self) -> str:
        return str(client.VersionApi(self._core.api_client).get_code().git_version)

    # --- what survives the daemon

    def _save_pools(self) -> None:
        # One that a crash cuts short has never been there: nobody was told that it is.
        made = {name: pool for name, pool in self.pools.items() if name not in self._coming}
        write_object(
            self._dir / _POOLS_FILE, {name: {"inputs": pool.inputs, "zones": pool.zones} for name, pool in made.items()}
        )

    def _load_pools(self) -> None:
        """Takes up the pools of an earlier daemon; which nodes there are, the API server knows."""
        record = self._dir / _POOLS_FILE
        if not record.exists():
            return
        nodes = {node.metadata.name: node.metadata.labels.get(NODE_POOL_LABEL) for node in self._core.list_node().items}
        for name, pool in read_object(record).items():
            if (
                not isinstance(pool, dict)
                or not isinstance(pool.get("inputs"), dict)
                or not isinstance(pool.get("zones"), list)
            ):
                raise unusable(record, f"it has no inputs and zones of pool {name}")
            self.pools[name] = NodePool(
                name=name,
                inputs=pool["inputs"],
                zones=pool["zones"],
                nodes=[node for node, pool_of_node in nodes.items() if pool_of_node == name],
            )
        for node, name in nodes.items():
            if name not in self.pools:
                # Of a pool that was being made.
                self._core.delete_node(node)


def _run_all(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
