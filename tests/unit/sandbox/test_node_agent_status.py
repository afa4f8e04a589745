"""A pod's status, as the kubelet derives it from what the containers do."""

from __future__ import annotations

from typing import Any

import pytest

from sandbox.node_agent.status import ContainerKind, ContainerView, PodView, phase, pod_status

Object = dict[str, Any]


def ended(code: int) -> Object:
    return {"exitCode": code, "reason": "Completed" if code == 0 else "Error"}


def view(name: str = "main", kind: ContainerKind = "app", **more: Any) -> ContainerView:
    if more.get("running") or more.get("terminated"):
        more.setdefault("waiting", None)
    return ContainerView(name=name, image="repo:tag", kind=kind, **more)


def running(name: str = "main", kind: ContainerKind = "app", *, ready: bool = True, **more: Any) -> ContainerView:
    return view(name, kind, running="2026-01-01T00:00:00Z", started=True, ready=ready, **more)


def pod_view(*containers: ContainerView, policy: str = "Always", gates: tuple[str, ...] = (), **more: Any) -> PodView:
    conditions = more.pop("conditions", [])
    pod = {
        "metadata": {"name": "p", "namespace": "default", "uid": "u", "generation": 1},
        "spec": {"restartPolicy": policy, "readinessGates": [{"conditionType": each} for each in gates]},
        "status": {"conditions": conditions},
    }
    return PodView(
        pod=pod,
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
    ("containers", "policy", "expected"),
    [
        ([view()], "Always", "Pending"),
        ([running(), view("second")], "Always", "Pending"),
        ([running(), running("second")], "Always", "Running"),
        ([running(), CRASHED], "Always", "Running"),
        ([CRASHED], "Always", "Running"),
        ([view(terminated=ended(0))], "Always", "Running"),
        ([view(terminated=ended(0))], "OnFailure", "Succeeded"),
        ([view(terminated=ended(0))], "Never", "Succeeded"),
        ([view(terminated=ended(1))], "Never", "Failed"),
        ([view(terminated=ended(1))], "OnFailure", "Running"),
        ([view(terminated=ended(1)), running("second")], "Never", "Running"),
        ([view("setup", "init"), view()], "Always", "Pending"),
        ([running("setup", "init"), view()], "Always", "Pending"),
        ([view("setup", "init", terminated=ended(1)), view()], "Never", "Failed"),
        ([view("setup", "init", terminated=ended(1)), view()], "Always", "Pending"),
        ([view("setup", "init", terminated=ended(0)), running()], "Always", "Running"),
        ([running("side", "sidecar"), view()], "Always", "Pending"),
        ([running("side", "sidecar"), running()], "Always", "Running"),
    ],
)
def test_the_phase_follows_the_containers(containers: list[ContainerView], policy: str, expected: str) -> None:
    assert phase(pod_view(*containers, policy=policy)) == expected


def test_a_pod_being_ended_is_running_until_its_last_container_has_ended() -> None:
    assert phase(pod_view(view(terminated=ended(0)), running("second"), terminating=True)) == "Running"
    assert phase(pod_view(view(terminated=ended(0)), view("second", terminated=ended(0)), terminating=True)) == "Succeeded"
    assert phase(pod_view(view(terminated=ended(143)), view("second", terminated=ended(0)), terminating=True)) == "Failed"


def test_a_succeeded_phase_waits_for_the_sidecars_to_end() -> None:
    containers = [view(terminated=ended(0)), running("side", "sidecar")]
    assert phase(pod_view(*containers, policy="Never")) == "Running"
    containers[1] = view("side", "sidecar", terminated=ended(143))
    assert phase(pod_view(*containers, policy="Never")) == "Succeeded"


def test_a_running_container_is_reported_with_all_that_clients_read() -> None:
    status = pod_status(pod_view(running(container_id="containerd://abc", image_id="repo@sha256:1", restart_count=2)))
    assert status["containerStatuses"] == [
        {
            "name": "main",
            "image": "repo:tag",
            "imageID": "repo@sha256:1",
            "containerID": "containerd://abc",
            "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
            "lastState": {},
            "ready": True,
            "started": True,
            "restartCount": 2,
        }
    ]
    assert (status["podIP"], status["podIPs"]) == ("10.88.0.1", [{"ip": "10.88.0.1"}])
    assert (status["hostIP"], status["hostIPs"]) == ("10.128.0.10", [{"ip": "10.128.0.10"}])
    assert status["startTime"] == "2026-01-01T00:00:00Z"
    assert "initContainerStatuses" not in status


