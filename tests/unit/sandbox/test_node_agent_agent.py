"""Which pods the node agent takes on, as nodes and pods come and go: real processes, and news from the test."""

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest
from kubernetes import client

from sandbox.host.addresses import PodAddresses
from sandbox.host.certificates import Certificates
from sandbox.host.processes import Spawner, processes_with
from sandbox.images.image_store import ImageConfig, ImageStore
from sandbox.node_agent import NodeAgent
from sandbox.node_agent import agent as agent_module
from tests.unit.sandbox.helpers import FakeWatcher, eventually
from tests.unit.sandbox.test_node_agent_worker import NODE, STEADY, FakeApi, FakeEvents, Object, deleted, pod, ready, shorten_waits


class FakeRecorder(FakeEvents):
    def __init__(self, api: FakeApi, component: str) -> None:
        super().__init__()

    def stop(self) -> None:
        pass


class Cluster:
    """An agent of a cluster with nothing in it yet."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, certificates: Certificates) -> None:
        FakeWatcher.made = {}
        self.api = FakeApi()
        self.api.objects["/api/v1/namespaces/default/services"] = {"items": []}
        monkeypatch.setattr(agent_module, "Watcher", FakeWatcher)
        monkeypatch.setattr(agent_module, "EventRecorder", FakeRecorder)
        monkeypatch.setattr(agent_module, "KubeApi", lambda _: self.api)
        self.folder = folder
        self.lost: list[str] = []
        self.spawner = Spawner()
        images = ImageStore(folder / "images")
        (folder / "rootfs").mkdir()
        config = ImageConfig(base_image="b", platform="linux/amd64", entrypoint=("/bin/sh", "-c"))
        images.add(repository="shell", tag="1", config=config, rootfs=folder / "rootfs")
        self.agent = NodeAgent(
            client.ApiClient(client.Configuration()),
            images=images,
            state_dir=folder,
            pod_addresses=PodAddresses(),
            environment={"FUNGIBILITY_SANDBOX": str(folder), "ONLY_OF_THE_DAEMON": "1"},
            speed=100.0,
            pull_seconds=lambda node, image: 0.0,
            spawner=self.spawner,
            cert_file=certificates.server,
            key_file=certificates.server_key,
            machine_ends=self.lose_machine,
        )
        self.agent.start()
        self.nodes, self.pods = FakeWatcher.made["nodes"], FakeWatcher.made["pods"]

    def lose_machine(self, node: str) -> None:
        self.lost.append(node)
        self.nodes.event("DELETED", NODE)

    def processes(self) -> int:
        """How many processes of the cluster's containers there are."""
        return len(processes_with("FUNGIBILITY_SANDBOX", str(self.folder)))

    def running(self, pod: Object) -> Object:
        """Waits until the pod is ready; returns it as the API server has it then."""
        status = self.api.wait(ready)
        eventually(lambda: self.processes() > 0)
        return {**copy.deepcopy(pod), "status": status}


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, certificates: Certificates) -> Iterator[Cluster]:
    shorten_waits(monkeypatch)
    result = Cluster(tmp_path, monkeypatch, certificates)
    yield result
    result.agent.stop()
    result.spawner.stop()


def restarts(status: Object) -> int:
    return int(status["containerStatuses"][0]["restartCount"])


def test_a_pod_that_is_missing_from_a_new_list_is_ended_and_its_files_go(cluster: Cluster) -> None:
    cluster.nodes.sync([NODE])
    cluster.pods.sync([pod({"args": [STEADY]})])
    cluster.running(pod({"args": [STEADY]}))
    cluster.pods.sync([])
    eventually(lambda: cluster.processes() == 0)
    eventually(lambda: not list((cluster.folder / "pods").iterdir()))
    assert not cluster.api.removed


def test_a_node_that_comes_again_runs_its_pods_again_as_after_a_reboot(cluster: Cluster) -> None:
    cluster.nodes.sync([NODE])
    cluster.pods.sync([pod({"args": [STEADY]})])
    before = cluster.running(pod({"args": [STEADY]}))
    cluster.pods.event("MODIFIED", before)
    cluster.nodes.event("DELETED", NODE)
    cluster.nodes.event("ADDED", NODE)
    status = cluster.api.wait(lambda status: ready(status) and restarts(status) == 1)
    assert status["podIP"] == before["status"]["podIP"]
    eventually(lambda: cluster.processes() > 0)


def test_a_pod_that_was_deleted_while_its_node_was_away_is_removed_when_the_node_comes_again(cluster: Cluster) -> None:
    cluster.nodes.sync([NODE])
    cluster.pods.sync([pod({"args": [STEADY]})])
    before = cluster.running(pod({"args": [STEADY]}))
    cluster.nodes.event("DELETED", NODE)
    cluster.pods.event("MODIFIED", deleted(before, 5))
    cluster.nodes.event("ADDED", NODE)
    cluster.api.wait_removed()
    assert cluster.processes() == 0


def test_a_missing_log_is_reported_with_the_kubelets_message(cluster: Cluster) -> None:
    cluster.nodes.sync([NODE])
    cluster.pods.sync([pod({"image": "absent:1"})])
    cluster.api.wait(lambda status: "waiting" in status["containerStatuses"][0]["state"])
    cases = {
        ("pod", "main", False): 'container "main" in pod "pod" is waiting to start: (ErrImagePull|ImagePullBackOff)',
        ("pod", "main", True): 'previous terminated container "main" in pod "pod" not found',
        ("pod", "other", False): "container other not found in pod default/pod",
        ("other", "main", False): "pod default/other does not run",
    }
    for (name, container, previous), message in cases.items():
        with pytest.raises(LookupError, match=message):
            cluster.agent._find_log("default", name, container, previous)
