"""What the bench of a whole `up` computes: critical paths, the stack's graph, the walkthrough's schedule, the ratios."""

from __future__ import annotations

from graphlib import CycleError
from typing import Any

import pytest

from sandbox.gke.node_pool import NodePool
from sandbox.google.latencies import LATENCIES
from trials.bench import up, walkthrough
from trials.bench.critical_path import Activity, critical_path, finish_times
from trials.bench.stack_graph import place, pod_activities, resource_graph, resource_operations, stack_graph

# --- critical paths


def graph(**activities: tuple[float, str]) -> dict[str, Activity]:
    """Name -> seconds and what it waits for, separated by blanks."""
    return {key: Activity(name=key, seconds=seconds, after=tuple(after.split())) for key, (seconds, after) in activities.items()}


DIAMOND = graph(first=(1, ""), long=(5, "first"), short=(2, "first"), last=(1, "long short"), beside=(4, ""))


def test_everything_begins_when_the_last_that_it_waits_for_is_over() -> None:
    assert finish_times(DIAMOND) == {"first": 1, "long": 6, "short": 3, "last": 7, "beside": 4}


def test_the_critical_path_is_the_chain_that_ends_last() -> None:
    path = critical_path(DIAMOND)
    assert path.keys == ("first", "long", "last")
    assert path.seconds == 7


def test_a_circle_is_refused() -> None:
    with pytest.raises(CycleError):
        finish_times(graph(a=(1, "b"), b=(1, "a")))


# --- the stack's graph


