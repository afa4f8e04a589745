"""A small stand-in for GKE's cluster autoscaler: it follows ComputeClasses over the node pools of one cluster.

Four duties: a pending pod of a class gets a node of the first rule with room; a pool below its minimum gets nodes; an idle node
above it goes away; with active migration a replica moves up when a better rule has room, through the eviction API. The real
scheduler places every pod. A pool that got no machine is left alone for a while, and events and the class's status say so
(`scaling_messages`). Left out, and why: the real cluster autoscaler is not published as a module; pods of no
compute class, bin packing of several pods on one new node (a replica here takes a node), and price-based choices.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from kubernetes import client
from kubernetes.client import ApiException
from urllib3.exceptions import HTTPError

from components.catalog.node_labels import COMPUTE_CLASS_LABEL, NODE_POOL_LABEL
from sandbox.gke.node_pool import NodePool, node_labels, node_taints
from sandbox.gke.node_pools import NodePools
from sandbox.gke.scaling_messages import Backoff, Growth, Trigger, failed_scale_up, not_triggered, priority_statuses
from sandbox.google.latencies import LATENCIES
from sandbox.google.stock import OutOfStockError
from sandbox.host.state_files import write_object

logger = logging.getLogger(__name__)

#: A round asks the API server for everything; more often it would take the machine from what it looks at.
_LEAST_PERIOD_SECONDS = 0.5

#: GKE's default of `autoscalingPolicy.consolidationDelayMinutes`.
_CONSOLIDATION_DELAY_MINUTES = 10

#: A pod younger than this may be on its way to a free node.
_SETTLE_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class ComputeClassRules:
    """What the loop needs of a ComputeClass: node pools by rule, best first."""

    name: str
    rules: tuple[tuple[str, ...], ...]
    active_migration: bool
    consolidation_delay_seconds: float
    #: The object's own, since another class may come by the same name.
    uid: str = ""

    @classmethod
    def from_object(cls, body: dict[str, Any]) -> ComputeClassRules:
        spec = body["spec"]
        minutes = (spec.get("autoscalingPolicy") or {}).get("consolidationDelayMinutes", _CONSOLIDATION_DELAY_MINUTES)
        return cls(
            name=body["metadata"]["name"],
            rules=tuple(tuple(rule.get("nodepools") or ()) for rule in spec.get("priorities") or ()),
            active_migration=bool((spec.get("activeMigration") or {}).get("optimizeRulePriority")),
            consolidation_delay_seconds=minutes * 60.0,
            uid=body["metadata"].get("uid", ""),
        )

    def rank(self, pool: str) -> int | None:
        """The index of the pool's rule, 0 the best; None for a pool that no rule names."""
        return self._ranks.get(pool)

    @cached_property
    def _ranks(self) -> dict[str, int]:
        """Looked up for every pool in every round."""
        # Backwards, so that the best of several rules stays.
        return {pool: index for index, pools in reversed(list(enumerate(self.rules))) for pool in pools}


