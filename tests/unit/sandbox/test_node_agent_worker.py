"""A pod's life on its node: real processes, an image of the test's own, and a recording stand-in for the API server."""

import base64
import copy
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from sandbox.host.addresses import PodAddresses
from sandbox.host.processes import Spawner, processes_with
from sandbox.images.image_store import ImageConfig, ImageStore
from sandbox.kube.kube_api import ApiError, KubeApi
from sandbox.node_agent import agent as agent_module
from sandbox.node_agent import container as container_module
from sandbox.node_agent import worker as worker_module
from sandbox.node_agent.devices import NodeDevices
from sandbox.node_agent.events import EventRecorder
from sandbox.node_agent.pod import AgentServices, Node
from sandbox.node_agent.worker import PodWorker
from tests.unit.sandbox.helpers import eventually, install

Object = dict[str, Any]


def shorten_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the kubelet waits for in seconds, whatever the sandbox's speed: a tenth, so that all that a test says still comes in turn."""
    for module, name in (
        (worker_module, "_API_RETRY_SECONDS"),
        (container_module, "_CONFIG_RETRY_SECONDS"),
        (container_module, "_LEAST_GRACE_SECONDS"),
        (agent_module, "_STOP_GRACE_SECONDS"),
    ):
        monkeypatch.setattr(module, name, getattr(module, name) / 10)


NODE: Object = {
    "metadata": {
        "name": "node-1",
        "uid": "node-uid-1",
        "labels": {
            "cloud.google.com/gke-nodepool": "v6e-1",
            "cloud.google.com/gke-tpu-accelerator": "tpu-v6e-slice",
            "node.kubernetes.io/instance-type": "ct6e-standard-1t",
        },
    },
    "status": {"addresses": [{"type": "InternalIP", "address": "10.128.0.10"}], "allocatable": {"memory": "4Gi"}},
}

#: Runs until SIGTERM, and says so.
STEADY = "trap 'echo ends; exit 0' TERM; echo starts; while :; do sleep 0.02; done"


class FakeApi:
    """Keeps every status that is written, and whether the pod was removed; `objects` are what can be read."""

    def __init__(self) -> None:
        self.objects: dict[str, Object] = {}
        self.statuses: list[Object] = []
        self.removed: list[Object] = []
        #: Path and body of every patch of something else than a pod's status.
        self.patches: list[tuple[str, Object]] = []
        self.unreachable = False
        self._changed = threading.Condition()

    def get(self, path: str) -> Object:
        if path not in self.objects:
            raise ApiError(404, "not found")
        return self.objects[path]

    def patch(self, path: str, body: Object, content_type: str = "") -> Object:
        if self.unreachable:
            raise ApiError(500, "etcdserver: request timed out")
        if "/pods/" not in path:
            self.patches.append((path, body))
            return {}
        with self._changed:
            self.statuses.append(copy.deepcopy(body["status"]))
            self._changed.notify_all()
        return {}

    def create(self, path: str, body: Object) -> Object:
        return {"status": {"token": f"token of {path}"}}

    def delete(self, path: str, body: Object) -> Object:
        with self._changed:
            self.removed.append(body)
            self._changed.notify_all()
        return {}

    def wait(self, what: Callable[[Object], bool], seconds: float = 10.0) -> Object:
        """The first status from now on, the last one included, of which `what` holds."""
        deadline = time.monotonic() + seconds
        seen = max(0, len(self.statuses) - 1)
        with self._changed:
            while True:
                for status in self.statuses[seen:]:
                    if what(status):
                        return status
                seen = len(self.statuses)
                if not self._changed.wait(deadline - time.monotonic()):
                    raise AssertionError(f"not within {seconds} s; last status: {self.statuses[-1:]}")

    def wait_removed(self, seconds: float = 10.0) -> Object:
        with self._changed:
            assert self._changed.wait_for(lambda: self.removed, seconds), "the pod was not removed"
        return self.removed[0]


class FakeEvents:
    def __init__(self) -> None:
        self.reasons: list[tuple[str, str]] = []

    def record(self, pod: Object, event_type: str, reason: str, message: str, **_: str) -> None:
        self.reasons.append((reason, message))


