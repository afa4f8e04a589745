"""Whether an object has become live, and if not, why: the waits of pulumi-kubernetes 4.34, in its words.

Each kind's rule is a pure function from the objects seen (`Sighting`) to a `Verdict`; `Wait` looks again and again
until one is final. A stalled rollout (`ProgressDeadlineExceeded`) is not final, as with the real provider, which lets a
Deployment recover until the time is up: with autoscaled nodes it often does.

Left out: StatefulSet, DaemonSet, ReplicationController and Ingress, which count as live once they exist; watches, since
looking once in a while is cheap on a sandbox's API server and cannot miss an event.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from sandbox.providers.kubernetes_client import ClusterUnreachableError, CredentialsError, KubernetesApiError

Object = dict[str, Any]

DEFAULT_TIMEOUT_SECONDS: Final = 600.0

#: The annotation that says which rollout of a Deployment an object belongs to.
REVISION: Final = "deployment.kubernetes.io/revision"

_POLL_SECONDS: Final = 0.3
#: A deletion that takes no longer than this is not worth a line.
_QUIET_SECONDS: Final = 1.0

#: Before the next look after one that failed: client-go's reflector begins with 0.8 s (tools/cache/reflector.go).
_PATIENT_SECONDS: Final = 0.8

#: What may be about the moment rather than the object.
PASSING: Final = (ClusterUnreachableError, KubernetesApiError)
#: The real provider gives a Service's endpoints 10 s after their last change; a sandbox's clock is fast.
SETTLE_SECONDS: Final = 1.0

_FINAL_JOB_FAILURES: Final = ("BackoffLimitExceeded", "DeadlineExceeded")
_NO_PODS = "Service does not target any Pods. Selected Pods may not be ready, or field '.spec.selector' may not match labels on any Pods"
_NO_ADDRESS = "Service was not allocated an IP address; does your cloud provider support this?"


@dataclass(frozen=True)
class Verdict:
    """`failed`: more waiting is no use. `progress` is for a person who watches; `reasons` say why it is not live."""

    ready: bool
    progress: str = ""
    reasons: tuple[str, ...] = ()
    failed: bool = False


@dataclass(frozen=True)
class Sighting:
    """An object, and what else its rule looks at, as they are at one moment. `created`: its own creation is awaited."""

    object: Object
    created: bool = True
    replica_sets: Sequence[Object] = ()
    pods: Sequence[Object] = ()
    claims: Sequence[Object] = ()
    endpoint_slices: Sequence[Object] = ()
    binding_mode: str | None = None


class Reader(Protocol):
    """What the waits ask of a cluster."""

    def get(self, api_version: str, kind: str, namespace: str | None, name: str) -> Object | None: ...

    def list_objects(self, api_version: str, kind: str, namespace: str | None, labels: str | None = None) -> list[Object]: ...


class WaitError(Exception):
    """An object did not become live. `object` is its last known state, `reasons` Kubernetes's words on why."""

    def __init__(self, message: str, last: Object, reasons: Sequence[str]) -> None:
        super().__init__(message)
        self.object = last
        self.reasons = tuple(reasons)


# --- rules