def resource(kind: str, name: str, *after: str, inputs: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """`after`: names of what it depends on."""
    known = {"urn": _urn(name), "type": kind, "custom": True, "inputs": inputs or {}}
    return {**known, "dependencies": [_urn(each) for each in after], **more}


def _urn(name: str) -> str:
    return f"urn:pulumi:sandbox::p::t::{name}"


def node_pool(name: str, machine_type: str, **inputs: Any) -> dict[str, Any]:
    config = {"machineType": machine_type, "gcfsConfig": {"enabled": True}}
    given = {"name": name, "nodeLocations": ["b"], "initialNodeCount": 1, "nodeConfig": config, **inputs}
    return resource("gcp:container/nodePool:NodePool", name, "cluster", inputs=given)


def stack(**cluster: Any) -> list[dict[str, Any]]:
    """The program's, without what takes no time and what nothing waits for."""
    containers = [{"name": "vllm-gpu"}, {"name": "vllm-tpu"}]
    return [
        resource("fungibility:index:Cluster", "component", custom=False),
        resource("pulumi:providers:gcp", "gcp"),
        resource("gcp:container/cluster:Cluster", "cluster", inputs=cluster, provider=_urn("gcp") + "::id", parent=_urn("component")),
        resource("pulumi:providers:kubernetes", "kubernetes", "cluster"),
        node_pool("v6e-1", "ct6e-standard-1t"),
        node_pool("l4", "g2-standard-4"),
        resource("docker:index/image:Image", "images-gpu"),
        resource("docker:index/image:Image", "images-tpu"),
        resource(
            "kubernetes:cloud.google.com/v1:ComputeClass",
            "class",
            inputs={"spec": {"priorities": [{"nodepools": ["v6e-1"]}, {"nodepools": ["l4"]}]}},
            provider=_urn("kubernetes") + "::id",
        ),
        resource(
            "kubernetes:apps/v1:Deployment",
            "vllm",
            "class",
            "images-gpu",
            "images-tpu",
            inputs={"spec": {"template": {"spec": {"containers": containers}}}},
            provider=_urn("kubernetes") + "::id",
        ),
    ]


def seconds(*operations: str) -> float:
    return sum(LATENCIES[each] for each in operations)


def test_a_resource_waits_for_its_dependencies_and_its_provider_and_for_no_component() -> None:
    found = resource_graph(stack())
    assert found[_urn("cluster")].after == (_urn("gcp"),)
    assert found[_urn("class")].after == (_urn("kubernetes"),)
    assert found[_urn("vllm")].after == tuple(map(_urn, ("class", "images-gpu", "images-tpu", "kubernetes")))
    assert _urn("component") not in found


def test_a_resource_waits_for_a_parent_that_is_not_a_component() -> None:
    child = resource("gcp:x:Y", "child", parent=_urn("a"))
    assert resource_graph([resource("gcp:x:Y", "a"), child])[_urn("child")].after == (_urn("a"),)


@pytest.mark.parametrize(
    ("given", "operations"),
    [
        (resource("gcp:container/cluster:Cluster", "c"), ("cluster_create",)),
        (resource("gcp:container/cluster:Cluster", "c", inputs={"removeDefaultNodePool": True}), ("cluster_create", "node_pool_delete")),
        (node_pool("p", "ct6e-standard-1t"), ("node_pool_create", "tpu_node_join")),
        (node_pool("p", "g2-standard-4"), ("node_pool_create", "node_join")),
        (node_pool("p", "g2-standard-4", initialNodeCount=0), ("node_pool_create",)),
        (resource("docker:index/image:Image", "i"), ("image_build", "image_push")),
        (resource("kubernetes:core/v1:Secret", "s"), ()),
    ],
)
def test_a_resource_takes_what_the_table_says_of_its_operations(given: dict[str, Any], operations: tuple[str, ...]) -> None:
    assert resource_operations(given) == operations


def test_a_pod_takes_the_best_node_that_is_there_or_else_the_first_that_comes() -> None:
    ready_at = {"best": 30.0, "second": 10.0, "third": 10.0}
    assert place(ready_at, wanted_at=40.0) == "best"
    assert place(ready_at, wanted_at=20.0) == "second"
    assert place(ready_at, wanted_at=5.0) == "second"


def test_images_are_pulled_in_the_pods_order_and_the_server_waits_for_its_own() -> None:
    pool = NodePool(name="v6e-1", inputs={"nodeConfig": {"machineType": "ct6e-standard-1t"}}, zones=["b"])
    pull, start = LATENCIES["image_pull"], LATENCIES["tpu_server_start"]
    assert finish_times(pod_activities(["gpu", "tpu"], pool, after=())) == {
        "pull-gpu": pull,
        "pull-tpu": 2 * pull,
        "server": 2 * pull + start,
    }
    first = finish_times(pod_activities(["tpu", "gpu"], pool, after=()))
    assert first["server"] == pull + start


def test_the_whole_up_ends_with_the_pods_server_or_with_what_takes_longer() -> None:
    # Both images and a node there before the best pool's: the L4 answers, and is not waited for by the pools.
    found = stack_graph(stack(removeDefaultNodePool=True))
    assert found.pool == "l4"
    path = critical_path(found.activities)
    assert path.seconds == seconds("image_build", "image_push", "image_pull_streamed", "gpu_server_start")


def test_images_in_turn_take_their_sum_and_then_the_best_pool_is_there() -> None:
    found = stack_graph(up.builds_in_turn(stack()))
    assert found.pool == "v6e-1"
    builds = 2 * seconds("image_build", "image_push")
    assert critical_path(found.activities).seconds == builds + 2 * LATENCIES["image_pull_streamed"] + seconds("tpu_server_start")


def test_a_stack_whose_pods_wait_for_the_autoscaler_is_refused() -> None:
    without = [each for each in stack() if not each["type"].endswith(":NodePool")]
    with pytest.raises(ValueError, match="no pool of the ComputeClass has a node from the start"):
        stack_graph(without)


# --- the walkthrough


def test_asynchronous_commands_return_at_once_and_continue() -> None:
    plan = {each.command.text: each for each in walkthrough.schedule()}
    cluster = plan["gcloud container clusters create"]
    pool = plan["gcloud container node-pools create v6e-1 --async"]
    assert cluster.prompt == cluster.done == LATENCIES["cluster_create"]
    assert pool.begin == pool.prompt == cluster.done
    assert pool.done == pool.begin + seconds("node_pool_create", "tpu_node_join")


def test_builds_wait_for_each_other_and_the_server_for_both() -> None:
    plan = walkthrough.schedule()
    assert [each.command.text for each in plan][-1] == "kubectl apply (Deployment and Service)"
    assert plan[-1].begin == LATENCIES["cluster_create"] + 2 * seconds("image_build", "image_push")


def test_by_hand_the_pod_lands_where_it_answers_soonest() -> None:
    pool, answered = walkthrough.answered()
    assert pool == "l4-spot"
    assert answered == walkthrough.schedule()[-1].prompt + seconds("image_pull_streamed", "gpu_server_start")
    assert answered < walkthrough.answered_on(walkthrough.POOLS[0])


# --- the figures


def test_figures_are_ratios_of_one_clock_and_the_lines_name_the_path() -> None:
    path = critical_path(stack_graph(stack()).activities).seconds
    _, by_hand = walkthrough.answered()
    runs = [
        up.Run(seconds=path * factor, answered_at=path, first_resource_at=path / 100, pool="l4", resources=stack())
        for factor in (1.02, 1.06)
    ]
    found = up.findings(runs, 4.0)
    own, hand = found.figures
    assert own.samples == pytest.approx([1.02, 1.06])
    assert own.reached
    assert hand.samples == pytest.approx([by_hand / path / 1.02, by_hand / path / 1.06])
    assert hand.higher_is_better
    assert "images-gpu (Image) 870 s" in found.lines[0]
    assert "The program's first resource began after 1.0% of the critical path." in found.lines
