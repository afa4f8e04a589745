"""The end of a Spot machine: with notice its pods have their time, without it they are gone before anybody knows."""

from __future__ import annotations

import threading
from typing import Any

from sandbox.google.latencies import POD_SECONDS
from sandbox.node_agent.preemption import Preemption


class _Api:
    def __init__(self, told: list[str]) -> None:
        self.patched: list[str] = []
        self._told = told

    def get(self, path: str) -> dict[str, Any]:
        return {"spec": {}}

    def patch(self, path: str, body: dict[str, Any], content_type: str = "") -> None:
        self.patched.append(path)
        for condition in body.get("status", {}).get("conditions", []):
            self._told.append(f"status {condition['status']}")


class _Worker:
    namespace, name = "default", "vllm-1"

    def __init__(self, told: list[str]) -> None:
        self._told = told

    def lost(self) -> None:
        self._told.append("lost")

    def shut_down_with_node(self, grace: float) -> None:
        self._told.append(f"shut down within {grace:g}")


def _preempt(notice: float) -> tuple[list[str], list[str]]:
    """What happened in turn, and what the API server was told."""
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
        silent_seconds=0.01,
        asked_seconds=0.01,
    ).start()
    assert over.wait(10)
    return told, api.patched


def test_with_notice_the_node_says_so_and_its_pods_have_their_share_of_it() -> None:
    told, patched = _preempt(0.05)
    assert told == ["status False", "shut down within 0.05", "spot ends"]
    assert patched == ["/api/v1/nodes/spot", "/api/v1/nodes/spot/status"]
    assert POD_SECONDS == 15


def test_without_notice_its_pods_are_gone_and_nobody_is_told_until_the_node_has_been_silent_for_long() -> None:
    told, patched = _preempt(0)
    assert told == ["lost", "status Unknown", "status False", "spot ends"]
    assert patched == ["/api/v1/nodes/spot/status", "/api/v1/namespaces/default/pods/vllm-1/status"]