def deployment(seen: Sighting) -> Verdict:
    """Live when the controller has seen this generation, the Deployment is available, its current ReplicaSet has all
    its pods ready and, from the second revision on, the rollout is reported complete; its claims bound.
    """
    live = seen.object
    status = live.get("status") or {}
    errors: list[str] = []
    available = complete = False
    for condition in status.get("conditions") or []:
        holds = condition.get("status") == "True"
        if condition.get("type") == "Progressing":
            complete = holds and condition.get("reason") == "NewReplicaSetAvailable"
        elif condition.get("type") == "Available":
            available = holds
        else:
            continue
        if not holds and condition.get("message"):
            errors.append(f"[{condition.get('reason')}] {condition['message']}")
    revision = _annotation(live, REVISION)
    current = [each for each in seen.replica_sets if _owned_by(each, live) and _annotation(each, REVISION) == revision]
    wanted = ready_replicas = 0
    if revision and current:
        wanted = (current[0].get("spec") or {}).get("replicas", 1)
        ready_replicas = (current[0].get("status") or {}).get("readyReplicas", 0)
    observed = status.get("observedGeneration") == live["metadata"].get("generation")
    updated = bool(revision and current) and ready_replicas >= wanted
    unbound = _unbound_claims(live, seen.claims)
    if observed and available and updated and not unbound and (complete or revision == "1"):
        return Verdict(True, "Deployment initialization complete")
    if unbound:
        errors.append("Failed to bind PersistentVolumeClaim(s): " + ", ".join(unbound))
    if not available:
        errors.append("Minimum number of live Pods was not attained")
    elif revision == "1" or not complete:
        errors.append("Minimum number of Pods to consider the application live was not attained")
    elif not updated:
        errors.append("Attempted to roll forward to new ReplicaSet, but minimum number of Pods did not become live")
    for pod_of_it in seen.pods:
        if any(_owned_by(pod_of_it, each) for each in current):
            errors.extend(pod_messages(pod_of_it))
    progress = f"Waiting for app ReplicaSet to be available ({ready_replicas}/{wanted} Pods available)"
    return Verdict(False, progress, tuple(dict.fromkeys(errors)))


def service(seen: Sighting) -> Verdict:
    """Live when a load balancer has its address and, where pods are selected, no selected pod is unready."""
    live = seen.object
    spec = live.get("spec") or {}
    kind = spec.get("type", "ClusterIP")
    addressed = kind != "LoadBalancer" or bool(((live.get("status") or {}).get("loadBalancer") or {}).get("ingress"))
    no_address = () if addressed else (_NO_ADDRESS,)
    if kind == "ExternalName" or spec.get("clusterIP") == "None" or not spec.get("selector"):
        return Verdict(addressed, "Attempting to allocate IP address to Service", no_address)
    ready, pending = endpoints(seen.endpoint_slices)
    if addressed and seen.endpoint_slices and not pending:
        return Verdict(True, "Service initialization complete")
    if not ready or pending:
        return Verdict(False, "Finding Pods to direct traffic to", ((_NO_PODS,) if not ready else ()) + no_address)
    return Verdict(False, "Attempting to allocate IP address to Service", no_address)


def endpoints(slices: Sequence[Object]) -> tuple[int, int]:
    """How many endpoints are ready, and how many are still to become so."""
    conditions = [each.get("conditions") or {} for one in slices for each in one.get("endpoints") or []]
    ready = sum(1 for each in conditions if each.get("ready", True))
    pending = sum(1 for each in conditions if not each.get("ready", True) and not each.get("terminating"))
    return ready, pending


def pod(seen: Sighting) -> Verdict:
    live = seen.object
    conditions = {each["type"]: each for each in (live.get("status") or {}).get("conditions") or []}
    succeeded = (live.get("status") or {}).get("phase") == "Succeeded"
    for kind, stage in (("PodScheduled", "scheduled"), ("Initialized", "initialized"), ("Ready", "ready")):
        if (conditions.get(kind) or {}).get("status") != "True" and not (succeeded and kind == "Ready"):
            progress = f'Waiting for Pod "{live["metadata"]["name"]}" to be {stage}'
            return Verdict(False, progress, tuple(pod_messages(live)))
    return Verdict(True, "Pod initialization complete")


def job(seen: Sighting) -> Verdict:
    """Live when it has succeeded; a job that used up its attempts or its time has failed for good."""
    live = seen.object
    status = live.get("status") or {}
    messages = tuple(message for each in seen.pods if _owned_by(each, live) for message in pod_messages(each))
    counts = " | ".join(f"{name.capitalize()}: {status.get(name, 0)}" for name in ("active", "succeeded", "failed"))
    progress = f'Waiting for Job "{live["metadata"]["name"]}" to succeed ({counts})'
    for condition in status.get("conditions") or []:
        if condition.get("status") != "True":
            continue
        if condition.get("type") == "Complete":
            return Verdict(True, "Job initialization complete")
        if condition.get("type") == "Failed" and condition.get("reason") in _FINAL_JOB_FAILURES:
            reason = f"[{condition['reason']}] {condition.get('message', '')}"
            return Verdict(False, progress, (reason, *messages), failed=True)
    return Verdict(False, progress, messages)


