"""The one document that the page and the terminal show, as JSON types: rungs, replicas' ways, totals and events. A pure function.

Times are seconds since 1970, prices USD an hour, latencies seconds; None is not known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from components.catalog.node_labels import NODE_POOL_LABEL
from ops.live.history import History, Life
from ops.live.meter import Load, Meter
from ops.live.objects import Object, Snapshot, is_going, is_ready, label, name, short
from ops.live.rungs import Pool, Rung, rungs

#: State of replicas -> what a badge says of `count` of them.
_BADGES = {"serving": "serving", "failing": "not answering", "draining": "draining", "starting": "starting"}

#: Events that say why a pod waits: the autoscaler's, then the scheduler's.
_WHY_PENDING = ("FailedScaleUp", "NotTriggerScaleUp", "TriggeredScaleUp", "FailedScheduling")


def view(
    snapshot: Snapshot, history: History, meter: Meter, now: float, declared: Sequence[Pool] = (), supply: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """`supply`: in a sandbox, the pools whose machines are not in stock (`out` or `hold`)."""
    lives = {life.pod: life for life in history.lives.values() if life.until is None}
    shown = [_rung(rung, snapshot, lives, meter, now, (supply or {}).get(rung.name, "in")) for rung in rungs(snapshot, declared)]
    serving = [life.pod for life in lives.values() if _state(life) == "serving"]
    total = meter.load(serving, now)
    costs = [rung["usd"] for rung in shown if rung["nodes"]]
    return {
        "now": now,
        "replicas": {"wanted": (snapshot.deployment.get("spec") or {}).get("replicas"), "serving": len(serving)},
        "rungs": shown,
        "waiting": [_waits(life, snapshot) for life in lives.values() if _state(life) == "pending"],
        "total": {**_load(total), "usd": None if None in costs else sum(costs)},
        "ways": [_way(life, now) for life in sorted(history.lives.values(), key=lambda each: (each.steps[0][1], each.pod))],
        "events": [{"at": each.at, "tone": each.tone, "text": each.text} for each in sorted(history.events, key=lambda each: each.at)],
    }


def _state(life: Life) -> str:
    return life.steps[-1][0]


def _rung(rung: Rung, snapshot: Snapshot, lives: Mapping[str, Life], meter: Meter, now: float, supply: str) -> dict[str, Any]:
    here = [life for life in lives.values() if life.rung == rung.name and _state(life) not in ("pending", "ended")]
    places = {name(pod): pod["spec"].get("nodeName") for pod in snapshot.pods}
    nodes = [_node(node, here, places) for node in snapshot.nodes if label(node, NODE_POOL_LABEL) == rung.name]
    badges = [
        {"kind": kind, "text": f"{count} {text}"} for kind, text in _BADGES.items() if (count := sum(_state(life) == kind for life in here))
    ]
    if going := sum(node["going"] for node in nodes):
        badges.append({"kind": "going", "text": f"{going} taken back by Google"})
    if idle := sum(node["ready"] and not node["going"] and not node["pods"] for node in nodes):
        badges.append({"kind": "idle", "text": f"{idle} idle"})
    if rung.growing:
        badges.append({"kind": "growing", "text": f"node on its way: {rung.growing}"})
    if rung.short or supply != "in":
        words = {"in": rung.short, "out": rung.short or "out of stock", "hold": "requests for machines are held"}
        badges.append({"kind": "short", "text": words[supply]})
    if not rung.enabled:
        badges.append({"kind": "off", "text": "out of service (enabled: false)"})
    return {
        "name": rung.name,
        "machine": rung.pool.machine_type,
        "provisioning": rung.pool.provisioning,
        "supply": supply,
        "usd_each": rung.pool.usd,
        "usd": None if rung.pool.usd is None else rung.pool.usd * len(nodes),
        "nodes": nodes,
        "badges": badges or [{"kind": "empty", "text": "no node: nothing asks for one"}],
        **_load(meter.load([life.pod for life in here if _state(life) == "serving"], now)),
    }


def _node(node: Object, here: Sequence[Life], places: Mapping[str, str | None]) -> dict[str, Any]:
    return {
        "name": name(node),
        "short": short(name(node)),
        "ready": is_ready(node),
        "going": is_going(node),
        "pods": [
            {"name": life.pod, "short": short(life.pod), "state": _state(life)} for life in here if places.get(life.pod) == name(node)
        ],
    }


def _load(load: Load | None) -> dict[str, Any]:
    if load is None:
        return {"requests": None, "running": None, "queued": None, "first_token": None}
    return {"requests": load.requests_a_second, "running": load.running, "queued": load.waiting, "first_token": load.first_token}


def _waits(life: Life, snapshot: Snapshot) -> dict[str, Any]:
    said = {
        event.get("reason"): event.get("message")
        for event in snapshot.events
        if (event.get("involvedObject") or {}).get("name") == life.pod
    }
    why = next((said[reason] for reason in _WHY_PENDING if said.get(reason)), "")
    return {"pod": life.pod, "short": short(life.pod), "since": life.steps[0][1], "why": why}


def _way(life: Life, now: float) -> dict[str, Any]:
    """A replica's strip: the last segment ends with the replica, or now."""
    ends = [*(at for _, at in life.steps[1:]), life.until or now]
    segments = [{"state": step, "since": at, "until": max(at, end)} for (step, at), end in zip(life.steps, ends, strict=True)]
    return {"pod": life.pod, "short": short(life.pod), "rung": life.rung, "there": life.until is None, "segments": segments}