def pod(*containers: Object, **spec: Any) -> Object:
    return {
        "metadata": {"name": "pod", "namespace": "default", "uid": "uid-1", "generation": 1},
        "spec": {
            "nodeName": "node-1",
            "terminationGracePeriodSeconds": 5,
            "containers": [{"name": "main", "image": "shell:1", **each} for each in containers],
            **spec,
        },
        "status": {"conditions": [{"type": "PodScheduled", "status": "True"}]},
    }


class Bench:
    """Everything that a worker needs; `run` starts a pod."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.api = FakeApi()
        self.api.objects["/api/v1/namespaces/default/services"] = {"items": []}
        self.events = FakeEvents()
        self.spawner = Spawner()
        self.workers: list[PodWorker] = []
        self.images = ImageStore(folder / "images")
        rootfs = folder / "rootfs"
        install(rootfs / "usr/local/bin/tool", "#!/bin/sh\necho tool of the image\n")
        self.add_image("shell", "1", "b")
        self.services = AgentServices(
            api=cast(KubeApi, self.api),
            images=self.images,
            spawner=self.spawner,
            events=cast(EventRecorder, self.events),
            addresses=PodAddresses(),
            state_dir=folder,
            environment={"FUNGIBILITY_SANDBOX": str(folder)},
            # A restart's delay is 10 s of the kubelet's.
            speed=100.0,
        )
        self.node = Node(NODE, NodeDevices(folder / "nodes" / "node-1"))

    def add_image(self, repository: str, tag: str, base: str) -> None:
        config = ImageConfig(base_image=base, platform="linux/amd64", entrypoint=("/bin/sh", "-c"), env={"ACCELERATOR": "tpu"})
        self.images.add(repository=repository, tag=tag, config=config, rootfs=self.folder / "rootfs")

    def run(self, pod: Object) -> PodWorker:
        worker = PodWorker(pod, self.node, self.services)
        self.workers.append(worker)
        worker.start()
        return worker

    def log(self, container: str = "main", run: int = 0) -> str:
        """What the container said, without times and tags."""
        text = (self.folder / "pods" / "default_pod_uid-1" / container / f"{run}.log").read_text()
        return "\n".join(line.split(" ", 3)[3] for line in text.splitlines())

    def wait_started(self) -> None:
        """Ready, and past the shell's own start: a signal before it would find no trap."""
        self.api.wait(ready)
        eventually(lambda: "starts" in self.log())

    def close(self) -> None:
        for worker in self.workers:
            worker.lost()
            assert worker.ended.wait(10)
        self.spawner.stop()


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    shorten_waits(monkeypatch)
    result = Bench(tmp_path)
    yield result
    result.close()


def deleted(pod: Object, grace: int) -> Object:
    pod = copy.deepcopy(pod)
    pod["metadata"] |= {"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": grace}
    return pod


def ready(status: Object) -> bool:
    return any(each["type"] == "Ready" and each["status"] == "True" for each in status["conditions"])


def main_state(status: Object) -> Object:
    return cast(Object, status["containerStatuses"][0]["state"])


def waits_for(reason: str) -> Callable[[Object], bool]:
    return lambda status: main_state(status).get("waiting", {}).get("reason") == reason


def test_a_pod_runs_and_its_status_says_so(bench: Bench) -> None:
    bench.run(pod({"args": [STEADY]}))
    status = bench.api.wait(ready)
    assert status["phase"] == "Running"
    assert status["podIP"].startswith("10.88.")
    assert status["hostIP"] == "10.128.0.10"
    container = status["containerStatuses"][0]
    assert (container["ready"], container["started"], container["restartCount"]) == (True, True, 0)
    assert container["imageID"].startswith("shell:1@sha256:")
    assert [reason for reason, _ in bench.events.reasons] == ["Pulling", "Pulled", "Created", "Started"]
    # A strategic merge keeps what is in a list: the API server refuses two addresses of one family for ever.
    assert status["podIPs"] == [{"$patch": "replace"}, {"ip": status["podIP"]}]


