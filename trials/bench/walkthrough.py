"""How long the walkthrough takes that this program replaces: its commands in their order, by the sandbox's table.

Counted in its favour: a person types in no time, what the table has no time for takes none, its `--async` pools are made at once
beside everything else, Cloud Build has a builder at once, and its one pod lands on the pool on which it answers soonest (its
author's landed on the TPU, whose server takes the longest). Like our own `up`: `gcloud builds submit` takes as long as
the table's build and push.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sandbox.gke.node_pool import NodePool
from trials.bench.critical_path import finish_times
from trials.bench.stack_graph import pod_activities, seconds_of


@dataclass(frozen=True, kw_only=True)
class Command:
    """`operations` of the table; a command that does not block returns at once while they go on."""

    text: str
    operations: tuple[str, ...] = ()
    blocks: bool = True


_BUILD = ("image_build", "image_push")
_POOL = "gcloud container node-pools create"

#: As the walkthrough has them; `gcloud builds submit` and `gcloud container clusters create` wait until it is done.
COMMANDS = (
    Command(text="gcloud container clusters create", operations=("cluster_create",)),
    Command(text=f"{_POOL} v6e-1 --async", operations=("node_pool_create", "tpu_node_join"), blocks=False),
    Command(text=f"{_POOL} l4-spot --async", operations=("node_pool_create", "node_join"), blocks=False),
    Command(text=f"{_POOL} l4 --async", operations=("node_pool_create", "node_join"), blocks=False),
    Command(text="kubectl create secret | kubectl apply"),
    Command(text="kubectl apply (ComputeClass)"),
    Command(text="gcloud artifacts repositories create"),
    Command(text="gcloud builds submit (TPU)", operations=_BUILD),
    Command(text="gcloud builds submit (GPU)", operations=_BUILD),
    Command(text="kubectl apply (Deployment and Service)"),
)

#: Its cluster streams images (`--enable-image-streaming`), and its pod has the GPU container first.
_STREAMING = {"gcfsConfig": {"enabled": True}}
_CONTAINERS = ("gpu", "tpu")
POOLS = (
    NodePool(name="v6e-1", inputs={"nodeConfig": {"machineType": "ct6e-standard-1t", **_STREAMING}}, zones=["b"]),
    NodePool(name="l4-spot", inputs={"nodeConfig": {"machineType": "g2-standard-4", **_STREAMING}}, zones=["b"]),
    NodePool(name="l4", inputs={"nodeConfig": {"machineType": "g2-standard-4", **_STREAMING}}, zones=["b"]),
)


@dataclass(frozen=True, kw_only=True)
class Scheduled:
    """`prompt`: when the next command can be typed; `done`: when what it asked for is there."""

    command: Command
    begin: float
    prompt: float
    done: float


def schedule(commands: Sequence[Command] = COMMANDS) -> list[Scheduled]:
    """In seconds of Google's, from the first command on."""
    now, result = 0.0, []
    for command in commands:
        done = now + seconds_of(command.operations)
        prompt = done if command.blocks else now
        result.append(Scheduled(command=command, begin=now, prompt=prompt, done=done))
        now = prompt
    return result


def answered_on(pool: NodePool) -> float:
    """When the first chat is answered if the pod lands on this pool."""
    plan = schedule()
    (joined,) = (each.done for each in plan if each.command.text == f"{_POOL} {pool.name} --async")
    begin = max(plan[-1].prompt, joined)
    return begin + max(finish_times(pod_activities(_CONTAINERS, pool, after=())).values())


def answered() -> tuple[str, float]:
    """The pool on which it answers soonest, and when."""
    pool = min(POOLS, key=answered_on)
    return pool.name, answered_on(pool)
