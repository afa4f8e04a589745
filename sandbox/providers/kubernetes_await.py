"""Whether an object has become live, and if not, why: the waits of pulumi-kubernetes 4.34, in its words.

Each kind's rule is a pure function from the objects seen (`Sighting`) to a `Verdict`; `Wait` looks again and again until the
object is live or the time is up. A stalled rollout (`ProgressDeadlineExceeded`) does not end a wait, as with the real provider,
which lets a Deployment recover until then: with autoscaled nodes it often does.

Left out: every kind but Deployment and Service without that annotation, which counts as live once it exists; other forms of
`pulumi.com/waitFor` than a condition; volume claims of a Deployment; Services without an address; watches, since looking once in a while
is cheap on a sandbox's API server and cannot miss an event.
"""

import functools
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sandbox.providers.kubernetes_client import ClusterClient, ClusterUnreachableError, CredentialsError, KubernetesApiError, Object

DEFAULT_TIMEOUT_SECONDS: Final = 600.0

#: The annotation that says which rollout of a Deployment an object belongs to.
REVISION: Final = "deployment.kubernetes.io/revision"

#: The annotation by which an object counts as live once it exists.
SKIP_AWAIT: Final = "pulumi.com/skipAwait"
#: The annotation by which an object counts as live once it has a condition, `condition=TYPE` (pulumi-kubernetes 4.34,
#: provider/pkg/metadata/overrides.go, ReadyCondition).
WAIT_FOR: Final = "pulumi.com/waitFor"
CONDITION: Final = "condition="

_POLL_SECONDS: Final = 0.3
#: A deletion that takes no longer than this is not worth a line.
_QUIET_SECONDS: Final = 1.0

#: Before the next look after one that failed: client-go's reflector begins with 0.8 s (tools/cache/reflector.go).
_PATIENT_SECONDS: Final = 0.8

#: What may be about the moment rather than the object.
PASSING: Final = (ClusterUnreachableError, KubernetesApiError)
#: The real provider gives a Service's endpoints 10 s after their last change; a sandbox's clock is fast.
SETTLE_SECONDS: Final = 1.0

_NO_PODS = "Service does not target any Pods. Selected Pods may not be ready, or field '.spec.selector' may not match labels on any Pods"
_NO_ADDRESS = "Service was not allocated an IP address; does your cloud provider support this?"


@dataclass(frozen=True)
class Verdict:
    """`progress` is for a person who watches; `reasons` say why it is not live."""

    ready: bool
    progress: str = ""
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sighting:
    """An object, and what else its rule looks at, as they are at one moment."""

    object: Object
    replica_sets: Sequence[Object] = ()
    pods: Sequence[Object] = ()
    endpoint_slices: Sequence[Object] = ()


class WaitError(Exception):
    """An object did not become live. `object` is its last known state, `reasons` Kubernetes's words on why."""

    def __init__(self, message: str, last: Object, reasons: Sequence[str]) -> None:
        super().__init__(message)
        self.object = last
        self.reasons = tuple(reasons)


# --- rules


def deployment(seen: Sighting) -> Verdict:
    """Live when the controller has seen this generation, the Deployment is available, its current ReplicaSet has all
    its pods ready and, from the second revision on, the rollout is reported complete.
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
    revision = annotation(live, REVISION)
    current = [each for each in seen.replica_sets if _owned_by(each, live) and annotation(each, REVISION) == revision]
    wanted = ready_replicas = 0
    if revision and current:
        wanted = (current[0].get("spec") or {}).get("replicas", 1)
        ready_replicas = (current[0].get("status") or {}).get("readyReplicas", 0)
    observed = status.get("observedGeneration") == live["metadata"].get("generation")
    updated = bool(revision and current) and ready_replicas >= wanted
    if observed and available and updated and (complete or revision == "1"):
        return Verdict(True, "Deployment initialization complete")
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
    if not spec.get("selector"):
        return Verdict(addressed, "Attempting to allocate IP address to Service", no_address)
    ready, pending = endpoints(seen.endpoint_slices)
    if addressed and seen.endpoint_slices and not pending:
        return Verdict(True, "Service initialization complete")
    if not ready or pending:
        return Verdict(False, "Finding Pods to direct traffic to", ((_NO_PODS,) if not ready else ()) + no_address)
    return Verdict(False, "Attempting to allocate IP address to Service", no_address)


def conditioned(kind: str, seen: Sighting) -> Verdict:
    """Live when the object's own condition of this type is true."""
    found = [each for each in (seen.object.get("status") or {}).get("conditions") or [] if each.get("type") == kind]
    holds = any(each.get("status") == "True" for each in found)
    reasons = tuple(f"[{each.get('reason')}] {each.get('message', '')}" for each in found if each.get("status") != "True")
    return Verdict(holds, f"Waiting for condition {kind}", reasons or (f"There is no condition {kind}",))