def test_a_container_sees_its_environment_and_nothing_of_this_machines(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONLY_OF_THE_HOST", "1")
    bench.api.objects["/api/v1/namespaces/default/secrets/hf"] = {"data": {"token": base64.b64encode(b"t0k").decode()}}
    env = [
        {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "hf", "key": "token"}}},
        {"name": "NODE_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}},
        {"name": "URL", "value": "$(NODE_IP):8353"},
        {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
    ]
    bench.run(pod({"args": ["env; tool; test -c $TPU_DEVICE && echo device"], "env": env}, restartPolicy="Never"))
    status = bench.api.wait(lambda status: status["phase"] == "Succeeded")
    lines = bench.log().splitlines()
    assert {"TOKEN=t0k", "URL=10.128.0.10:8353", "ACCELERATOR=tpu", "HOSTNAME=pod", "SANDBOX_NODE_POOL=v6e-1"} <= set(lines)
    assert f"POD_IP={status['podIP']}" in lines
    assert f"POD_LOOPBACK={status['podIP'].replace('10.', '127.', 1)}" in lines
    assert {"tool of the image", "device"} <= set(lines)
    assert "ONLY_OF_THE_HOST" not in bench.log()


@pytest.mark.parametrize(("links", "expected"), [({}, {"KUBERNETES", "VLLM"}), ({"enableServiceLinks": False}, {"KUBERNETES"})])
def test_a_pod_gets_the_variables_of_its_namespaces_services_unless_it_wants_none(bench: Bench, links: Object, expected: set[str]) -> None:
    kubernetes, vllm = (
        {"metadata": {"name": name}, "spec": {"clusterIP": "10.96.0.1", "ports": [{"port": 1}]}} for name in ("kubernetes", "vllm")
    )
    bench.api.objects["/api/v1/namespaces/default/services/kubernetes"] = kubernetes
    bench.api.objects["/api/v1/namespaces/default/services"] = {"items": [kubernetes, vllm]}
    bench.run(pod({"args": ["env"]}, restartPolicy="Never", **links))
    bench.api.wait(lambda status: status["phase"] == "Succeeded")
    assert {line.split("_SERVICE_HOST=")[0] for line in bench.log().splitlines() if "_SERVICE_HOST=" in line} == expected


def test_a_pod_stays_ready_while_it_is_being_ended(bench: Bench) -> None:
    """Its endpoint is then "serving" though terminating, which is what a proxy falls back to."""
    made = pod({"args": [STEADY], "lifecycle": {"preStop": {"sleep": {"seconds": 1}}}})
    worker = bench.run(made)
    bench.wait_started()
    worker.update(deleted(made, 5))
    time.sleep(0.3)
    assert ready(bench.api.statuses[-1])
    bench.api.wait_removed()
    assert not ready(bench.api.statuses[-1])


@pytest.mark.parametrize("hook", [None, {"exec": {"command": ["sleep", "986"]}}, {"sleep": {"seconds": 986}}])
def test_a_second_deletion_shortens_the_grace_period_and_with_it_the_hook_before_the_end(bench: Bench, hook: Object | None) -> None:
    args = ["trap '' TERM; echo starts; while :; do sleep 0.05; done"]
    made = pod({"args": args, **({"lifecycle": {"preStop": hook}} if hook else {})}, terminationGracePeriodSeconds=60)
    worker = bench.run(made)
    bench.wait_started()
    worker.update(deleted(made, 60))
    time.sleep(0.2)
    worker.update(deleted(made, 0))
    # No more than what is left to a container after its hook, 2 s, and some.
    bench.api.wait_removed(5)
    assert processes_with("FUNGIBILITY_SANDBOX", str(bench.folder)) == []


def test_a_hook_that_fails_or_that_the_sandbox_does_not_run_is_told_and_the_container_ends_all_the_same(bench: Bench) -> None:
    hooks = ({"exec": {"command": ["sh", "-c", "echo ill; exit 3"]}}, {"httpGet": {"port": 80}})
    made = pod(*({"name": f"c{number}", "args": [STEADY], "lifecycle": {"preStop": hook}} for number, hook in enumerate(hooks)))
    worker = bench.run(made)
    bench.api.wait(ready)
    worker.update(deleted(made, 5))
    bench.api.wait_removed()
    assert {message for reason, message in bench.events.reasons if reason == "FailedPreStopHook"} == {
        "PreStopHook failed: command exited with 3: ill",
        "PreStopHook failed: the sandbox runs the hooks exec and sleep, not httpGet",
    }


def test_a_missing_secret_is_waited_for(bench: Bench) -> None:
    env = [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "late", "key": "k"}}}]
    bench.run(pod({"args": [STEADY], "env": env}))
    status = bench.api.wait(waits_for("CreateContainerConfigError"))
    assert main_state(status)["waiting"]["message"] == 'secret "late" not found'
    assert status["phase"] == "Pending"
    bench.api.objects["/api/v1/namespaces/default/secrets/late"] = {"data": {"k": "eA=="}}
    bench.api.wait(ready)


