"""One pod on its node: its containers' life together, its status, and its end.

A thread for each pod does everything in turn; what happens elsewhere (a process ends, a probe decides, the API server
has news) is posted to it.
"""

import contextlib
import logging
import queue
import shutil
import threading
import time

import urllib3

from sandbox.kube.kube_api import STRATEGIC_MERGE, ApiError, Object
from sandbox.node_agent.container import Container
from sandbox.node_agent.network import PodNetwork
from sandbox.node_agent.pod import AgentServices, Node, Pod
from sandbox.node_agent.status import PodView, pod_status
from sandbox.node_agent.timestamps import timestamp

logger = logging.getLogger(__name__)

_API_RETRY_SECONDS = 1.0

#: For the processes of a pod that the API server no longer has: the kubelet gives them little time, too.
_ORPHAN_GRACE_SECONDS = 2.0


class PodWorker:
    """Starts with `start`; `ended` is set when nothing of the pod is left on the node."""

    def __init__(self, pod: Object, node: Node, services: AgentServices) -> None:
        self.ended = threading.Event()
        self.node = node
        self._pod = Pod(pod, node, services)
        self.name, self.namespace, self.uid = self._pod.name, self._pod.namespace, self._pod.uid
        self._start_time: str = (pod.get("status") or {}).get("startTime") or timestamp()
        self._published: Object = {}
        self._terminating = False
        self._grace = self._pod.grace_seconds
        self._failure: tuple[str, str] | None = None
        self._over = False
        self.containers = {each["name"]: Container(each, self._pod) for each in pod["spec"]["containers"]}
        self._thread = threading.Thread(target=self._run, name=f"pod {self.name}", daemon=True)

    # --- what others call

    @property
    def network(self) -> PodNetwork | None:
        """None before it has one."""
        return self._pod.network

    def start(self) -> None:
        self._thread.start()

    def update(self, pod: Object) -> None:
        """The API server's object has changed."""

        def take() -> None:
            self._pod.object = pod
            if pod["metadata"].get("deletionTimestamp"):
                self._terminate(float(pod["metadata"].get("deletionGracePeriodSeconds") or 0))

        self._pod.post(take)

    def gone(self) -> None:
        """The API server no longer has the object."""
        self.shut_down(_ORPHAN_GRACE_SECONDS)

    def lost(self) -> None:
        """The node is gone with everything that ran on it; the object is left to the garbage collector."""

        def end() -> None:
            self._pod.silent = self._terminating = True
            self.kill()

        self._pod.post(end)

    def shut_down_with_node(self, grace: float) -> None:
        """The machine ends: the kubelet's graceful shutdown, after which the pod has failed and its object stays."""

        def end() -> None:
            self._failure = ("Terminated", "Pod was terminated in response to imminent node shutdown.")
            self._terminate(min(grace, self._pod.grace_seconds))

        self._pod.post(end)

    def shut_down(self, grace: float) -> None:
        """Ends the processes within so many seconds without a report: the agent ends, or the pod's object is gone."""

        def end() -> None:
            self._pod.silent = True
            self._terminate(grace)

        self._pod.post(end)

    # --- the worker

    def _run(self) -> None:
        while True:
            try:
                if self._pod.network is None:
                    self._prepare()
                wake_at = self._turn()
                if self._over:
                    break
                with contextlib.suppress(queue.Empty):
                    self._pod.actions.get(timeout=None if wake_at is None else max(0.0, wake_at - time.monotonic()))()
                    while True:
                        self._pod.actions.get_nowait()()
            except Exception:
                # A pod without a worker would stay as it is forever.
                logger.exception("pod %s/%s: goes on in %g s", self.namespace, self.name, _API_RETRY_SECONDS)
                time.sleep(_API_RETRY_SECONDS)
        if self._pod.network is not None:
            self._pod.network.release()
        self.ended.set()

    def _prepare(self) -> None:
        """Takes up the pod where an earlier node agent left it."""
        metadata, status = self._pod.object["metadata"], self._pod.object.get("status") or {}
        before = {each["name"]: each for each in status.get("containerStatuses") or []}
        self._published = {"conditions": status.get("conditions") or []}
        for name, container in self.containers.items():
            (self._pod.folder / name).mkdir(parents=True, exist_ok=True)
            if name in before:
                container.take_over(before[name])
        self._pod.network = PodNetwork(self._pod.services.addresses, status.get("podIP"))
        if status.get("phase") in ("Succeeded", "Failed") and status.get("reason"):
            self._failure = (status["reason"], status.get("message", ""))
        if metadata.get("deletionTimestamp"):
            self._terminate(float(metadata.get("deletionGracePeriodSeconds") or 0))

    def _turn(self) -> float | None:
        """Does what is to be done now; returns when (monotonic) to look again without being told."""
        wake: list[float] = []
        again = time.monotonic() + _API_RETRY_SECONDS
        if self._terminating:
            self._end_containers()
        else:
            try:
                wake += self._start_containers()
            except (ApiError, urllib3.exceptions.HTTPError) as error:
                logger.info("pod %s/%s: %s; tries again", self.namespace, self.name, error)
                wake.append(again)
        if self._pod.silent:
            self._over = self._terminating and not self._any_running
            return None
        if not self._publish():
            wake.append(again)
        elif self._terminating and not self._any_running and self._pod.object["metadata"].get("deletionTimestamp"):
            self._over = self._remove()
            wake.append(again)
        return min((each for each in wake if each != float("inf")), default=None)

    @property
    def _any_running(self) -> bool:
        return any(each.running for each in self.containers.values())

    def _start_containers(self) -> list[float]:
        """Starts what may start, and gives times to look again."""
        waiting = [each for each in self.containers.values() if not each.running and not each.done]
        for each in waiting:
            each.start()
        return [each.wake_at for each in waiting]

    # --- the end

    def _terminate(self, grace: float) -> None:
        """From now on containers are only ended; a later call can shorten the grace period."""
        self._grace = min(self._grace, grace) if self._terminating else grace
        self._terminating = True

    def _end_containers(self) -> None:
        for name, each in self.containers.items():
            # There is no time for hooks once nobody waits for the pod.
            each.end(self._grace, f"Stopping container {name}", hook=not self._pod.silent)

    def kill(self) -> None:
        """Ends every process at once, from whatever thread."""
        for container in self.containers.values():
            container.kill()

    def _remove(self) -> bool:
        """Takes the pod's object away, now that nothing of it runs; False to be called again."""
        try:
            self._pod.services.api.delete(self._pod.path, {"gracePeriodSeconds": 0, "preconditions": {"uid": self.uid}})
        except ApiError as error:
            # Gone, or another pod of the same name.
            if error.status not in (404, 409):
                logger.warning("pod %s/%s cannot be removed: %s", self.namespace, self.name, error)
                return False
        except urllib3.exceptions.HTTPError as error:
            logger.info("pod %s/%s is not removed yet: %s", self.namespace, self.name, error)
            return False
        return True

    def forget(self) -> None:
        """Deletes the pod's files; for when its object is gone."""
        shutil.rmtree(self._pod.folder, ignore_errors=True)

    # --- the status

    def _publish(self) -> bool:
        """Writes the status if it has changed; False to be called again."""
        pod = self._pod
        status = pod_status(
            PodView(
                pod=pod.object,
                containers=[each.view for each in self.containers.values()],
                pod_ip=pod.address,
                host_ip=self.node.address,
                start_time=self._start_time,
                terminating=self._terminating,
                failure=self._failure,
                previous=self._published,
            )
        )
        if status == self._published:
            return True
        # A strategic merge adds to lists: a pod whose address another sandbox has taken meanwhile has a new one alone.
        body = {**status, "podIPs": [{"$patch": "replace"}, *status["podIPs"]]}
        try:
            pod.services.api.patch(f"{pod.path}/status", {"metadata": {"uid": self.uid}, "status": body}, STRATEGIC_MERGE)
        except ApiError as error:
            # 404 and 409: the watch is about to say that the pod is gone.
            if error.status not in (404, 409):
                logger.warning("status of pod %s/%s is refused: %s", self.namespace, self.name, error)
                return False
        except urllib3.exceptions.HTTPError as error:
            logger.info("status of pod %s/%s is not written yet: %s", self.namespace, self.name, error)
            return False
        self._published = status
        return True
