"""What happened, as a watcher saw it: each replica's way from pending to its end, and events in words.

It is told one snapshot after the other. Left out: what is now (`ops.live.view`), and keeping anything on disk.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Literal

from ops.live.objects import Snapshot, State, is_going, name, seconds, short, state, way
from ops.live.rungs import Rung, rungs

#: Replicas that have ended are shown for so many seconds.
KEPT_SECONDS = 600.0

_MOST_EVENTS = 80

#: What GKE says of a rung again and again, while it tries again, is told once until it was quiet for so many seconds.
_QUIET_SECONDS = 60.0

#: Kubernetes's warnings that only repeat what a replica's own way says.
_QUIET = {"FailedScheduling", "Unhealthy", "NodeNotReady", "FailedScaleUp"}

Tone = Literal["good", "bad", "plain"]


@dataclass(frozen=True, kw_only=True)
class Event:
    at: float
    tone: Tone
    text: str


@dataclass(kw_only=True)
class Life:
    """A replica's way; `rung` is empty until it has a node, `until` is None while it is there."""

    pod: str
    rung: str = ""
    steps: list[tuple[State, float]] = field(default_factory=list)
    until: float | None = None

    @property
    def served(self) -> bool:
        return any(step == "serving" for step, _ in self.steps)


class History:
    """All times are seconds since 1970. `pools` are those of the settings, if known."""

    def __init__(self) -> None:
        self.lives: dict[str, Life] = {}
        self.events: deque[Event] = deque(maxlen=_MOST_EVENTS)
        self._nodes: dict[str, tuple[str, bool]] = {}
        #: (pool, what) -> when GKE last said so.
        self._said: dict[tuple[str, str], float] = {}
        self._told: set[str] = set()
        #: Sentences of one moment, which go into the list in the order of their times.
        self._new: list[Event] = []

    def observe(self, snapshot: Snapshot, now: float) -> None:
        """Takes down what has changed since the last snapshot; the first one tells what its objects remember."""
        self._observe_nodes(snapshot, now)
        self._observe_rungs(rungs(snapshot), now)
        self._observe_pods(snapshot, now)
        self._observe_warnings(snapshot, now)
        self.events.extend(sorted(self._new, key=lambda each: each.at))
        self._new = []

    def _say(self, at: float, tone: Tone, text: str) -> None:
        self._new.append(Event(at=at, tone=tone, text=text))

    def _observe_nodes(self, snapshot: Snapshot, now: float) -> None:
        pools = snapshot.pools_by_node
        there = {name(node): (pools[name(node)], is_going(node)) for node in snapshot.nodes if name(node) in pools}
        made = {name(node): seconds(node["metadata"].get("creationTimestamp")) or now for node in snapshot.nodes}
        for node, (pool, going) in there.items():
            if node not in self._nodes:
                self._say(made[node], "plain", f"Node {short(node)} joined {pool}.")
            if going and not self._nodes.get(node, ("", False))[1]:
                self._say(now, "bad", f"Google takes node {short(node)} of {pool} back, with a notice of seconds.")
        for node, (pool, _) in self._nodes.items():
            if node not in there:
                self._say(now, "plain", f"Node {short(node)} left {pool}.")
        self._nodes = there

    def _observe_rungs(self, there: list[Rung], now: float) -> None:
        for rung in there:
            sentences: tuple[tuple[str, Tone, str], ...] = (
                (rung.short, "bad", f"{rung.name}: {rung.short}."),
                (rung.growing, "plain", f"A node for {rung.name} is on its way: {rung.growing}."),
            )
            for said, tone, text in sentences:
                if said:
                    if self._said.get((rung.name, tone), 0.0) < now - _QUIET_SECONDS:
                        self._say(now, tone, text)
                    self._said[rung.name, tone] = now

    def _observe_pods(self, snapshot: Snapshot, now: float) -> None:
        pools = snapshot.pools_by_node
        for pod in snapshot.pods:
            life = self.lives.setdefault(name(pod), Life(pod=name(pod)))
            life.rung = pools.get(pod["spec"].get("nodeName") or "", life.rung)
            reached = state(pod, served=life.served, going=self._nodes.get(pod["spec"].get("nodeName") or "", ("", False))[1])
            known = {step for step, _ in life.steps}
            for step, at in way(pod):
                if step not in known and step != reached:
                    self._step(life, step, at)
            if not life.steps or life.steps[-1][0] != reached:
                self._step(life, reached, next((at for step, at in way(pod) if step == reached and step not in known), now))
        gone = self.lives.keys() - {name(pod) for pod in snapshot.pods}
        for pod_name in gone:
            life = self.lives[pod_name]
            if life.until is None:
                life.until = now
                self._say(now, "plain", f"Replica {short(pod_name)} has left{f' {life.rung}' if life.rung else ''}.")
            elif life.until < now - KEPT_SECONDS:
                del self.lives[pod_name]

    def _step(self, life: Life, step: State, at: float) -> None:
        if life.steps:
            at = max(at, life.steps[-1][1])
        who, where = f"Replica {short(life.pod)}", life.rung or "a node"
        begun = life.steps[0][1] if life.steps else at
        if step == "pending":
            self._say(at, "plain", f"{who} waits for a node.")
        elif step == "starting":
            self._say(at, "plain", f"{who} starts on {where}{f' after {at - begun:.0f} s of waiting' if at - begun >= 1 else ''}.")
        elif step == "serving":
            self._say(at, "good", f"{who} serves {'again ' if life.served else ''}on {where}, {at - begun:.0f} s after it was made.")
        elif step == "failing":
            self._say(at, "bad", f"{who} on {where} no longer answers its probes.")
        elif step == "draining":
            self._say(at, "plain", f"{who} on {where} drains: it finishes its requests and takes no new ones.")
        else:
            self._say(at, "bad", f"{who} on {where} was ended with its node or by itself.")
        life.steps.append((step, at))

    def _observe_warnings(self, snapshot: Snapshot, now: float) -> None:
        for event in snapshot.events:
            uid = str(event["metadata"].get("uid"))
            if event.get("type") != "Warning" or uid in self._told or event.get("reason") in _QUIET:
                continue
            self._told.add(uid)
            at = seconds(event.get("lastTimestamp") or event.get("eventTime") or event["metadata"].get("creationTimestamp")) or now
            if at > now - KEPT_SECONDS:
                about = short(str((event.get("involvedObject") or {}).get("name", "")))
                self._say(at, "bad", f"Kubernetes of {about}: {event.get('reason')}, {event.get('message')}")