def claim(seen: Sighting) -> Verdict:
    """Live when bound, or when it waits, rightly, for its first consumer."""
    phase = (seen.object.get("status") or {}).get("phase")
    if phase == "Bound" or (seen.created and seen.binding_mode == "WaitForFirstConsumer" and phase == "Pending"):
        return Verdict(True)
    return Verdict(False, f"PersistentVolumeClaim is {phase}", (f"status.phase currently at: {phase}",))


def volume(seen: Sighting) -> Verdict:
    phase = (seen.object.get("status") or {}).get("phase")
    return Verdict(phase in ("Available", "Bound"), f"PersistentVolume is {phase}", (f"status.phase is {phase}",))


def condition_rule(expression: str) -> Callable[[Sighting], Verdict]:
    """The rule of a `pulumi.com/waitFor` annotation, `condition=TYPE` or `condition=TYPE=STATUS`.

    Raises `ValueError` for anything else, the real provider's `jsonpath=` and lists among it.
    """
    prefix, _, rest = expression.partition("=")
    kind, _, status = rest.partition("=")
    status = status or "True"
    if prefix != "condition" or not kind:
        raise ValueError(
            f"pulumi.com/waitFor: {expression!r} is not supported by this stand-in: it knows condition=TYPE and "
            "condition=TYPE=STATUS. Use one of these, or put the real kubernetes plugin on PATH"
        )

    def rule(seen: Sighting) -> Verdict:
        conditions = (seen.object.get("status") or {}).get("conditions") or []
        found: Object = next((each for each in conditions if each.get("type") == kind), {})
        message = f"Waiting for condition {kind} to be {status}" + (
            f" (it is {found.get('status')}: {found.get('message', '')})" if found else ""
        )
        return Verdict(str(found.get("status", "")).lower() == status.lower(), message, (message,))

    return rule


_RULES: Final[Mapping[tuple[str, str], Callable[[Sighting], Verdict]]] = {
    ("apps/v1", "Deployment"): deployment,
    ("batch/v1", "Job"): job,
    ("v1", "PersistentVolume"): volume,
    ("v1", "PersistentVolumeClaim"): claim,
    ("v1", "Pod"): pod,
    ("v1", "Service"): service,
}


def rule_for(inputs: Mapping[str, Any]) -> Callable[[Sighting], Verdict] | None:
    """The rule by which an object is live; None when it is as soon as it exists. Raises as `condition_rule`."""
    if _annotation(inputs, "pulumi.com/skipAwait") == "true":
        return None
    if expression := _annotation(inputs, "pulumi.com/waitFor"):
        return condition_rule(expression)
    return _RULES.get((str(inputs.get("apiVersion")), str(inputs.get("kind"))))


# --- a pod's own words


def pod_messages(live: Mapping[str, Any]) -> list[str]:
    """Why a pod is not ready: the scheduler's reasons, then each container's."""
    status = live.get("status") or {}
    name = live["metadata"]["name"]
    conditions = {each["type"]: each for each in status.get("conditions") or []}
    scheduled = conditions.get("PodScheduled") or {}
    if scheduled.get("status") == "False" and scheduled.get("message"):
        return [f"[Pod {name}]: {scheduled['message']}"]
    ready = conditions.get("Ready") or {}
    if not ready or ready.get("status") == "True" or status.get("phase") == "Succeeded":
        return []
    statuses = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
    words = [word for each in statuses if not each.get("ready") for word in _container_words(each)]
    if ready.get("message") or words:
        return [f"[Pod {name}]: " + "; ".join([*filter(None, [ready.get("message")]), *words])]
    return []


def _container_words(status: Mapping[str, Any]) -> list[str]:
    words: list[str] = []
    state = status.get("state") or {}
    waiting, terminated = state.get("waiting"), state.get("terminated")
    if waiting and waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
        words.append(f'container "{status["name"]}": [{waiting["reason"]}] {waiting.get("message", "")}'.rstrip())
    if terminated and terminated.get("exitCode"):
        words.append(_termination(status["name"], terminated))
    if last := (status.get("lastState") or {}).get("terminated"):
        words.append(_termination(status["name"], last))
    return words