def test_a_missing_image_is_requested_again(bench: Bench) -> None:
    bench.run(pod({"image": "shell:2", "args": [STEADY]}))
    bench.api.wait(waits_for("ErrImagePull"))
    bench.api.wait(waits_for("ImagePullBackOff"))
    bench.add_image("shell", "2", "b")
    bench.api.wait(ready)


def test_what_crashes_is_restarted_at_once_and_then_ever_later(bench: Bench) -> None:
    bench.run(pod({"args": ["echo run; exit 3"]}))
    status = bench.api.wait(lambda status: status["containerStatuses"][0]["restartCount"] == 3)
    assert status["containerStatuses"][0]["lastState"]["terminated"]["exitCode"] == 3
    waiting = [main_state(each)["waiting"] for each in bench.api.statuses if waits_for("CrashLoopBackOff")(each)]
    assert [each["message"].split()[1] for each in waiting[:2]] == ["10s", "20s"]
    # The run before can still be read, those before it cannot.
    assert not (bench.folder / "pods/default_pod_uid-1/main/0.log").exists()


def test_nothing_else_is_probed_before_the_startup_probe_succeeds(bench: Bench) -> None:
    here = bench.folder / "up"
    startup = {"exec": {"command": ["test", "-e", str(here)]}, "periodSeconds": 0.05, "failureThreshold": 1000}
    liveness = {"exec": {"command": ["test", "-e", str(here)]}, "periodSeconds": 0.05, "failureThreshold": 1}
    bench.run(pod({"args": [STEADY], "startupProbe": startup, "livenessProbe": liveness}))
    time.sleep(0.7)
    container = bench.api.statuses[-1]["containerStatuses"][0]
    assert (container["started"], container["ready"], container["restartCount"]) == (False, False, 0)
    here.touch()
    bench.api.wait(ready)


def test_a_status_that_could_not_be_written_is_written_later(bench: Bench) -> None:
    bench.api.unreachable = True
    bench.run(pod({"args": [STEADY]}))
    time.sleep(0.3)
    assert not bench.api.statuses
    bench.api.unreachable = False
    bench.api.wait(ready)


def test_a_restarted_agent_starts_the_containers_again(bench: Bench) -> None:
    made = pod({"args": [STEADY]})
    made["status"] |= {
        "phase": "Running",
        "podIP": "10.88.253.3",
        "containerStatuses": [
            {
                "name": "main",
                "restartCount": 1,
                "containerID": "sandbox://before",
                "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
            }
        ],
    }
    bench.run(made)
    status = bench.api.wait(ready)
    container = status["containerStatuses"][0]
    assert status["podIP"] == "10.88.253.3"
    assert container["restartCount"] == 2
    assert container["lastState"]["terminated"]["reason"] == "ContainerStatusUnknown"


def test_a_container_that_mounts_its_service_account_finds_a_token_of_it_and_the_authority(bench: Bench) -> None:
    (bench.folder / "ca").write_text("authority")
    bench.services = replace(bench.services, api_server_ca=bench.folder / "ca")
    show = "cat $FUNGIBILITY_SERVICE_ACCOUNT_DIR/token $FUNGIBILITY_SERVICE_ACCOUNT_DIR/ca.crt"
    mount = {"name": "kube-api-access-1", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}
    bench.run(pod({"args": [show], "volumeMounts": [mount]}, serviceAccountName="timer", restartPolicy="Never"))
    bench.api.wait(lambda status: status.get("phase") == "Succeeded")
    assert bench.log() == "token of /api/v1/namespaces/default/serviceaccounts/timer/tokenauthority"
