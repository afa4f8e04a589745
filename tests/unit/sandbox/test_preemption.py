"""The end of a Spot machine: with notice its pods have their time, without it they are gone before the cluster knows."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from sandbox.google.latencies import POD_SECONDS
from sandbox.node_agent import preemption
from sandbox.node_agent.preemption import Preemption


class _Api:
    """Reports the node as ready a few times, and then as the controller manager does when it has missed the heartbeats."""

    def __init__(self, told: list[str]) -> None:
        self._told = told
        self._ready = 3

    def get(self, path: str) -> dict[str, Any]:
        self._ready -= 1
        return {"spec": {}, "status": {"conditions": [{"type": "Ready", "status": "True" if self._ready > 0 else "Unknown"}]}}

    def patch(self, path: str, body: dict[str, Any], content_type: str = "") -> None:
        self._told += [each["key"] for each in body.get("spec", {}).get("taints", [])]
        self._told += [f"{path}: {each['type']} {each['status']}" for each in body.get("status", {}).get("conditions", [])]


class _Worker:
    def __init__(self, told: list[str]) -> None:
        self._told = told

    def lost(self) -> None:
        self._told.append("lost")

    def shut_down_with_node(self, grace: float) -> None:
        self._told.append(f"shut down within {grace:g}")


@pytest.mark.parametrize(
    ("notice", "expected"),
    [
        (0.05, [
            "cloud.google.com/impending-node-termination", "/api/v1/nodes/spot/status: Ready False", "shut down within 0.05", "spot ends",
        ]),
        (0, ["lost", "spot ends"]),
    ],
)  # fmt: skip
def test_what_is_told_before_the_machine_ends(notice: float, expected: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preemption, "_LOOK_SECONDS", 0.01)
    told: list[str] = []
    api, over = _Api(told), threading.Event()

    def machine_ends(node: str) -> None:
        told.append(f"{node} ends")
        over.set()

    Preemption(
        api,  # type: ignore[arg-type]
        "spot",
        notice=notice,
        workers=lambda: [_Worker(told)],  # type: ignore[list-item]
        machine_ends=machine_ends,
        asked_seconds=0.01,
    ).start()
    assert over.wait(10)
    assert told == expected
    assert POD_SECONDS == 15