def _termination(name: str, terminated: Mapping[str, Any]) -> str:
    text = f'container "{name}" terminated at {terminated.get("finishedAt")} ({terminated.get("reason")}: exit code '
    text += f"{terminated.get('exitCode')})"
    return f"{text}: {terminated['message'].strip()}" if terminated.get("message") else text


# --- looking and waiting


def look(cluster: Reader, live: Object, *, created: bool) -> Sighting:
    """The object as it is now, with what its rule needs. Raises `WaitError` when it is gone."""
    api_version, kind, metadata = live["apiVersion"], live["kind"], live["metadata"]
    namespace, name = metadata.get("namespace"), metadata["name"]
    now = cluster.get(api_version, kind, namespace, name)
    if now is None:
        raise WaitError(f"{kind} {name!r} was deleted while it was waited for", live, ())
    # The rest after the object, never before: what a controller reports in it, it has done by then.
    related: dict[str, Any] = {}
    if (api_version, kind) == ("apps/v1", "Deployment"):
        labels = _selector(now)
        related["replica_sets"] = cluster.list_objects("apps/v1", "ReplicaSet", namespace, labels)
        related["pods"] = cluster.list_objects("v1", "Pod", namespace, labels)
        if _claim_names(now):
            related["claims"] = cluster.list_objects("v1", "PersistentVolumeClaim", namespace)
    elif (api_version, kind) == ("batch/v1", "Job"):
        related["pods"] = cluster.list_objects("v1", "Pod", namespace, f"batch.kubernetes.io/job-name={name}")
    elif (api_version, kind) == ("v1", "Service"):
        related["endpoint_slices"] = cluster.list_objects(
            "discovery.k8s.io/v1", "EndpointSlice", namespace, f"kubernetes.io/service-name={name}"
        )
    elif (api_version, kind) == ("v1", "PersistentVolumeClaim"):
        storage_class = (now.get("spec") or {}).get("storageClassName")
        found = cluster.get("storage.k8s.io/v1", "StorageClass", None, storage_class) if storage_class else None
        related["binding_mode"] = (found or {}).get("volumeBindingMode")
    return Sighting(now, created, **related)


def _selector(live: Mapping[str, Any]) -> str | None:
    labels = ((live.get("spec") or {}).get("selector") or {}).get("matchLabels") or {}
    return ",".join(f"{key}={value}" for key, value in labels.items()) or None


@dataclass
class Wait:
    """One wait. `cancelled` ends it early; `report` gets each new line of progress."""

    cluster: Reader
    rule: Callable[[Sighting], Verdict]
    cancelled: threading.Event
    report: Callable[[str], None]
    timeout: float = DEFAULT_TIMEOUT_SECONDS
    settle: float = SETTLE_SECONDS
    _settled_at: float = field(default=0.0, init=False)
    _endpoints: Any = field(default=None, init=False)

    def until_live(self, live: Object, *, created: bool) -> Object:
        """Returns the live object, or raises `WaitError`."""
        deadline = time.monotonic() + self.timeout
        said = ""
        name = live["metadata"]["name"]
        while True:
            try:
                seen = look(self.cluster, live, created=created)
            except PASSING as error:
                _raise_unless_passing(error)
                # As an informer, which watches again and again: an API server that is away says nothing of the object.
                unseen = str(error)
                if time.monotonic() >= deadline:
                    raise WaitError(f"'{name}' timed out waiting to be Ready", live, (unseen,)) from error
                if unseen != said:
                    said = unseen
                    self.report(f"the API server does not answer as it should, looks again: {unseen}")
                if self.cancelled.wait(_PATIENT_SECONDS):
                    raise WaitError(f'Resource operation was cancelled for "{name}"', live, (unseen,)) from error
                continue
            live = seen.object
            verdict = self.rule(seen)
            if verdict.ready and self._is_settled(seen):
                return live
            if verdict.progress and verdict.progress != said:
                said = verdict.progress
                self.report(said)
            if verdict.failed:
                raise WaitError(f"Resource '{name}' was created but failed to initialize", live, verdict.reasons)
            if time.monotonic() >= deadline:
                if verdict.ready:
                    return live
                raise WaitError(f"'{name}' timed out waiting to be Ready", live, verdict.reasons)
            if self.cancelled.wait(min(_POLL_SECONDS, max(0.0, deadline - time.monotonic()))):
                raise WaitError(f'Resource operation was cancelled for "{name}"', live, verdict.reasons)

    def _is_settled(self, seen: Sighting) -> bool:
        """Whether a Service's endpoints have stayed as they are for a while; other kinds always are settled."""
        if self.rule is not service or not (seen.object.get("spec") or {}).get("selector"):
            return True
        now = endpoints(seen.endpoint_slices)
        if now != self._endpoints:
            self._endpoints, self._settled_at = now, time.monotonic() + self.settle
        return time.monotonic() >= self._settled_at


