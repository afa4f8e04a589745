"""When the kubernetes stand-in takes an object for live, and what it says while it is not."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from kubernetes.client.rest import ApiException

from sandbox.providers import kubernetes_await as ka
from sandbox.providers.kubernetes_await import REVISION, Sighting, Verdict, Wait, WaitError
from sandbox.providers.kubernetes_client import ClusterClient, ClusterUnreachableError, CredentialsError, KubernetesApiError

UNSCHEDULABLE = "0/3 nodes are available: 3 Insufficient google.com/tpu."


def meta(name: str, *, owner: str | None = None, revision: str | None = None, **extra: Any) -> dict[str, Any]:
    result: dict[str, Any] = {"name": name, "namespace": "default", "uid": f"uid-{name}", **extra}
    if owner:
        result["ownerReferences"] = [{"uid": f"uid-{owner}"}]
    if revision:
        result["annotations"] = {REVISION: revision}
    return result


def a_deployment(
    *, available: bool = True, progressing: tuple[str, str] = ("True", "NewReplicaSetAvailable"), observed: int = 2, revision: str = "2"
) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": meta("web", revision=revision, generation=2),
        "spec": {"selector": {"matchLabels": {"app": "web"}}},
        "status": {
            "observedGeneration": observed,
            "conditions": [
                {
                    "type": "Available",
                    "status": str(available),
                    "reason": "MinimumReplicasUnavailable",
                    "message": "Deployment does not have minimum availability.",
                },
                {"type": "Progressing", "status": progressing[0], "reason": progressing[1], "message": "slow"},
            ],
        },
    }


def a_replica_set(*, revision: str = "2", wanted: int = 2, ready: int = 2) -> dict[str, Any]:
    return {
        "metadata": meta(f"web-{revision}", owner="web", revision=revision),
        "spec": {"replicas": wanted},
        "status": {"readyReplicas": ready} if ready else {},
    }


def a_pod(*conditions: dict[str, Any], owner: str = "web-2", containers: Any = ()) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": meta("web-2-abc", owner=owner),
        "status": {"phase": "Pending", "conditions": list(conditions), "containerStatuses": list(containers)},
    }


UNSCHEDULED = a_pod({"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": UNSCHEDULABLE})


# --- Deployment


ROLLING = ("True", "ReplicaSetUpdated")


@pytest.mark.parametrize(
    ("live", "replica_sets", "ready"),
    [
        (a_deployment(), [a_replica_set()], True),
        # A first rollout needs no report of its completion.
        (a_deployment(progressing=ROLLING, revision="1"), [a_replica_set(revision="1")], True),
        (a_deployment(observed=1), [a_replica_set()], False),
        (a_deployment(available=False), [a_replica_set()], False),
        (a_deployment(progressing=ROLLING), [a_replica_set()], False),
        (a_deployment(), [a_replica_set(ready=1)], False),
        (a_deployment(), [a_replica_set(revision="1")], False),
        (a_deployment(), [], False),
    ],
)
def test_a_deployment_is_live_once_nothing_is_missing(live: dict[str, Any], replica_sets: list[dict[str, Any]], ready: bool) -> None:
    assert ka.deployment(Sighting(live, replica_sets=replica_sets)).ready is ready


def test_a_stalled_rollout_is_reported_with_the_schedulers_message_and_still_awaited() -> None:
    stalled = a_deployment(available=False, progressing=("False", "ProgressDeadlineExceeded"))
    verdict = ka.deployment(Sighting(stalled, replica_sets=[a_replica_set(ready=0)], pods=[UNSCHEDULED]))
    assert not verdict.ready
    assert "[ProgressDeadlineExceeded] slow" in verdict.reasons
    assert f"[Pod web-2-abc]: {UNSCHEDULABLE}" in verdict.reasons
    assert verdict.progress == "Waiting for app ReplicaSet to be available (0/2 Pods available)"


def test_pods_of_earlier_rollouts_are_not_blamed() -> None:
    verdict = ka.deployment(
        Sighting(
            a_deployment(available=False),
            replica_sets=[a_replica_set(ready=0), a_replica_set(revision="1")],
            pods=[{**UNSCHEDULED, "metadata": meta("old", owner="web-1")}],
        )
    )
    assert not any("nodes are available" in reason for reason in verdict.reasons)


# --- pods


def test_a_waiting_and_a_crashed_container_give_their_reasons() -> None:
    broken = a_pod(
        {"type": "Ready", "status": "False", "message": "containers with unready status: [a b]"},
        containers=[
            {"name": "a", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}},
            {
                "name": "b",
                "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}},
                "lastState": {"terminated": {"reason": "Error", "exitCode": 3, "finishedAt": "then"}},
            },
            {"name": "c", "ready": True, "state": {"running": {}}},
        ],
    )
    (message,) = ka.pod_messages(broken)
    assert 'container "a": [ImagePullBackOff] no such image' in message
    assert 'container "b" terminated at then (Error: exit code 3)' in message
    assert '"c"' not in message


# --- Service


def a_service(*, kind: str = "LoadBalancer", address: bool = True, selector: bool = True) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": meta("web"),
        "spec": {"type": kind, **({"selector": {"app": "web"}} if selector else {})},
        "status": {"loadBalancer": {"ingress": [{"ip": "127.0.0.1"}]} if address else {}},
    }


def slices(*ready: bool, terminating: bool = False) -> list[dict[str, Any]]:
    return [{"endpoints": [{"conditions": {"ready": each, "terminating": terminating}} for each in ready]}]


@pytest.mark.parametrize(
    ("live", "endpoint_slices", "ready"),
    [
        (a_service(), slices(True), True),
        (a_service(), slices(), True),
        (a_service(), [], False),
        (a_service(), slices(True, False), False),
        (a_service(), slices(False, terminating=True), True),
        (a_service(address=False), slices(True), False),
        (a_service(address=False, selector=False), [], False),
        (a_service(selector=False), [], True),
        (a_service(kind="ClusterIP", address=False), slices(True), True),
    ],
)
def test_a_service_waits_for_its_address_and_for_no_unready_pod(
    live: dict[str, Any], endpoint_slices: list[dict[str, Any]], ready: bool
) -> None:
    assert ka.service(Sighting(live, endpoint_slices=endpoint_slices)).ready is ready


# --- waiting


class ScriptedCluster(ClusterClient):
    """Gives each answer once, the last one for ever."""

    def __init__(self, *objects: dict[str, Any] | None, lists: dict[str, list[dict[str, Any]]] | None = None) -> None:
        self.objects = list(objects)
        self.lists = lists or {}

    def get(self, api_version: str, kind: str, namespace: str | None, name: str) -> dict[str, Any] | None:
        return self.objects.pop(0) if len(self.objects) > 1 else self.objects[0]

    def list_objects(self, api_version: str, kind: str, namespace: str | None, labels: str | None = None) -> list[dict[str, Any]]:
        return self.lists.get(kind, slices(True) if kind == "EndpointSlice" else [])


def waiting(
    cluster: ScriptedCluster, rule: Callable[[Sighting], Verdict], *, timeout: float = 5.0, settle: float = 0.0, cancelled: bool = False
) -> tuple[Wait, list[str]]:
    lines: list[str] = []
    event = threading.Event()
    if cancelled:
        event.set()
    return Wait(cluster, rule, event, lines.append, timeout=timeout, settle=settle), lines


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ka, "_POLL_SECONDS", 0.001)
    monkeypatch.setattr(ka, "_PATIENT_SECONDS", 0.001)


def test_waiting_ends_with_the_live_object_and_tells_progress_once() -> None:
    unready = a_deployment(available=False)
    cluster = ScriptedCluster(unready, unready, a_deployment(), lists={"ReplicaSet": [a_replica_set()]})
    wait, lines = waiting(cluster, ka.deployment)
    assert wait.until_live(unready) == a_deployment()
    assert lines == ["Waiting for app ReplicaSet to be available (2/2 Pods available)"]


def test_an_object_that_names_a_condition_is_live_once_it_holds() -> None:
    inputs = {"kind": "Gateway", "metadata": {"name": "door", "annotations": {ka.WAIT_FOR: "condition=Programmed"}}}
    rule = ka.rule_for(inputs)
    assert rule is not None

    def gateway(*conditions: dict[str, str]) -> ka.Verdict:
        return rule(ka.Sighting({**inputs, "status": {"conditions": list(conditions)}}))

    pending = {"type": "Programmed", "status": "False", "reason": "Invalid", "message": "no subnet"}
    assert (gateway().ready, gateway({"type": "Accepted", "status": "True"}).ready) == (False, False)
    assert gateway(pending).reasons == ("[Invalid] no subnet",)
    assert gateway({**pending, "status": "True"}).ready


def test_a_wait_that_times_out_has_the_last_object_and_the_reasons() -> None:
    cluster = ScriptedCluster(a_deployment(available=False), lists={"ReplicaSet": [a_replica_set(ready=0)], "Pod": [UNSCHEDULED]})
    wait, _ = waiting(cluster, ka.deployment, timeout=0.01)
    with pytest.raises(WaitError, match="'web' timed out waiting to be Ready") as caught:
        wait.until_live(a_deployment())
    assert f"[Pod web-2-abc]: {UNSCHEDULABLE}" in caught.value.reasons
    assert caught.value.object == a_deployment(available=False)


class MomentarilyFailing(ScriptedCluster):
    """As `ScriptedCluster`, but the first looks fail."""

    def __init__(self, errors: list[Exception], *objects: dict[str, Any] | None) -> None:
        super().__init__(*objects)
        self.errors = errors

    def get(self, api_version: str, kind: str, namespace: str | None, name: str) -> dict[str, Any] | None:
        if self.errors:
            raise self.errors.pop(0)
        return super().get(api_version, kind, namespace, name)


def answered(status: int) -> KubernetesApiError:
    return KubernetesApiError(ApiException(status=status, reason="x"))


def test_a_wait_outlasts_an_api_server_that_is_away_for_a_while() -> None:
    cluster = MomentarilyFailing([ClusterUnreachableError("refused"), answered(503), answered(401)], a_service())
    wait, lines = waiting(cluster, ka.service)
    wait.until_live(a_service())
    assert "looks again: refused" in lines[0]
    cluster = MomentarilyFailing([answered(500), ClusterUnreachableError("refused")], None)
    ka.until_gone(cluster, a_service(), timeout=5, cancelled=threading.Event(), report=lambda _: None)
    assert cluster.errors == []


@pytest.mark.parametrize("error", [answered(403), CredentialsError("getting credentials: no login")])
def test_a_wait_ends_with_an_error_that_stays(error: Exception) -> None:
    wait, _ = waiting(MomentarilyFailing([error], a_service()), ka.service)
    with pytest.raises(type(error)):
        wait.until_live(a_service())


def test_a_wait_for_an_api_server_that_stays_away_ends_with_its_message() -> None:
    cluster = MomentarilyFailing([ClusterUnreachableError("refused")] * 1000, a_service())
    wait, _ = waiting(cluster, ka.service, timeout=0.01)
    with pytest.raises(WaitError, match="timed out waiting to be Ready") as caught:
        wait.until_live(a_service())
    assert caught.value.reasons == ("refused",)


def test_an_object_that_vanishes_is_an_error() -> None:
    wait, _ = waiting(ScriptedCluster(None), ka.service)
    with pytest.raises(WaitError, match="was deleted while it was waited for"):
        wait.until_live(a_service())


def test_deletion_is_over_when_a_namesake_has_come() -> None:
    reborn = {**a_service(), "metadata": {**meta("web"), "uid": "another"}}
    cluster = ScriptedCluster(a_service(), reborn)
    ka.until_gone(cluster, a_service(), timeout=5, cancelled=threading.Event(), report=lambda _: None)


def test_finalizers_that_hold_an_object_are_named() -> None:
    held = {**a_service(), "metadata": meta("web", finalizers=["example.com/hold"])}
    with pytest.raises(WaitError, match="timed out waiting to be deleted") as caught:
        ka.until_gone(ScriptedCluster(held), held, timeout=0.01, cancelled=threading.Event(), report=lambda _: None)
    assert caught.value.reasons == ("finalizers might be preventing deletion (example.com/hold)",)
