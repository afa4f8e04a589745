"""Which nodes GKE's autoscaler would empty and take away, by its published code; pure functions of one look at the cluster.

Source: GoogleCloudPlatform/cluster-autoscaler at 7d250507 (August 2026). Paths below `pkg/defrag` are that repository's; `pkg/core` and
`pkg/simulator` are those of kubernetes/autoscaler, which it imports. Left out: resource quotas, nodes of no ComputeClass, daemon pods, and
empty nodes of active migration, which go with the rest of the idle ones (GKE's value of --defrag-scale-down-delay is not published).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sandbox.gke.cluster_view import ComputeClassRules, Snapshot, device_requests, fits
from sandbox.gke.node_pool import NodePool, node_allocatable, node_labels, node_taints

#: Nodes whose use is above it stay: the autoscaler's --scale-down-gpu-utilization-threshold (`pkg/config`), which a class may override.
UTILISATION_THRESHOLD = 0.5

_SAFE_TO_EVICT = "cluster-autoscaler.kubernetes.io/safe-to-evict"
_ACCELERATORS = ("google.com/tpu", "nvidia.com/gpu")

#: Node -> a free node for each of its pods, by name; empty for a node without pods.
Removable = Mapping[str, Sequence[str]]


def spare_nodes(pool: NodePool, leaving: Iterable[str] = ()) -> int:
    """How many nodes the pool may lose.

    Neither active migration (`pkg/defrag/processor/node_filter.go`, filterNodesViolatingMinSize) nor scale-down
    (`pkg/processors/nodes/pre_filtering_processor.go`) takes a node of a pool that is at its minimum, whatever runs on it.
    """
    return max(0, len(pool.nodes) - len(set(leaving) & set(pool.nodes)) - pool.minimum)


def utilisation(pods: Iterable[Mapping[str, Any]], accelerators: int) -> float:
    """On a node with accelerators their requests alone count (`pkg/simulator/utilization/info.go`); no request, no use."""
    asked = sum(device_requests(pod)[each] for pod in pods for each in _ACCELERATORS)
    return asked / accelerators if accelerators else 0.0


def migration_candidates(snapshot: Snapshot, compute_class: ComputeClassRules, pool: NodePool, leaving: Iterable[str]) -> list[str]:
    """Nodes of the pool with pods that active migration would move to a better priority.

    `pkg/defrag/plugins/highprioritymigration/high_priority_migration.go`: every node of a pool that the first rule does not name (of a pool
    out of service, which none names, too), unless the node is not ready (isCandidateNodeValid) or one of its pods must not be evicted
    (hasBlockingPods).
    """
    if not compute_class.active_migration or compute_class.rank(pool.name) == 0:
        return []
    candidates = [
        node for node in pool.nodes if snapshot.is_usable(node) and (pods := snapshot.pods_on(node)) and not any(map(_stays, pods))
    ]
    return candidates[: spare_nodes(pool, leaving)]


def places_for(snapshot: Snapshot, pods: Sequence[Mapping[str, Any]], pools: Iterable[NodePool], taken: Iterable[str]) -> list[str] | None:
    """A free node for each pod, None without one: `pkg/defrag/processor/simulation.go` takes any existing node, whatever its priority.

    A pod can so be moved to a lower rung; only for new nodes does the priority count.
    """
    places: list[str] = []
    free = [(pool, node) for pool in pools for node in pool.nodes if node not in set(taken) and snapshot.is_free(node)]
    for pod in pods:
        place = next((node for pool, node in free if node not in places and takes(pool, node, pod)), None)
        if place is None:
            return None
        places.append(place)
    return places


def unneeded_nodes(snapshot: Snapshot, pools: Sequence[NodePool], leaving: Iterable[str]) -> Removable:
    """Nodes that scale-down would take once they have been unneeded for the consolidation delay, the empty ones first.

    `pkg/core/scaledown/planner/planner.go`: a node is unneeded when its use is not above the threshold and its pods fit on other nodes;
    an unneeded node is not a place to move to. So a warm node, which its pool's minimum keeps, always is one.
    """
    spare = {pool.name: spare_nodes(pool, leaving) for pool in pools}
    found: dict[str, Sequence[str]] = {}
    taken: set[str] = set()
    nodes = [(pool, node, snapshot.pods_on(node)) for pool in pools for node in pool.nodes if snapshot.is_usable(node)]
    for pool, node, pods in sorted(nodes, key=lambda each: bool(each[2])):
        if not spare[pool.name] or node in taken or any(map(_stays, pods)):
            continue
        if utilisation(pods, _accelerators(pool)) > UTILISATION_THRESHOLD:
            continue
        places = places_for(snapshot, pods, pools, {node, *found, *taken})
        if places is not None:
            found[node] = places
            taken |= set(places)
            spare[pool.name] -= 1
    return found


def _stays(pod: Mapping[str, Any]) -> bool:
    """`safe-to-evict: "false"` stops consolidation and active migration alike (`pkg/simulator/drainability/rules`)."""
    return bool((pod["metadata"].get("annotations") or {}).get(_SAFE_TO_EVICT) == "false")


def takes(pool: NodePool, node: str, pod: Mapping[str, Any]) -> bool:
    """Whether an empty node of the pool takes the pod."""
    return fits(dict(pod), node_labels(pool, node=node, zone=pool.zones[0]), node_taints(pool), node_allocatable(pool))


def _accelerators(pool: NodePool) -> int:
    return pool.tpu_chips or sum(int(each.get("count", 1)) for each in pool.config.get("guestAccelerators") or [])