def until_gone(cluster: Reader, live: Object, *, timeout: float, cancelled: threading.Event, report: Callable[[str], None]) -> None:
    """Waits until an object, this one and not a namesake, is gone. Raises `WaitError` with what holds it."""
    metadata = live["metadata"]
    started = time.monotonic()
    deadline = started + timeout
    pause = 0.05
    reported = False
    while True:
        try:
            now = cluster.get(live["apiVersion"], live["kind"], metadata.get("namespace"), metadata["name"])
        except PASSING as error:
            _raise_unless_passing(error)
            if time.monotonic() >= deadline or cancelled.wait(_PATIENT_SECONDS):
                raise WaitError(f"'{metadata['name']}' timed out waiting to be deleted", live, (str(error),)) from error
            continue
        if now is None or (metadata.get("uid") and now["metadata"].get("uid") != metadata["uid"]):
            return
        finalizers = now["metadata"].get("finalizers") or []
        reasons = [f"finalizers might be preventing deletion ({', '.join(finalizers)})"] if finalizers else []
        if now["kind"] == "Namespace":
            conditions = (now.get("status") or {}).get("conditions") or []
            reasons += [each["message"] for each in conditions if each.get("status") == "True" and each.get("message")]
        if time.monotonic() >= deadline:
            raise WaitError(f"'{metadata['name']}' timed out waiting to be deleted", now, reasons)
        if cancelled.wait(pause):
            raise WaitError(f'Deletion was cancelled for "{metadata["name"]}"', now, reasons)
        if not reported and time.monotonic() > started + _QUIET_SECONDS:
            report(f"Waiting for {live['kind']} to be deleted")
            reported = True
        pause = min(_POLL_SECONDS, pause * 2)


# --- parts


def _raise_unless_passing(error: Exception) -> None:
    if isinstance(error, CredentialsError) or (isinstance(error, KubernetesApiError) and not error.passing):
        raise error


def _annotation(value: Mapping[str, Any], name: str) -> str | None:
    metadata = value.get("metadata")
    annotations = metadata.get("annotations") if isinstance(metadata, Mapping) else None
    found = annotations.get(name) if isinstance(annotations, Mapping) else None
    return found if isinstance(found, str) else None


def _owned_by(value: Mapping[str, Any], owner: Mapping[str, Any]) -> bool:
    references = value["metadata"].get("ownerReferences") or []
    return any(each.get("uid") == owner["metadata"].get("uid") for each in references)


def _claim_names(live: Mapping[str, Any]) -> set[str]:
    volumes = (((live.get("spec") or {}).get("template") or {}).get("spec") or {}).get("volumes") or []
    return {each["persistentVolumeClaim"]["claimName"] for each in volumes if each.get("persistentVolumeClaim")}


def _unbound_claims(live: Mapping[str, Any], claims: Sequence[Object]) -> list[str]:
    names = _claim_names(live)
    return [
        each["metadata"]["name"]
        for each in claims
        if each["metadata"]["name"] in names and (each.get("status") or {}).get("phase") != "Bound"
    ]
