"""The longest chain of what waits for what in a graph of activities, and how much room everything else has.

Pure functions. An activity takes its seconds after everything that it waits for is over; whatever may run at once does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter


@dataclass(frozen=True, kw_only=True)
class Activity:
    """`after`: keys of the activities that it waits for."""

    name: str
    seconds: float
    after: tuple[str, ...] = ()


#: Activities by key.
Graph = Mapping[str, Activity]


@dataclass(frozen=True, kw_only=True)
class Path:
    """Keys in the order of time, and the seconds of all of them."""

    keys: tuple[str, ...]
    seconds: float


def finish_times(graph: Graph) -> dict[str, float]:
    """When each activity is over, the first of all beginning at 0. Raises `graphlib.CycleError`."""
    finishes: dict[str, float] = {}
    for key in TopologicalSorter({key: each.after for key, each in graph.items()}).static_order():
        activity = graph[key]
        finishes[key] = max((finishes[each] for each in activity.after), default=0.0) + activity.seconds
    return finishes


def critical_path(graph: Graph) -> Path:
    """The chain that ends last; of several that are as long, the one whose keys come first."""
    finishes = finish_times(graph)
    last = min(graph, key=lambda key: (-finishes[key], key))
    return Path(keys=_chain_to(graph, finishes, last), seconds=finishes[last])


def longest_paths(graph: Graph) -> Iterator[Path]:
    """The critical path, then the longest chain through something that takes time and was on none before, and so on.

    What a chain has less than the critical path is its slack: so much longer may it get before anybody notices.
    """
    finishes, tails = finish_times(graph), _tails(graph)
    path = critical_path(graph)
    seen: set[str] = set()
    while True:
        yield path
        seen.update(path.keys)
        others = [key for key, each in graph.items() if each.seconds > 0 and key not in seen]
        if not others:
            return
        # Of two on one chain, the first: the rest of the chain follows from it.
        widest = min(others, key=lambda key: (-(finishes[key] + tails[key]), finishes[key], key))
        before = _chain_to(graph, finishes, widest)
        path = Path(keys=(*before, *_chain_from(graph, tails, widest)), seconds=finishes[widest] + tails[widest])


def _chain_to(graph: Graph, finishes: Mapping[str, float], key: str) -> tuple[str, ...]:
    chain = [key]
    while after := graph[chain[-1]].after:
        chain.append(min(after, key=lambda each: (-finishes[each], each)))
    return tuple(reversed(chain))


def _tails(graph: Graph) -> dict[str, float]:
    """The seconds of the longest chain that waits for each activity."""
    tails = dict.fromkeys(graph, 0.0)
    for key in reversed(list(TopologicalSorter({key: each.after for key, each in graph.items()}).static_order())):
        for each in graph[key].after:
            tails[each] = max(tails[each], tails[key] + graph[key].seconds)
    return tails


def _chain_from(graph: Graph, tails: Mapping[str, float], key: str) -> list[str]:
    chain: list[str] = []
    while True:
        followers = [each for each, activity in graph.items() if key in activity.after]
        if not followers:
            return chain
        key = min(followers, key=lambda each: (-(graph[each].seconds + tails[each]), each))
        chain.append(key)
