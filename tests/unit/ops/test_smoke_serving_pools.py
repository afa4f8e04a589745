"""Which node pools serve, asked of an API server that answers as Kubernetes does, and of some that do not."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from urllib3.util import Retry

from ops.findings import Finding
from ops.smoke import checks
from ops.smoke.checks import Limits
from ops.smoke.serving_pools import UnknownPool, serving_pods
from ops.smoke.target import Target
from tests.unit.misbehaving_server import MODEL, Handler, Reply, Server, says, serving

SERVICES = "/api/v1/namespaces/default/services"
PODS = "/api/v1/namespaces/default/pods"
NODES = "/api/v1/nodes"
GATEWAYS = "/apis/gateway.networking.k8s.io/v1/namespaces/default/gateways"


def service(ip: str = "198.51.100.7", port: int = 80) -> dict[str, Any]:
    return {
        "metadata": {"name": "vllm-service"},
        "spec": {"selector": {"app": "vllm", "tier": "x"}, "ports": [{"port": port, "targetPort": 8000}]},
        "status": {"loadBalancer": {"ingress": [{"ip": ip}]}},
    }


def pod(name: str, node: str, *, ready: bool = True, ending: bool = False) -> dict[str, Any]:
    metadata = {"name": name} | ({"deletionTimestamp": "2026-01-01T00:00:00Z"} if ending else {})
    conditions = [{"type": "Ready", "status": str(ready)}]
    return {"metadata": metadata, "spec": {"nodeName": node, "containers": []}, "status": {"conditions": conditions}}


def node(name: str, pool: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": {"cloud.google.com/gke-nodepool": pool}}}


class _ByPath(dict[str, Reply]):
    """Answers by the path alone, whatever the query."""

    def __missing__(self, path: str) -> Reply:
        return self[path.partition("?")[0]]


@contextmanager
def api_server(folder: Path, **changes: Any) -> Iterator[tuple[Server, str]]:
    """A server with `services`, `pods` and `nodes` (lists, or a whole reply), and the kubeconfig for it."""
    objects: dict[str, Any] = {
        "services": [service("10.0.0.1"), service()],
        "pods": [pod("vllm-a", "node-1")],
        "nodes": [node("node-1", "v6e-1"), node("node-2", "l4")],
        "gateways": says({"message": "the server could not find the requested resource"}, 404),
    } | changes
    paths = {"services": SERVICES, "pods": PODS, "nodes": NODES, "gateways": GATEWAYS}
    with serving() as server:
        server.replies = _ByPath({paths[name]: each if callable(each) else says({"items": each}) for name, each in objects.items()})
        kubeconfig = folder / "kubeconfig"
        kubeconfig.write_text(
            yaml.safe_dump(
                {
                    "clusters": [{"name": "c", "cluster": {"server": server.url.removesuffix("/v1")}}],
                    "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                    "current-context": "c",
                    "users": [{"name": "u", "user": {"token": "a-token"}}],
                }
            )
        )
        yield server, str(kubeconfig)


def kubectl_that_forwards(folder: Path, monkeypatch: pytest.MonkeyPatch, ports: Mapping[str, int], **cases: str) -> None:
    """Puts a kubectl first on PATH that leads to a pod's port of this machine. `cases`: words of a command line -> what is done instead."""
    forwards = {f"port-forward pod/{name} :8000": f"echo Forwarding from 127.0.0.1:{port} -; exec sleep 60" for name, port in ports.items()}
    lines = "".join(f'*"{words.replace("_", " ")}"*) {command} ;;\n' for words, command in (forwards | cases).items())
    script = folder / "kubectl"
    script.write_text(f'#!/bin/sh\ncd {folder}\ncase "$*" in\n{lines}*) echo "error: forbidden" >&2; exit 1 ;;\nesac\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def of_stack(url: str = "http://198.51.100.7/v1") -> Target:
    return Target(
        service_url=url,
        model=MODEL,
        stack="dev",
        service_ip="198.51.100.7",
        namespace="default",
        cluster_name="my-cluster",
        cluster_location="asia-northeast1",
        pools=("v6e-1", "l4-spot", "l4"),
    )


def pool_check(kubeconfig: str, model_server: Server, **options: Any) -> Finding:
    """The check of a service that says nothing of its pod; its cluster knows it by another address."""
    target = of_stack(model_server.url)
    (found,) = [
        each for each in checks.run(target, limits=Limits(healthy=1.0), kubeconfig=kubeconfig, **options).checks if each.field == "pool"
    ]
    return found


def test_ready_pods_behind_the_stacks_own_service_are_found_with_their_pools(tmp_path: Path) -> None:
    pods = [pod("vllm-a", "node-1"), pod("vllm-b", "node-2", ready=False), pod("vllm-c", "node-2", ending=True), pod("vllm-d", "node-3")]
    with api_server(tmp_path, pods=pods) as (server, kubeconfig):
        assert [(each.name, each.pool) for each in serving_pods(of_stack(), kubeconfig)] == [("vllm-a", "v6e-1"), ("vllm-d", "no pool")]
        (asked,) = [path for path, _, _ in server.seen if path.startswith(PODS)]
    assert "labelSelector=app%3Dvllm%2Ctier%3Dx" in asked


@pytest.mark.parametrize("found", [True, False])
def test_pods_behind_a_gateway_with_the_stacks_address_are_found_by_the_service_of_its_name(tmp_path: Path, found: bool) -> None:
    gateway = {"metadata": {"name": "vllm-service"}, "status": {"addresses": [{"value": "198.51.100.7" if found else "10.0.0.9"}]}}
    with api_server(tmp_path, services=[service("10.0.0.1")], gateways=[gateway, {"metadata": {"name": "new"}}]) as (_, kubeconfig):
        if found:
            assert [each.port for each in serving_pods(of_stack(), kubeconfig)] == [8000]
        else:
            with pytest.raises(UnknownPool, match="neither a Service nor a Gateway .* another cluster"):
                serving_pods(of_stack(), kubeconfig)


@pytest.mark.parametrize("port", [80, 8080])
def test_cluster_without_the_stacks_address_and_port_is_not_believed(tmp_path: Path, port: int) -> None:
    others = [service("10.0.0.1"), service(port=443)]
    url = "http://198.51.100.7/v1" if port == 80 else f"http://198.51.100.7:{port}/v1"
    with (
        api_server(tmp_path, services=others) as (_, kubeconfig),
        pytest.raises(UnknownPool, match="another cluster .*get-credentials my-cluster --location asia-northeast1"),
    ):
        serving_pods(of_stack(url), kubeconfig)


def test_every_failure_to_reach_the_cluster_is_reported(tmp_path: Path) -> None:
    def told(kubeconfig: str, target: Target | None = None) -> str:
        with pytest.raises(UnknownPool) as caught:
            serving_pods(target or of_stack(), kubeconfig)
        return str(caught.value)

    assert "no cluster access" in told(str(tmp_path / "none"))
    assert "without --stack" in told("", Target(service_url="http://h/v1", model=MODEL))
    with api_server(tmp_path, services=says({"kind": "Status", "message": "no"}, 403)) as (_, kubeconfig):
        assert "answers 403" in told(kubeconfig)
    # The server is gone.
    assert "does not answer" in told(kubeconfig)


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Retry, "sleep", lambda *_: None)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_an_api_server_that_is_busy_for_a_moment_is_asked_again(tmp_path: Path, status: int) -> None:
    answers = [says({"message": "busy"}, status), says({"message": "busy"}, status), says({"items": [service()]})]
    with api_server(tmp_path, services=lambda handler: answers.pop(0)(handler)) as (_, kubeconfig):
        assert [each.pool for each in serving_pods(of_stack(), kubeconfig)] == ["v6e-1"]
    with (
        api_server(tmp_path, services=says({"message": "busy"}, status)) as (server, kubeconfig),
        pytest.raises(UnknownPool, match=f"answers {status}"),
    ):
        serving_pods(of_stack(), kubeconfig)
    assert len(server.seen) == 3