def endpoints(slices: Sequence[Object]) -> tuple[int, int]:
    """How many endpoints are ready, and how many are still to become so."""
    conditions = [each.get("conditions") or {} for one in slices for each in one.get("endpoints") or []]
    ready = sum(1 for each in conditions if each.get("ready", True))
    pending = sum(1 for each in conditions if not each.get("ready", True) and not each.get("terminating"))
    return ready, pending


_RULES: Final[Mapping[tuple[str, str], Callable[[Sighting], Verdict]]] = {("apps/v1", "Deployment"): deployment, ("v1", "Service"): service}


def rule_for(inputs: Mapping[str, Any]) -> Callable[[Sighting], Verdict] | None:
    """The rule by which an object is live; None when it is as soon as it exists."""
    if annotation(inputs, SKIP_AWAIT) == "true":
        return None
    if (named := annotation(inputs, WAIT_FOR) or "").startswith(CONDITION):
        return functools.partial(conditioned, named.removeprefix(CONDITION))
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


def look(cluster: ClusterClient, live: Object) -> Sighting:
    """The object as it is now, with what its rule needs. Raises `WaitError` when it is gone."""
    kind, metadata = live["kind"], live["metadata"]
    namespace, name = metadata.get("namespace"), metadata["name"]
    now = cluster.get(live["apiVersion"], kind, namespace, name)
    if now is None:
        raise WaitError(f"{kind} {name!r} was deleted while it was waited for", live, ())
    # The rest after the object, never before: what a controller reports in it, it has done by then.
    if kind == "Deployment":
        labels = _selector(now)
        sets = cluster.list_objects("apps/v1", "ReplicaSet", namespace, labels)
        return Sighting(now, replica_sets=sets, pods=cluster.list_objects("v1", "Pod", namespace, labels))
    if kind != "Service":
        return Sighting(now)
    named = f"kubernetes.io/service-name={name}"
    return Sighting(now, endpoint_slices=cluster.list_objects("discovery.k8s.io/v1", "EndpointSlice", namespace, named))


def _selector(live: Mapping[str, Any]) -> str | None:
    labels = ((live.get("spec") or {}).get("selector") or {}).get("matchLabels") or {}
    return ",".join(f"{key}={value}" for key, value in labels.items()) or None


@dataclass
class Wait:
    """One wait. `cancelled` ends it early; `report` gets each new line of progress."""

    cluster: ClusterClient
    rule: Callable[[Sighting], Verdict]
    cancelled: threading.Event
    report: Callable[[str], None]
    timeout: float = DEFAULT_TIMEOUT_SECONDS
    settle: float = SETTLE_SECONDS
    _settled_at: float = field(default=0.0, init=False)
    _endpoints: Any = field(default=None, init=False)

    def until_live(self, live: Object) -> Object:
        """Returns the live object, or raises `WaitError`."""
        deadline = time.monotonic() + self.timeout
        said = ""
        name = live["metadata"]["name"]
        while True:
            try:
                seen = look(self.cluster, live)
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


def until_gone(cluster: ClusterClient, live: Object, *, timeout: float, cancelled: threading.Event, report: Callable[[str], None]) -> None:
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


def annotation(value: Mapping[str, Any], name: str) -> str | None:
    metadata = value.get("metadata")
    annotations = metadata.get("annotations") if isinstance(metadata, Mapping) else None
    found = annotations.get(name) if isinstance(annotations, Mapping) else None
    return found if isinstance(found, str) else None


def _owned_by(value: Mapping[str, Any], owner: Mapping[str, Any]) -> bool:
    references = value["metadata"].get("ownerReferences") or []
    return any(each.get("uid") == owner["metadata"].get("uid") for each in references)