def test_a_crashing_container_is_reported_as_waiting_with_its_last_end() -> None:
    (reported,) = pod_status(pod_view(CRASHED))["containerStatuses"]
    assert reported["state"] == {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}
    assert reported["lastState"] == {"terminated": ended(1)}
    assert reported["restartCount"] == 3


def test_init_containers_and_sidecars_are_reported_apart_in_their_order() -> None:
    containers = [view("setup", "init", terminated=ended(0)), running("side", "sidecar"), running()]
    status = pod_status(pod_view(*containers))
    assert [each["name"] for each in status["initContainerStatuses"]] == ["setup", "side"]
    assert [each["name"] for each in status["containerStatuses"]] == ["main"]


def test_a_ready_pod_has_all_conditions_true_and_no_left_over_reason() -> None:
    status = pod_status(pod_view(running()))
    assert {each["type"]: (each["status"], each["reason"], each["message"]) for each in status["conditions"]} == {
        kind: ("True", None, None) for kind in ("PodReadyToStartContainers", "Initialized", "ContainersReady", "Ready")
    }


def test_the_scheduler_s_condition_is_left_to_the_scheduler() -> None:
    assert "PodScheduled" not in {each["type"] for each in pod_status(pod_view(running()))["conditions"]}


def test_unready_containers_are_named_in_the_conditions() -> None:
    status = pod_status(pod_view(running(), running("gpu", ready=False), running("side", "sidecar", ready=False)))
    for kind in ("ContainersReady", "Ready"):
        assert condition(status, kind)["status"] == "False"
        assert condition(status, kind)["reason"] == "ContainersNotReady"
        assert condition(status, kind)["message"] == "containers with unready status: [gpu side]"


def test_init_containers_that_are_not_through_are_named_in_the_conditions() -> None:
    status = pod_status(pod_view(running("setup", "init"), view("later", "init"), view()))
    assert condition(status, "Initialized")["status"] == "False"
    assert condition(status, "Initialized")["message"] == "containers with incomplete status: [setup later]"


@pytest.mark.parametrize(
    ("conditions", "reason"),
    [
        ([], 'corresponding condition of pod readiness gate "lb" does not exist.'),
        ([{"type": "lb", "status": "False"}], 'the status of pod readiness gate "lb" is not "True", but False'),
    ],
)
def test_a_closed_readiness_gate_keeps_the_pod_unready_and_its_containers_ready(conditions: list[Object], reason: str) -> None:
    status = pod_status(pod_view(running(), gates=("lb",), conditions=conditions))
    assert condition(status, "ContainersReady")["status"] == "True"
    assert condition(status, "Ready")["status"] == "False"
    assert condition(status, "Ready")["reason"] == "ReadinessGatesNotReady"
    assert condition(status, "Ready")["message"] == reason


def test_an_open_readiness_gate_lets_the_pod_be_ready() -> None:
    status = pod_status(pod_view(running(), gates=("lb",), conditions=[{"type": "lb", "status": "True"}]))
    assert condition(status, "Ready")["status"] == "True"


@pytest.mark.parametrize(("code", "reason"), [(0, "PodCompleted"), (1, "PodFailed")])
def test_a_finished_pod_is_not_ready_and_says_how_it_finished(code: int, reason: str) -> None:
    status = pod_status(pod_view(view(terminated=ended(code)), policy="Never"))
    for kind in ("Ready", "ContainersReady"):
        assert condition(status, kind)["status"] == "False"
        assert condition(status, kind)["reason"] == reason
    assert condition(status, "PodReadyToStartContainers")["status"] == "False"


def test_a_condition_keeps_its_time_until_it_changes() -> None:
    before = {"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2020-01-01T00:00:00Z"}]}
    kept = pod_status(pod_view(running(), previous=before))
    changed = pod_status(pod_view(running(ready=False), previous=before))
    assert condition(kept, "Ready")["lastTransitionTime"] == "2020-01-01T00:00:00Z"
    assert condition(changed, "Ready")["lastTransitionTime"] > "2020-01-01T00:00:00Z"


def test_a_pod_that_its_node_ended_says_why() -> None:
    failed = pod_view(view(terminated=ended(137)), failure=("DeadlineExceeded", "too long"), terminating=True)
    status = pod_status(failed)
    assert (status["phase"], status["reason"], status["message"]) == ("Failed", "DeadlineExceeded", "too long")
