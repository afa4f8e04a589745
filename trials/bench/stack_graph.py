"""The graph of an `up`: every resource of a stack as `pulumi stack export` tells it, and the pod behind its service.

Times are those of the sandbox's table (`sandbox.google.latencies`); what is not in it takes none. A resource waits for its dependencies,
for its provider, and for its parent unless that is a component; node pools of one cluster come at once, as the real provider
makes them (it locks the cluster for reading only: terraform-provider-google, resource_container_node_pool.go). The pod is what no
resource says: it waits for the Deployment's dependencies and a node, pulls its images one after the other as the kubelet
does, and starts its server.

Left out: other workloads than the service's Deployment, pods that wait for a node that only the autoscaler brings, and
moves to a better pool once the service is up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sandbox.gke.node_pool import NodePool
from sandbox.google.latencies import LATENCIES
from sandbox.providers.docker import IMAGE
from sandbox.providers.gcp_kinds import CLUSTER, NODE_POOL
from trials.bench.critical_path import Activity, Graph, finish_times

DEPLOYMENT = "kubernetes:apps/v1:Deployment"
COMPUTE_CLASS = "kubernetes:cloud.google.com/v1:ComputeClass"

#: The key of the end: everything is there, and the server answers.
ANSWER = "answer"
_SERVER = "server"

#: Accelerator of a container -> the operation that its server's start is.
_SERVER_START = {"tpu": "tpu_server_start", "gpu": "gpu_server_start"}

Resource = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class StackGraph:
    activities: Graph
    #: The node pool on which the first pod starts, by the table.
    pool: str


def resource_operations(resource: Resource) -> tuple[str, ...]:
    """The operations of the table that the resource's creation is made of."""
    inputs = resource.get("inputs") or {}
    kind = resource["type"]
    if kind == CLUSTER:
        return ("cluster_create", *(("node_pool_delete",) if inputs.get("removeDefaultNodePool") else ()))
    if kind == NODE_POOL:
        pool = _pool(resource)
        return ("node_pool_create", *((node_join(pool),) if pool.initial_size else ()))
    if kind == IMAGE:
        return ("image_build", "image_push")
    return ()


def node_join(pool: NodePool) -> str:
    return "tpu_node_join" if pool.tpu_chips else "node_join"


def seconds_of(operations: Sequence[str]) -> float:
    return sum(LATENCIES[each] for each in operations)


def resource_graph(resources: Sequence[Resource]) -> dict[str, Activity]:
    """What waits for what among the resources, by URN."""
    custom = {each["urn"] for each in resources if each.get("custom")}
    graph = {}
    for each in resources:
        if each["urn"] not in custom:
            continue
        # A provider's reference ends in its id.
        provider = str(each.get("provider") or "").rpartition("::")[0]
        wanted = [*(each.get("dependencies") or []), provider, each.get("parent")]
        after = tuple(dict.fromkeys(urn for urn in wanted if urn in custom))
        graph[each["urn"]] = Activity(name=_name(each), seconds=seconds_of(resource_operations(each)), after=after)
    return graph


def stack_graph(resources: Sequence[Resource]) -> StackGraph:
    """The whole `up`. Raises `ValueError` for a stack without the service's Deployment or without a first node for it."""
    graph = resource_graph(resources)
    deployment = _only(resources, DEPLOYMENT)
    pools = {str(each["inputs"]["name"]): each for each in resources if each["type"] == NODE_POOL}
    ranked = [
        str(name)
        for rule in _only(resources, COMPUTE_CLASS)["inputs"]["spec"]["priorities"]
        for name in rule["nodepools"]
        if name in pools and _pool(pools[name]).initial_size
    ]
    if not ranked:
        raise ValueError("no pool of the ComputeClass has a node from the start, so no pod runs without the autoscaler")
    finishes = finish_times(graph)
    wanted_at = max(finishes[each] for each in graph[deployment["urn"]].after)
    name = place({name: finishes[pools[name]["urn"]] for name in ranked}, wanted_at)
    pool = _pool(pools[name])
    node_ready = (*graph[deployment["urn"]].after, pools[name]["urn"])
    pod = pod_activities(_containers(deployment), pool, after=node_ready)
    graph |= pod
    # The provider waits until the pod is ready.
    graph[deployment["urn"]] = replace(graph[deployment["urn"]], after=(*graph[deployment["urn"]].after, *pod))
    graph[ANSWER] = Activity(name="the first answer", seconds=0.0, after=tuple(graph))
    return StackGraph(activities=graph, pool=name)


def place(ready_at: Mapping[str, float], wanted_at: float) -> str:
    """The pool, of those given best first, on whose node a pod runs that comes at `wanted_at`.

    The scheduler prefers the better of the nodes that are there (the pods' weighted affinity); where none is, the first
    that comes is taken.
    """
    there = [name for name, at in ready_at.items() if at <= wanted_at]
    return there[0] if there else min(ready_at, key=lambda name: ready_at[name])


def pod_activities(containers: Sequence[str], pool: NodePool, *, after: tuple[str, ...]) -> dict[str, Activity]:
    """From a node that is there to a server that answers. `containers`: accelerators, in the pod's order."""
    kind = "tpu" if pool.tpu_chips else "gpu"
    pull = LATENCIES["image_pull_streamed" if pool.streams_images else "image_pull"]
    activities: dict[str, Activity] = {}
    for accelerator in containers:
        key = f"pull-{accelerator}"
        activities[key] = Activity(name=f"pull of the {accelerator} image on {pool.name}", seconds=pull, after=after)
        if accelerator == kind:
            name = f"server's start on {pool.name}"
            activities[_SERVER] = Activity(name=name, seconds=LATENCIES[_SERVER_START[kind]], after=(key,))
        # The next one is pulled when this one has been started.
        after = (key,)
    return activities


def _containers(deployment: Resource) -> list[str]:
    """Accelerators, from names such as vllm-tpu."""
    spec = deployment["inputs"]["spec"]["template"]["spec"]
    return [str(each["name"]).rpartition("-")[2] for each in spec["containers"]]


def _pool(resource: Resource) -> NodePool:
    inputs = resource["inputs"]
    # The system pool names no zones: a regional cluster's three, of which a node joins in each at once.
    return NodePool(name=inputs["name"], inputs=inputs, zones=list(inputs.get("nodeLocations") or ["", "", ""]))


def _only(resources: Sequence[Resource], kind: str) -> Resource:
    found = [each for each in resources if each["type"] == kind]
    if len(found) != 1:
        raise ValueError(f"the stack has {len(found)} of {kind}, and 1 was to be looked at")
    return found[0]


def _name(resource: Resource) -> str:
    return f"{resource['urn'].rpartition('::')[2]} ({resource['type'].rpartition(':')[2]})"
