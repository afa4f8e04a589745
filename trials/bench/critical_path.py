"""The longest chain of activities that wait for each other. Pure functions: whatever may run at once does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter


@dataclass(frozen=True, kw_only=True)
class Activity:
    """Takes its seconds once every activity in `after` (keys) is over."""

    name: str
    seconds: float
    after: tuple[str, ...] = ()


#: Activities by key.
Graph = Mapping[str, Activity]


@dataclass(frozen=True, kw_only=True)
class Path:
    """Keys in order of time, and the seconds of all of them."""

    keys: tuple[str, ...]
    seconds: float


def finish_times(graph: Graph) -> dict[str, float]:
    """When each activity is over; the first begins at 0. Raises `graphlib.CycleError`."""
    finishes: dict[str, float] = {}
    for key in TopologicalSorter({key: each.after for key, each in graph.items()}).static_order():
        activity = graph[key]
        finishes[key] = max((finishes[each] for each in activity.after), default=0.0) + activity.seconds
    return finishes


def critical_path(graph: Graph) -> Path:
    """The chain that ends last; of several that take equally long, the one whose keys come first."""
    finishes = finish_times(graph)
    chain = [min(graph, key=lambda key: (-finishes[key], key))]
    while after := graph[chain[-1]].after:
        chain.append(min(after, key=lambda each: (-finishes[each], each)))
    return Path(keys=tuple(reversed(chain)), seconds=finishes[chain[0]])
