"""The machines of one cluster's node pools: made, registered as Nodes, drained and taken away, with Google's latencies.

Whether a pool should grow or shrink is the autoscaler's to decide; what runs on a node is the node agent's.
"""

from __future__ import annotations

import errno
import logging
import threading
import time
from pathlib import Path
from typing import Any

from kubernetes import client
from kubernetes.client import ApiException

from components.catalog.node_labels import NODE_POOL_LABEL
from sandbox.gke.node_pool import NodePool, node_labels, node_object, node_taints
from sandbox.gke.system_pods import SystemPods
from sandbox.google.latencies import LATENCIES, Clock
from sandbox.google.stock import OutOfStockError, Stock, refusal, status_message
from sandbox.host.addresses import PodAddresses
from sandbox.host.state_files import read_object, unusable, write_object

logger = logging.getLogger(__name__)

_NODE_READY_SECONDS = 60.0
_DRAIN_SECONDS = 60.0
_STOCK_POLL_SECONDS = 0.2


class NodePools:
    """Thread-safe: Pulumi creates pools in parallel, and the autoscaler resizes them meanwhile."""

    def __init__(
        self,
        api_client: client.ApiClient,
        *,
        cluster: str,
        project: str,
        zones: list[str],
        state_dir: Path,
        addresses: PodAddresses,
        clock: Clock,
        stock: Stock,
    ) -> None:
        """`state_dir`: the cluster's, where an earlier daemon may have left pools. `zones`: of pools that name none."""
        self.clock = clock
        self.lock = threading.RLock()
        self.by_name: dict[str, NodePool] = {}
        #: Port of the node agent that every node of the cluster shares; known once it listens.
        self.kubelet_port = 0
        self._core = client.CoreV1Api(api_client)
        # Google names it also of a cluster that is being deleted, whose API server is gone.
        self.version = str(client.VersionApi(api_client).get_code().git_version)
        self._cluster = cluster
        self._project = project
        self._zones = zones
        self._dir = state_dir / "pools"
        self._addresses = addresses
        self._stock = stock
        self._ending = threading.Event()
        self._system_pods = SystemPods(api_client)
        self._load()
        self._place_system_pods()

    def stop(self) -> None:
        """Gives up the requests that Google holds; what is on disk stays."""
        self._ending.set()

    # --- pools

    def create(self, pool_name: str, inputs: dict[str, Any]) -> None:
        """Makes the pool and its first nodes, and returns when they are Ready.

        Raises `OutOfStockError` with GKE's `statusMessage` when it has tried for long enough; the pool is there all the same.
        """
        pool = NodePool(name=pool_name, inputs=inputs, zones=list(inputs.get("nodeLocations") or self._zones), in_operation=True)
        with self.lock:
            self.by_name[pool_name] = pool
        give_up = time.monotonic() + self.clock.scaled(LATENCIES["node_pool_give_up"])
        try:
            self.clock.sleep("node_pool_create")
            self._make_first_nodes(pool, give_up)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                # The cause is this machine's disk, which Google's pools do not have: the pool counts as never made.
                with self.lock:
                    del self.by_name[pool_name]
            raise
        finally:
            pool.in_operation = False

    def _make_first_nodes(self, pool: NodePool, give_up: float) -> None:
        """Tries again and again until the pool has them, or until `give_up` of the monotonic clock."""
        while missing := max(0, pool.initial_size - len(pool.nodes)):
            try:
                self._grow_in_parallel(pool, missing, patience=max(0.0, give_up - time.monotonic()))
            except OutOfStockError as refused:
                retry = time.monotonic() + self.clock.scaled(LATENCIES["node_pool_retry"])
                self._ending.wait(max(0.0, min(retry, give_up) - time.monotonic()))
                if retry < give_up and not self._ending.is_set():
                    continue
                final = OutOfStockError(str(refused), seconds=LATENCIES["node_pool_give_up"])
                pool.error = status_message(final, expected=pool.initial_size, running=len(pool.nodes))
                with self.lock:
                    self._save(pool)
                logger.warning("node pool %s is RUNNING_WITH_ERROR: %s", pool.name, pool.error)
                raise OutOfStockError(pool.error, seconds=final.seconds) from refused
        with self.lock:
            # Not earlier: a pool whose creation a crash cuts short counts as never made, since it was never reported.
            self._save(pool)

    def update(self, pool_name: str, inputs: dict[str, Any]) -> None:
        """Takes new inputs over: labels and taints reach the nodes, another machine replaces them, new limits resize."""
        with self.lock:
            pool = self.by_name[pool_name]
            machine_type = pool.machine_type
            pool.in_operation = True
            pool.inputs = inputs
            pool.zones = list(inputs.get("nodeLocations") or self._zones)
            self._save(pool)
            # One that is on its way registers with what is true by then.
            nodes = [node for node in pool.nodes if node not in pool.joining]
        try:
            self._roll_out(pool, nodes, replace=pool.machine_type != machine_type)
        finally:
            pool.in_operation = False

    def _roll_out(self, pool: NodePool, nodes: list[str], *, replace: bool) -> None:
        """Brings the pool's new inputs to its nodes, and their number within its limits."""
        if replace:
            surge = int((pool.inputs.get("upgradeSettings") or {}).get("maxSurge", 1))
            for node in nodes:
                if surge:
                    self.add_node(pool.name)
                self.remove_node(pool.name, node)
                if not surge:
                    self.add_node(pool.name)
        else:
            for node in nodes:
                self._relabel(pool, node)
        with self.lock:
            size = len(pool.nodes)
            if pool.autoscaled:
                wanted = min(max(size, pool.minimum), pool.maximum)
            else:
                fixed = pool.inputs.get("nodeCount")
                wanted = int(fixed) * len(pool.zones) if fixed is not None else size
            surplus = pool.nodes[wanted:]
        for node in surplus:
            self.remove_node(pool.name, node)
        try:
            self._grow_in_parallel(pool, wanted - size)
        except OutOfStockError as refused:
            if not pool.autoscaled:
                raise
            # Limits of autoscaling are numbers to Google; the autoscaler goes on trying to reach them.
            logger.info("node pool %s has its new limits and not yet its nodes: %s", pool.name, refused)

    def delete(self, pool_name: str) -> None:
        """Drains the pool's nodes, all at once, and takes them away."""
        with self.lock:
            pool = self.by_name[pool_name]
            pool.in_operation = True
            nodes = list(pool.nodes)
        self.clock.sleep("node_pool_delete")
        threads = [threading.Thread(target=self.remove_node, args=(pool_name, node)) for node in nodes]
        _run_all(threads)
        with self.lock:
            del self.by_name[pool_name]
            self._record(pool_name).unlink(missing_ok=True)

    # --- nodes

    def add_node(self, pool_name: str, *, patience: float | None = None) -> str:
        """One more machine for the pool; returns its name when the node is Ready. Raises `OutOfStockError`.

        `patience`: seconds that a request may be held for, neither filled nor refused; as long as Google does without.
        """
        with self.lock:
            pool = self.by_name[pool_name]
            # The zone with the fewest machines, as GKE's balanced policy does.
            placed = [self._zone_of(pool, node) for node in pool.nodes]
            zone = min(pool.zones, key=placed.count)
            node = pool.new_node_name(self._cluster)
            pool.nodes.append(node)
            pool.joining[node] = zone
        try:
            self._obtain_machine(pool, node, zone, patience)
            self.clock.sleep("tpu_node_join" if pool.tpu_chips else "node_join")
            self._register(pool, node, zone)
            self._wait_until_ready(node)
            pool.error = None
        except BaseException:
            with self.lock:
                if node in pool.nodes:
                    pool.nodes.remove(node)
            raise
        finally:
            with self.lock:
                pool.joining.pop(node, None)
        self._place_system_pods()
        return node

    def _obtain_machine(self, pool: NodePool, node: str, zone: str, patience: float | None) -> None:
        """Returns once Google has a machine for the node. Raises `OutOfStockError`."""
        words = refusal(node, project=self._project, zone=zone)
        longest = self.clock.scaled(LATENCIES[pool.provision_time])
        started = time.monotonic()
        try:
            while (supply := self._stock.of(pool.name)) != "in":
                waited = time.monotonic() - started
                if supply == "out":
                    self._ending.wait(self.clock.scaled(LATENCIES["instance_refusal"]))
                    raise OutOfStockError(words, seconds=LATENCIES["instance_refusal"])
                if waited >= min(longest, longest if patience is None else patience) or self._is_over(pool, node):
                    raise OutOfStockError(words, seconds=waited * self.clock.speed)
                pool.held.add(node)
                self._ending.wait(_STOCK_POLL_SECONDS)
        finally:
            pool.held.discard(node)

    def _is_over(self, pool: NodePool, node: str) -> bool:
        """Whether the node is wanted no longer."""
        return self._ending.is_set() or self.by_name.get(pool.name) is not pool or node not in pool.nodes

    def remove_node(self, pool_name: str, node: str) -> None:
        """Cordons and drains a node, then takes the machine away."""
        self._drain(node)
        try:
            self._core.delete_node(node)
        except ApiException as error:
            if error.status != 404:
                raise
        with self.lock:
            pool = self.by_name.get(pool_name)
            if pool and node in pool.nodes:
                pool.nodes.remove(node)
        self._place_system_pods()

    def lose_node(self, node: str) -> None:
        """Removes the machine with everything that runs on it, as after a preemption, without a drain."""
        with self.lock:
            for pool in self.by_name.values():
                if node in pool.nodes:
                    pool.nodes.remove(node)
        try:
            self._core.delete_node(node)
        except ApiException as error:
            if error.status != 404:
                raise
        self._place_system_pods()

    def _place_system_pods(self) -> None:
        """GKE's own pods run where no taint keeps them away."""
        with self.lock:
            plain = [pool for pool in self.by_name.values() if not node_taints(pool)]
            self._system_pods.run(any(node not in pool.joining for pool in plain for node in pool.nodes))

    def _grow_in_parallel(self, pool: NodePool, count: int, *, patience: float | None = None) -> None:
        errors: list[BaseException] = []

        def add() -> None:
            try:
                self.add_node(pool.name, patience=patience)
            except BaseException as error:  # noqa: BLE001 - handed to the caller below
                errors.append(error)

        _run_all([threading.Thread(target=add, name=f"add-node-{pool.name}") for _ in range(count)])
        if errors:
            raise errors[0]

    def _register(self, pool: NodePool, node: str, zone: str) -> None:
        body = node_object(
            pool,
            node=node,
            zone=zone,
            address=self._addresses.node_address(node),
            project=self._project,
            kubelet_port=self.kubelet_port,
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
        self._core.patch_node(node, {"metadata": {"labels": {**gone, **labels}}, "spec": {"taints": [*node_taints(pool), *kept]}})

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

    def streams_images(self, node: str) -> bool:
        """Whether containers of the node start while their image still comes."""
        with self.lock:
            return any(node in pool.nodes and pool.streams_images for pool in self.by_name.values())

    def _zone_of(self, pool: NodePool, node: str) -> str:
        if node in pool.joining:
            return pool.joining[node]
        try:
            return str(self._core.read_node(node).metadata.labels["topology.kubernetes.io/zone"])
        except ApiException:
            return pool.zones[0]

    # --- what survives the daemon

    def _record(self, pool_name: str) -> Path:
        """A file a pool: one of all pools, written for each of them, would make many pools cost their square."""
        return self._dir / f"{pool_name}.json"

    def _save(self, pool: NodePool) -> None:
        record = self._record(pool.name)
        record.parent.mkdir(parents=True, exist_ok=True)
        write_object(record, {"inputs": pool.inputs, "zones": pool.zones, "error": pool.error})

    def _load(self) -> None:
        """Takes up the pools of an earlier daemon; which nodes there are, the API server knows."""
        nodes: dict[str, list[str]] = {}
        for node in self._core.list_node().items:
            nodes.setdefault(node.metadata.labels.get(NODE_POOL_LABEL, ""), []).append(node.metadata.name)
        for record in sorted(self._dir.glob("*.json")):
            name, known = record.stem, read_object(record)
            if not isinstance(known.get("inputs"), dict) or not isinstance(known.get("zones"), list):
                raise unusable(record, f"it has no inputs and zones of pool {name}")
            self.by_name[name] = NodePool(
                name=name, inputs=known["inputs"], zones=known["zones"], error=known.get("error"), nodes=nodes.pop(name, [])
            )
        # The rest are of pools that were being made.
        for node_name in [each for of_pool in nodes.values() for each in of_pool]:
            self._core.delete_node(node_name)


def _run_all(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