def test_an_expired_login_is_reported_once_with_its_fix(tmp_path: Path) -> None:
    with (
        api_server(tmp_path, services=says({"message": "Unauthorized"}, 401)) as (server, kubeconfig),
        pytest.raises(UnknownPool, match="401 .*log in again .*gcloud auth login"),
    ):
        serving_pods(of_stack(), kubeconfig)
    assert len(server.seen) == 1


@contextmanager
def both(folder: Path, **changes: Any) -> Iterator[tuple[str, Server]]:
    """A cluster, and the model server that its Service leads to."""
    with serving() as model_server:
        services = [service(port=model_server.server_port)]
        with api_server(folder, **{"services": services, **changes}) as (_, kubeconfig):
            yield kubeconfig, model_server


def test_one_pool_of_ready_pods_is_the_pool_that_answered(tmp_path: Path) -> None:
    with both(tmp_path, pods=[pod("a", "node-1"), pod("b", "node-1")]) as (kubeconfig, server):
        found = pool_check(kubeconfig, server)
        assert (found.status, found.value) == ("ok", "v6e-1 (1 of 3): 2 ready")
        assert pool_check(kubeconfig, server, expected_pool="v6e-1").status == "ok"
        report = checks.run(of_stack(server.url), limits=Limits(healthy=1.0), kubeconfig=kubeconfig)
    assert json.loads(json.dumps(report.document()))["served_by"] == {"pool": "v6e-1", "priority": 1, "ready": 2}


def test_several_pools_are_named_best_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kubectl_that_forwards(tmp_path, monkeypatch, {})
    with both(tmp_path, pods=[pod("b", "node-2"), pod("a", "node-1")]) as (kubeconfig, server):
        found = pool_check(kubeconfig, server)
        assert (found.status, found.value) == ("ok", "one of v6e-1 (1 of 3): 1 ready, l4 (3 of 3): 1 ready")
        assert pool_check(kubeconfig, server, expected_pool="v6e-1").status == "failed"


def test_no_ready_pod_is_a_failure_with_a_fix(tmp_path: Path) -> None:
    with both(tmp_path, pods=[pod("a", "node-1", ready=False)]) as (kubeconfig, server):
        found = pool_check(kubeconfig, server)
    assert (found.status, found.value) == ("failed", "no pod is ready behind the service")
    assert "describe pods" in found.fix


def test_expected_pool_that_cannot_be_found_out_is_a_failure(tmp_path: Path) -> None:
    def refuses(handler: Handler) -> None:
        says({"message": "no"}, 401)(handler)

    with both(tmp_path, services=refuses) as (kubeconfig, server):
        assert pool_check(kubeconfig, server).status == "skipped"
        found = pool_check(kubeconfig, server, expected_pool="v6e-1")
    assert found.status == "failed"
    assert "cannot be found out: the cluster of the kubeconfig answers 401" in found.value
