"""A small stand-in for GKE's cluster autoscaler: it follows ComputeClasses over the node pools of one cluster.

Four duties: a pending pod of a class gets a node of the first rule with room; a pool below its minimum gets nodes; unneeded nodes above
it go away; with active migration a replica of a lower priority moves when there is a place for it, through the eviction API. Which nodes
may go is decided in `consolidation`, by the published code. The real scheduler places every pod. A pool that got no machine is left
alone for a while, and events and the class's status say so (`scaling_messages`). Left out, and why: the published code itself, which
works on Compute Engine's and GKE's own APIs; pods of no compute class, bin packing of several pods on one new node (a replica here takes a
node), and price-based choices.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from kubernetes import client
from kubernetes.client import ApiException
from urllib3.exceptions import HTTPError

from sandbox.gke.cluster_view import CONSOLIDATION_DELAY_MINUTES, ComputeClassRules, Snapshot, is_settled, is_unschedulable, priority_of
from sandbox.gke.consolidation import migration_candidates, places_for, takes, unneeded_nodes
from sandbox.gke.node_pool import NodePool
from sandbox.gke.node_pools import NodePools
from sandbox.gke.scaling_messages import (
    Backoff,
    Growth,
    Trigger,
    class_conditions,
    failed_scale_up,
    not_triggered,
    priority_statuses,
    timeless,
)
from sandbox.google.latencies import LATENCIES
from sandbox.google.stock import OutOfStockError
from sandbox.host.state_files import write_object

logger = logging.getLogger(__name__)

#: A round asks the API server for everything; more often it would take the machine from what it looks at.
_LEAST_PERIOD_SECONDS = 0.5
_LEAST_BACKOFF_SECONDS = 3 * _LEAST_PERIOD_SECONDS

#: A pool's first back-off is `stock_out_cool_down`; each further one is twice as long, up to this many times the first, until the pool has
#: been left alone for long enough (pkg/backoff/gke_mig_backoff.go and exponential_backoff.go: 5 minutes to 30, forgotten after 3 hours).
#: pkg/backoff/npc_backoff.go, which suspends whole priorities, leaves those alone that name node pools.
_MOST_BACKOFFS = 6
_BACKOFF_FORGOTTEN_SECONDS = 3 * 3600.0

#: For so long active migration leaves a node alone for which there is no place (BackoffDuration in high_priority_migration.go).
_MIGRATION_BACKOFF_SECONDS = 300.0


class Autoscaler:
    """The loop; `settled` in `autoscaler.json` says that it has nothing left to do."""

    def __init__(self, pools: NodePools, api_client: client.ApiClient, *, state_dir: Path) -> None:
        self._pools = pools
        self._api = api_client
        self._core = client.CoreV1Api(api_client)
        self._custom = client.CustomObjectsApi(api_client)
        self._record = state_dir / "autoscaler.json"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="autoscaler", daemon=True)
        #: Nodes that are being emptied.
        self._leaving: set[str] = set()
        self._unneeded_since: dict[str, float] = {}
        #: Node -> when active migration looks at it again.
        self._stuck_until: dict[str, float] = {}
        self._random = random.Random()
        #: Pool -> how many back-offs in a row, and until when they count.
        self._failures: dict[str, tuple[int, float]] = {}
        self._backoffs: dict[str, Backoff] = {}
        self._growths: dict[str, Growth] = {}
        #: Class uid -> its status.
        self._statuses: dict[str, dict[str, list[dict[str, Any]]]] = {}
        self._growing = 0
        #: Uids of the pods that were at rest a round ago.
        self._at_rest: set[str] = set()
        self._settled: bool | None = None

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        while not self._stop.wait(max(_LEAST_PERIOD_SECONDS, self._pools.clock.scaled(LATENCIES["autoscaler_scan"]))):
            try:
                snapshot = self._look()
                settled = self._step(snapshot)
                for compute_class in snapshot.classes:
                    self._write_status(compute_class)
                self._report(settled)
            except (ApiException, HTTPError, OSError) as error:
                # The API server restarts, or a stack is just being destroyed; the next look tells.
                logger.info("autoscaler: skipped a round: %s", str(error).splitlines()[0])

    def _look(self) -> Snapshot:
        classes = self._custom.list_cluster_custom_object("cloud.google.com", "v1", "computeclasses")
        sanitize = self._api.sanitize_for_serialization
        return Snapshot(
            classes=tuple(ComputeClassRules.from_object(each) for each in classes["items"]),
            nodes={each["metadata"]["name"]: each for each in sanitize(self._core.list_node().items)},
            pods=tuple(
                pod
                for pod in sanitize(self._core.list_pod_for_all_namespaces().items)
                if (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")
            ),
        )

    def _step(self, snapshot: Snapshot) -> bool:
        """One round; True when there was nothing to do and nothing is under way."""
        acted = False
        for compute_class in snapshot.classes:
            acted = self._scale_up(snapshot, compute_class) or acted
        acted = self._fill_to_minimum() or acted
        # A replica that has just become ready stays for a round, so that its observers see it too.
        at_rest = {pod["metadata"]["uid"] for pod in snapshot.pods if is_settled(pod)}
        fresh = bool(at_rest - self._at_rest)
        self._at_rest = at_rest
        if not acted and not fresh and self._growing <= self._held:
            for compute_class in snapshot.classes:
                acted = (compute_class.active_migration and self._migrate(snapshot, compute_class)) or acted
        if not acted:
            acted = self._scale_down(snapshot)
        # A request that Google holds may be for hours, and nothing moves meanwhile.
        joining = any(pool.joining.keys() - pool.held for pool in self._pools.by_name.values())
        busy = joining or self._leaving or self._growing > self._held
        moving = any(not is_settled(pod) and not priority_of(pod) for pod in snapshot.pods)
        return not (acted or busy or moving or fresh)

    # --- up

    def _scale_up(self, snapshot: Snapshot, compute_class: ComputeClassRules) -> bool:
        pending = [pod for pod in snapshot.pending(compute_class.name) if is_unschedulable(pod)]
        pools = self._pools_of(compute_class)
        for pod in self._without_a_place(snapshot, compute_class, pending):
            pool = self._first_with_room(compute_class, pod)
            if pool is None:
                reasons = [self._why_not(each, pod) or "" for each in pools]
                self._event(pod, "NotTriggerScaleUp", not_triggered(reasons))
                continue
            size = len(pool.nodes)
            self._event(pod, "TriggeredScaleUp", f"pod triggered scale-up: [{{{pool.name} {size}->{size + 1} (max: {pool.maximum})}}]")
            self._grow(pool, "PodPending", pod)
        # A placeholder of the fallback timer waits without being waited for.
        return any(not priority_of(pod) for pod in pending)

    def _without_a_place(self, snapshot: Snapshot, compute_class: ComputeClassRules, pending: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The pods that fit neither a free node nor one that is on its way, those of a higher priority placed first.

        A node on its way counts for as long as it is waited for, also if no rule of the class names its pool any longer: only the pod's own
        constraints are asked (`filterOutSchedulableByPacking` in core/podlistprocessor/filter_out_schedulable.go of kubernetes/autoscaler,
        which pkg/processors/pod_list_processor.go of GKE's calls).
        """
        places = [
            pool
            for pool in list(self._pools.by_name.values())
            if pool.compute_class == compute_class.name
            for node in pool.nodes
            if node in pool.joining or snapshot.is_free(node)
        ]
        without = []
        for pod in sorted(pending, key=priority_of, reverse=True):
            place = next((pool for pool in places if takes(pool, "", pod)), None)
            if place is None:
                without.append(pod)
            else:
                places.remove(place)
        return without

    def _fill_to_minimum(self) -> bool:
        """As GKE's autoscaler does with `--enforce-node-group-min-size`: after a stock-out, or a machine's end."""
        acted = False
        for pool in list(self._pools.by_name.values()):
            short = pool.autoscaled and len(pool.nodes) < pool.minimum
            if short and not pool.in_operation and not self._backed_off(pool):
                self._grow(pool, "NodePoolMinSize")
                acted = True
        return acted

    def _first_with_room(self, compute_class: ComputeClassRules, pod: dict[str, Any], *, better_than: int | None = None) -> NodePool | None:
        for pool in self._pools_of(compute_class):
            rank = compute_class.rank(pool.name)
            if better_than is not None and (rank is None or rank >= better_than):
                return None
            if better_than is not None and pool.joining:
                # Its room is on its way.
                continue
            if self._why_not(pool, pod) is None:
                return pool
        return None

    def _why_not(self, pool: NodePool, pod: dict[str, Any]) -> str | None:
        """Why the pool gets no node for the pod, in the autoscaler's words; None when it does."""
        if pool.in_operation:
            return "not ready for scale-up"
        if self._backed_off(pool):
            return "in backoff after failed scale-up"
        if not pool.autoscaled or len(pool.nodes) >= pool.maximum:
            return "max node group size reached"
        if not takes(pool, "", pod):
            return "node(s) didn't match Pod's node affinity/selector or had untolerated taint"
        return None

    def _backed_off(self, pool: NodePool) -> bool:
        backoff = self._backoffs.get(pool.name)
        if backoff is not None and time.monotonic() >= backoff.until:
            del self._backoffs[pool.name]
            return False
        return backoff is not None

    def _back_off(self, pool: NodePool, *, out_of_stock: bool) -> None:
        known, forgotten = self._failures.get(pool.name, (0, 0.0))
        known = known if time.monotonic() < forgotten else 0
        if not known:
            forgotten = time.monotonic() + self._pools.clock.scaled(_BACKOFF_FORGOTTEN_SECONDS)
        self._failures[pool.name] = (known + 1, forgotten)
        seconds = self._pools.clock.scaled(LATENCIES["stock_out_cool_down"]) * min(2**known, _MOST_BACKOFFS)
        # However fast the clock, the next rounds see it: the pods that wait are given to another pool.
        seconds = max(seconds, _LEAST_BACKOFF_SECONDS)
        now = datetime.now(UTC)
        self._backoffs[pool.name] = Backoff(
            until=time.monotonic() + seconds, since=now, ends=now + timedelta(seconds=seconds), out_of_stock=out_of_stock
        )

    @property
    def _held(self) -> int:
        """Machines that Google neither gives nor refuses."""
        return sum(len(pool.held) for pool in self._pools.by_name.values())

    def _grow(self, pool: NodePool, trigger: Trigger, pod: dict[str, Any] | None = None) -> None:
        """Adds a node in a thread of its own; `pod` is the one that waits for it."""
        logger.info("autoscaler: adds a node to pool %s", pool.name)
        self._growing += 1
        self._growths[pool.name] = Growth(trigger=trigger, since=datetime.now(UTC))

        def add() -> None:
            try:
                self._pools.add_node(pool.name)
            except Exception as error:  # noqa: BLE001 - whatever the reason, the rule is left alone for a while
                logger.warning("autoscaler: pool %s got no node: %s", pool.name, error)
                out_of_stock = isinstance(error, OutOfStockError)
                self._back_off(pool, out_of_stock=out_of_stock)
                if pod is not None:
                    self._event(pod, "FailedScaleUp", failed_scale_up(pool, out_of_stock=out_of_stock), kind="Warning")
            finally:
                self._growths.pop(pool.name, None)
                self._growing -= 1

        threading.Thread(target=add, name=f"grow-{pool.name}", daemon=True).start()
        # The machine counts from now on, not from when its thread first runs.
        while self._growing and not pool.joining and not self._stop.wait(0.005):
            pass

    # --- migration

    def _migrate(self, snapshot: Snapshot, compute_class: ComputeClassRules) -> bool:
        """Moves the pods of one node that is not of the best priority, or asks for a node for them; one node at a time.

        pkg/defrag: of the pools with candidates one is taken at random (selectBestNodeGroupToScale). Their pods go to any existing node
        that is free; only where there is none does a better priority get a new one (IsExpansionOptionValid).
        """
        pools = [*self._pools_of(compute_class), *self._unnamed(compute_class)]
        now = time.monotonic()
        waiting = {node for node, until in self._stuck_until.items() if until > now}
        candidates = {
            pool.name: nodes
            for pool in pools
            if (nodes := [node for node in migration_candidates(snapshot, compute_class, pool, self._leaving) if node not in waiting])
        }
        if not candidates:
            return False
        name = self._random.choice(sorted(candidates))
        rank = compute_class.rank(name)
        for node in candidates[name]:
            pods = snapshot.pods_on(node)
            if not all(map(is_settled, pods)):
                # Disruption budgets count ready pods, so that nothing would be evicted.
                continue
            if places_for(snapshot, pods, pools, candidates[name]) is not None:
                if self._move(name, node, pods):
                    return True
                continue
            if any(pool.joining.keys() - pool.held for pool in pools):
                # Its place is on its way.
                return False
            target = self._first_with_room(compute_class, pods[0], better_than=rank)
            if target is not None:
                self._grow(target, "ActiveMigration")
                return True
            self._stuck_until[node] = now + self._pools.clock.scaled(_MIGRATION_BACKOFF_SECONDS)
        return False

    def _move(self, pool: str, node: str, pods: list[dict[str, Any]]) -> bool:
        """Closes the node, evicts its pods, and takes it away once they are gone; False where a disruption budget says "not now"."""
        if not all(self._evict(pod, only_asked=True) for pod in pods):
            return False
        self._close(node, True)
        if not all([self._evict(pod) for pod in pods]):
            self._close(node, False)
            return False
        logger.info("autoscaler: empties node %s of pool %s", node, pool)
        self._leaving.add(node)

        def take_away() -> None:
            try:
                self._pools.remove_node(pool, node)
            finally:
                self._leaving.discard(node)

        threading.Thread(target=take_away, name=f"remove-{node}", daemon=True).start()
        return True

    def _close(self, node: str, closed: bool) -> None:
        self._core.patch_node(node, {"spec": {"unschedulable": closed}})

    def _evict(self, pod: dict[str, Any], *, only_asked: bool = False) -> bool:
        """Whether the pod may go; with `only_asked` it stays all the same."""
        metadata = pod["metadata"]
        try:
            self._core.create_namespaced_pod_eviction(
                metadata["name"],
                metadata["namespace"],
                client.V1Eviction(metadata=client.V1ObjectMeta(name=metadata["name"], namespace=metadata["namespace"])),
                **({"dry_run": "All"} if only_asked else {}),
            )
        except ApiException as error:
            if error.status == 429:
                return False
            raise
        if not only_asked:
            self._event(pod, "ScaleDown", "deleting pod for node scale down")
        return True

    # --- down

    def _scale_down(self, snapshot: Snapshot) -> bool:
        now = time.monotonic()
        delays = {each.name: each.consolidation_delay_seconds for each in snapshot.classes}
        pools = [pool for pool in list(self._pools.by_name.values()) if pool.autoscaled]
        unneeded = unneeded_nodes(snapshot, pools, self._leaving)
        self._unneeded_since = {node: self._unneeded_since.get(node, now) for node in unneeded}
        for pool in pools:
            delay = self._pools.clock.scaled(delays.get(pool.compute_class or "", CONSOLIDATION_DELAY_MINUTES * 60.0))
            for node in [each for each in pool.nodes if each in unneeded and now - self._unneeded_since[each] >= delay]:
                if pods := snapshot.pods_on(node):
                    if self._move(pool.name, node, pods):
                        return True
                    continue
                logger.info("autoscaler: takes idle node %s of pool %s away", node, pool.name)
                self._pools.remove_node(pool.name, node)
                return True
        return False

    # --- small parts

    def _pools_of(self, compute_class: ComputeClassRules) -> list[NodePool]:
        """The class's pools that exist, best rule first."""
        with self._pools.lock:
            return [self._pools.by_name[name] for rule in compute_class.rules for name in rule if name in self._pools.by_name]

    def _unnamed(self, compute_class: ComputeClassRules) -> list[NodePool]:
        """Pools that have the class's label, and that no rule names."""
        with self._pools.lock:
            return [
                pool
                for name, pool in sorted(self._pools.by_name.items())
                if pool.compute_class == compute_class.name and compute_class.rank(name) is None
            ]

    def _report(self, settled: bool) -> None:
        if settled != self._settled:
            self._settled = settled
            write_object(self._record, {"settled": settled, "since": time.time()})

    def _write_status(self, compute_class: ComputeClassRules) -> None:
        """The conditions of the class and of its priorities, when they have changed."""
        with self._pools.lock:
            pools = dict(self._pools.by_name)
        for pool in pools.values():
            self._backed_off(pool)
        status = {
            "priorityStatuses": priority_statuses(compute_class.rules, pools, dict(self._backoffs), dict(self._growths)),
            "conditions": class_conditions(compute_class.rules, pools, [pool.name for pool in self._unnamed(compute_class)]),
        }
        known = self._statuses.get(compute_class.uid)
        if known is not None and [timeless(each) for each in known["conditions"]] == [timeless(each) for each in status["conditions"]]:
            status["conditions"] = known["conditions"]
        if known == status:
            return
        self._custom.patch_cluster_custom_object_status("cloud.google.com", "v1", "computeclasses", compute_class.name, {"status": status})
        self._statuses[compute_class.uid] = status

    def _event(self, pod: dict[str, Any], reason: str, message: str, *, kind: str = "Normal") -> None:
        """One event for each (pod, reason, message), as the real component aggregates them."""
        metadata = pod["metadata"]
        now = datetime.now(UTC)
        name = f"{metadata['name']}.{abs(hash((metadata['uid'], reason, message))):x}"[:253]
        body = client.CoreV1Event(
            metadata=client.V1ObjectMeta(name=name, namespace=metadata["namespace"]),
            involved_object=client.V1ObjectReference(
                api_version="v1", kind="Pod", name=metadata["name"], namespace=metadata["namespace"], uid=metadata["uid"]
            ),
            reason=reason,
            message=message,
            type=kind,
            first_timestamp=now,
            last_timestamp=now,
            count=1,
            source=client.V1EventSource(component="cluster-autoscaler"),
        )
        try:
            self._core.create_namespaced_event(metadata["namespace"], body)
        except ApiException as error:
            if error.status != 409:
                logger.info("autoscaler: event %s not written: %s", reason, error.reason)
