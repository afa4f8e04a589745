"""A pod's status, as the kubelet derives it from what the containers do."""

from typing import Any

import pytest

from sandbox.node_agent.status import ContainerView, PodView, phase, pod_status

Object = dict[str, Any]


def ended(code: int) -> Object:
    return {"exitCode": code, "reason": "Completed" if code == 0 else "Error"}


def view(name: str = "main", **more: Any) -> ContainerView:
    if more.get("running") or more.get("terminated"):
        more.setdefault("waiting", None)
    return ContainerView(name=name, image="repo:tag", **more)


def running(name: str = "main", *, ready: bool = True, **more: Any) -> ContainerView:
    return view(name, running="2026-01-01T00:00:00Z", started=True, ready=ready, **more)


def pod_view(*containers: ContainerView, policy: str = "Always", **more: Any) -> PodView:
    metadata = {"name": "p", "namespace": "default", "uid": "u", "generation": 1}
    return PodView(
        pod={"metadata": metadata, "spec": {"restartPolicy": policy}, "status": {}},
        containers=containers,
        pod_ip="10.88.0.1",
        host_ip="10.128.0.10",
        start_time="2026-01-01T00:00:00Z",
        **more,
    )


def condition(status: Object, kind: str) -> Object:
    return next(each for each in status["conditions"] if each["type"] == kind)


CRASHED = view(waiting=("CrashLoopBackOff", "back-off"), last_terminated=ended(1), restart_count=3)


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        (pod_view(running(), view("second")), "Pending"),
        (pod_view(running(), running("second")), "Running"),
        (pod_view(running(), CRASHED), "Running"),
        (pod_view(CRASHED), "Running"),
        (pod_view(view(terminated=ended(0))), "Running"),
        (pod_view(view(terminated=ended(0)), policy="OnFailure"), "Succeeded"),
        (pod_view(view(terminated=ended(1)), policy="OnFailure"), "Running"),
        (pod_view(view(terminated=ended(1)), policy="Never"), "Failed"),
        (pod_view(view(terminated=ended(1)), running("second"), policy="Never"), "Running"),
        (pod_view(view(terminated=ended(0)), running("second"), terminating=True), "Running"),
        (pod_view(view(terminated=ended(0)), view("second", terminated=ended(0)), terminating=True), "Succeeded"),
        (pod_view(view(terminated=ended(143)), view("second", terminated=ended(0)), terminating=True), "Failed"),
    ],
)
def test_the_phase_follows_the_containers(view: PodView, expected: str) -> None:
    assert phase(view) == expected


@pytest.mark.parametrize(
    ("view", "reason", "message"),
    [
        (pod_view(running(), running("gpu", ready=False)), "ContainersNotReady", "containers with unready status: [gpu]"),
        (pod_view(view(terminated=ended(0)), policy="Never"), "PodCompleted", None),
        (pod_view(view(terminated=ended(1)), policy="Never"), "PodFailed", None),
    ],
)
def test_a_pod_that_is_not_ready_says_why(view: PodView, reason: str, message: str | None) -> None:
    status = pod_status(view)
    for kind in ("Ready", "ContainersReady"):
        found = condition(status, kind)
        assert (found["status"], found["reason"], found["message"]) == ("False", reason, message)


def test_a_condition_keeps_its_time_until_it_changes() -> None:
    before = {"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2020-01-01T00:00:00Z"}]}
    kept = pod_status(pod_view(running(), previous=before))
    changed = pod_status(pod_view(running(ready=False), previous=before))
    assert condition(kept, "Ready")["lastTransitionTime"] == "2020-01-01T00:00:00Z"
    assert condition(changed, "Ready")["lastTransitionTime"] > "2020-01-01T00:00:00Z"


def test_a_pod_that_its_node_ended_says_why() -> None:
    status = pod_status(pod_view(view(terminated=ended(137)), failure=("Terminated", "node shutdown"), terminating=True))
    assert (status["phase"], status["reason"], status["message"]) == ("Failed", "Terminated", "node shutdown")