def fits(pod: dict[str, Any], labels: dict[str, str], taints: Iterable[dict[str, str]]) -> bool:
    """Whether a new, empty node with these labels and taints would take the pod, its size left aside."""
    spec = pod["spec"]
    if any(labels.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
        return False
    required = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get("requiredDuringSchedulingIgnoredDuringExecution")
    if required and not any(_term_matches(term, labels) for term in required["nodeSelectorTerms"]):
        return False
    tolerations = spec.get("tolerations") or []
    return all(
        any(_tolerates(toleration, taint) for toleration in tolerations) for taint in taints if taint["effect"] != "PreferNoSchedule"
    )


def _tolerates(toleration: dict[str, str], taint: dict[str, str]) -> bool:
    if toleration.get("effect") not in (None, "", taint["effect"]):
        return False
    if not toleration.get("key"):
        return toleration.get("operator") == "Exists"
    if toleration["key"] != taint["key"]:
        return False
    return toleration.get("operator") == "Exists" or toleration.get("value", "") == taint.get("value", "")


def _term_matches(term: dict[str, Any], labels: dict[str, str]) -> bool:
    checks = {
        "In": lambda value, values: value in values,
        "NotIn": lambda value, values: value not in values,
        "Exists": lambda value, values: value is not None,
        "DoesNotExist": lambda value, values: value is None,
        "Gt": lambda value, values: value is not None and int(value) > int(values[0]),
        "Lt": lambda value, values: value is not None and int(value) < int(values[0]),
    }
    return all(checks[each["operator"]](labels.get(each["key"]), each.get("values") or []) for each in term.get("matchExpressions") or [])


@dataclass(frozen=True)
class _Snapshot:
    """One look at the cluster: plain API objects."""

    classes: tuple[ComputeClassRules, ...]
    nodes: dict[str, dict[str, Any]]
    pods: tuple[dict[str, Any], ...]

    def pods_on(self, node: str) -> list[dict[str, Any]]:
        return [pod for pod in self.pods if pod["spec"].get("nodeName") == node]

    def pending(self, class_name: str) -> list[dict[str, Any]]:
        return [
            pod
            for pod in self.pods
            if not pod["spec"].get("nodeName") and not pod["metadata"].get("deletionTimestamp") and _class_of(pod) == class_name
        ]

    def is_free(self, node: str) -> bool:
        """Ready, schedulable, and no pod on it, not even one that is ending."""
        body = self.nodes.get(node)
        if body is None or body["spec"].get("unschedulable") or self.pods_on(node):
            return False
        conditions = (body.get("status") or {}).get("conditions") or []
        return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def _class_of(pod: dict[str, Any]) -> str | None:
    return (pod["spec"].get("nodeSelector") or {}).get(COMPUTE_CLASS_LABEL)


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
        self._idle_since: dict[str, float] = {}
        self._backoffs: dict[str, Backoff] = {}
        self._growths: dict[str, Growth] = {}
        #: Class uid -> what its status says of the priorities.
        self._statuses: dict[str, list[dict[str, Any]]] = {}
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

    def _look(self) -> _Snapshot:
        classes = self._custom.list_cluster_custom_object("cloud.google.com", "v1", "computeclasses")
        sanitize = self._api.sanitize_for_serialization
        return _Snapshot(
            classes=tuple(ComputeClassRules.from_object(each) for each in classes["items"]),
            nodes={each["metadata"]["name"]: each for each in sanitize(self._core.list_node().items)},
            pods=tuple(
                pod
                for pod in sanitize(self._core.list_pod_for_all_namespaces().items)
                if (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")
            ),
        )

    def _step(self, snapshot: _Snapshot) -> bool:
        """One round; True when there was nothing to do and nothing is under way."""
        acted = False
        for compute_class in snapshot.classes:
            acted = self._scale_up(snapshot, compute_class) or acted
        acted = self._fill_to_minimum() or acted
        # A replica that is just ready stays for a round: whoever waits for it has to see it, too.
        at_rest = {pod["metadata"]["uid"] for pod in snapshot.pods if _is_settled(pod)}
        fresh = bool(at_rest - self._at_rest)
        self._at_rest = at_rest
        if not acted and not fresh and self._growing <= self._held:
            for compute_class in snapshot.classes:
                acted = (compute_class.active_migration and self._migrate(snapshot, compute_class)) or acted
        if not acted:
            acted = self._scale_down(snapshot)
        # A request that Google holds may be for hours, and nothing moves meanwhile.
        joining = any(pool.joining.keys() - pool.held for pool in self._pools.by_name.values())
        busy = joining or self._growing > self._held
        moving = any(not _is_settled(pod) for pod in snapshot.pods)
        return not (acted or busy or moving or fresh)

    # --- up

    def _scale_up(self, snapshot: _Snapshot, compute_class: ComputeClassRules) -> bool:
        pending = [pod for pod in snapshot.pending(compute_class.name) if _is_unschedulable(pod)]
        upcoming = sum(len(pool.joining) for pool in self._pools_of(compute_class) if pool.compute_class == compute_class.name)
        free = sum(snapshot.is_free(node) for pool in self._pools_of(compute_class) for node in pool.nodes if node not in pool.joining)
        for pod in pending[upcoming + free :]:
            pool = self._first_with_room(compute_class, pod)
            if pool is None:
                reasons = [self._why_not(each, pod) or "" for each in self._pools_of(compute_class)]
                self._event(pod, "NotTriggerScaleUp", not_triggered(reasons))
                continue
            size = len(pool.nodes)
            self._event(
                pod,
                "TriggeredScaleUp",
                f"pod triggered scale-up: [{{{pool.name} {size}->{size + 1} (max: {pool.maximum})}}]",
            )
            self._grow(pool, "PodPending", pod)
        return bool(pending)

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
        if not fits(pod, node_labels(pool, node="", zone=pool.zones[0]), node_taints(pool)):
            return "node(s) didn't match Pod's node affinity/selector or had untolerated taint"
        return None

    def _backed_off(self, pool: NodePool) -> bool:
        backoff = self._backoffs.get(pool.name)
        if backoff is not None and time.monotonic() >= backoff.until:
            del self._backoffs[pool.name]
            return False
        return backoff is not None

    def _back_off(self, pool: NodePool, *, out_of_stock: bool) -> None:
        seconds = self._pools.clock.scaled(LATENCIES["stock_out_cool_down"])
        now = datetime.now(UTC)
        self._backoffs[pool.name] = Backoff(
            until=time.monotonic() + seconds,
            since=now,
            ends=now + timedelta(seconds=seconds),
            out_of_stock=out_of_stock,
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

    def _migrate(self, snapshot: _Snapshot, compute_class: ComputeClassRules) -> bool:
        """Moves the worst-placed replica one step; one at a time, and only when every replica is at rest."""
        pods = [pod for pod in snapshot.pods if _class_of(pod) == compute_class.name]
        if any(not _is_settled(pod) for pod in pods):
            return False
        ranked: list[tuple[int, dict[str, Any]]] = []
        for pod in pods:
            node = snapshot.nodes.get(pod["spec"]["nodeName"])
            pool_name = node["metadata"]["labels"].get(NODE_POOL_LABEL, "") if node else ""
            rank = compute_class.rank(pool_name)
            if rank is not None:
                ranked.append((rank, pod))
        for rank, pod in sorted(ranked, key=lambda each: each[0], reverse=True):
            for pool in self._pools_of(compute_class):
                pool_rank = compute_class.rank(pool.name)
                if pool_rank is None or pool_rank >= rank:
                    break
                if any(snapshot.is_free(node) for node in pool.nodes):
                    return self._evict(pod, pool)
            target = self._first_with_room(compute_class, pod, better_than=rank)
            if target is not None:
                self._grow(target, "ActiveMigration")
                return True
        return False

    def _evict(self, pod: dict[str, Any], target: NodePool) -> bool:
        metadata = pod["metadata"]
        try:
            self._core.create_namespaced_pod_eviction(
                metadata["name"],
                metadata["namespace"],
                client.V1Eviction(metadata=client.V1ObjectMeta(name=metadata["name"], namespace=metadata["namespace"])),
            )
        except ApiException as error:
            if error.status == 429:  # a disruption budget says "not now"
                return False
            raise
        logger.info("autoscaler: active migration moves %s up to pool %s", metadata["name"], target.name)
        self._event(pod, "ActiveMigration", f"evicted: node pool {target.name} of a higher priority has room")
        return True

    # --- down

    def _scale_down(self, snapshot: _Snapshot) -> bool:
        now = time.monotonic()
        delays = {each.name: each.consolidation_delay_seconds for each in snapshot.classes}
        default_delay = _CONSOLIDATION_DELAY_MINUTES * 60.0
        for pool in list(self._pools.by_name.values()):
            if not pool.autoscaled:
                continue
            delay = self._pools.clock.scaled(delays.get(pool.compute_class or "", default_delay))
            for node in list(pool.nodes):
                if not snapshot.is_free(node):
                    self._idle_since.pop(node, None)
                    continue
                idle = now - self._idle_since.setdefault(node, now)
                if idle >= delay and len(pool.nodes) > pool.minimum:
                    logger.info("autoscaler: takes idle node %s of pool %s away", node, pool.name)
                    self._pools.remove_node(pool.name, node)
                    self._idle_since.pop(node, None)
                    return True
        return False

    # --- small parts

    def _pools_of(self, compute_class: ComputeClassRules) -> list[NodePool]:
        """The class's pools that exist, best rule first."""
        with self._pools.lock:
            return [self._pools.by_name[name] for rule in compute_class.rules for name in rule if name in self._pools.by_name]

    def _report(self, settled: bool) -> None:
        if settled != self._settled:
            self._settled = settled
            write_object(self._record, {"settled": settled, "since": time.time()})

    def _write_status(self, compute_class: ComputeClassRules) -> None:
        """The conditions of the class's priorities, when they have changed."""
        with self._pools.lock:
            pools = dict(self._pools.by_name)
        for pool in pools.values():
            self._backed_off(pool)
        statuses = priority_statuses(compute_class.rules, pools, dict(self._backoffs), dict(self._growths))
        if self._statuses.get(compute_class.uid) == statuses:
            return
        self._custom.patch_cluster_custom_object_status(
            "cloud.google.com",
            "v1",
            "computeclasses",
            compute_class.name,
            {"status": {"priorityStatuses": statuses}},
        )
        self._statuses[compute_class.uid] = statuses

    def _event(self, pod: dict[str, Any], reason: str, message: str, *, kind: str = "Normal") -> None:
        """One event for each (pod, reason, message), as the real component aggregates them."""
        metadata = pod["metadata"]
        now = datetime.now(UTC)
        name = f"{metadata['name']}.{abs(hash((metadata['uid'], reason, message))):x}"[:253]
        body = client.CoreV1Event(
            metadata=client.V1ObjectMeta(name=name, namespace=metadata["namespace"]),
            involved_object=client.V1ObjectReference(
                api_version="v1",
                kind="Pod",
                name=metadata["name"],
                namespace=metadata["namespace"],
                uid=metadata["uid"],
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


def _is_unschedulable(pod: dict[str, Any]) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(
        each["type"] == "PodScheduled" and each["status"] == "False" and each.get("reason") == "Unschedulable" for each in conditions
    )


def _is_settled(pod: dict[str, Any]) -> bool:
    """Placed, ready, and not on its way out."""
    if pod["metadata"].get("deletionTimestamp") or not pod["spec"].get("nodeName"):
        return False
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
