"""What settings make of the Deployment and the Service. What the stacks' own settings make of them is in tests/unit/golden."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pulumi
import pytest

from components.catalog.machines import MACHINE_TYPES
from components.serving.inference_server import ingress_ip, make_service_url, tpu_environment
from tests.unit.program import NAMESPACE, Run, config, run_program

DEPLOYMENT = "kubernetes:apps/v1:Deployment"
SERVICE = "kubernetes:core/v1:Service"
DISRUPTION_BUDGET = "kubernetes:policy/v1:PodDisruptionBudget"


@pytest.fixture(scope="module")
def dev() -> Run:
    return run_program()


@pytest.fixture(scope="module")
def pod(dev: Run) -> dict[str, Any]:
    return _pod(dev)


def _pod(run: Run) -> dict[str, Any]:
    spec: dict[str, Any] = run.only(DEPLOYMENT).inputs["spec"]["template"]["spec"]
    return spec


def _container(pod: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [each for each in pod["containers"] if each["name"] == name]
    assert isinstance(found, dict)
    return found


def test_node_address_is_defined_before_the_variable_that_uses_it(pod: dict[str, Any]) -> None:
    names = [each["name"] for each in _container(pod, "vllm-tpu")["env"]]
    assert names.index("NODE_IP") < names.index("VBAR_CONTROL_SERVICE_URL")
    (node_ip,) = [each for each in _container(pod, "vllm-tpu")["env"] if each["name"] == "NODE_IP"]
    assert node_ip["valueFrom"] == {"fieldRef": {"fieldPath": "status.hostIP"}}


@pytest.mark.parametrize(
    ("overrides", "update", "warned"),
    [
        ({}, {"maxSurge": 1, "maxUnavailable": 0}, False),
        (
            {"surgeOnUpdate": False, "acceleratorPools": [{"name": "l4", "machineType": "g2-standard-4", "maxNodeCount": 1}]},
            {"maxSurge": 0, "maxUnavailable": 1},
            True,
        ),
        ({"surgeOnUpdate": False, "replicas": 2}, {"maxSurge": 0, "maxUnavailable": 1}, False),
    ],
)
def test_without_a_surge_one_node_is_enough_and_the_preview_says_what_an_update_costs(
    overrides: dict[str, Any], update: dict[str, int], warned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    warnings: list[str] = []
    monkeypatch.setattr(pulumi.log, "warn", lambda message, resource=None: warnings.append(message))
    run = run_program(overrides)
    assert run.only(DEPLOYMENT).inputs["spec"]["strategy"] == {"type": "RollingUpdate", "rollingUpdate": update}
    assert any("surgeOnUpdate: false ends the only replica" in each for each in warnings) == warned


def test_replicas_avoid_a_disabled_pool_and_the_rest_keeps_its_order() -> None:
    pools = json.loads(config()[f"{NAMESPACE}:acceleratorPools"])
    pools[0]["enabled"] = False
    node_affinity = _pod(run_program({"acceleratorPools": pools}))["affinity"]["nodeAffinity"]
    assert node_affinity["requiredDuringSchedulingIgnoredDuringExecution"] == {
        "nodeSelectorTerms": [{"matchExpressions": [{"key": "cloud.google.com/gke-nodepool", "operator": "NotIn", "values": ["v6e-1"]}]}]
    }
    preferred = node_affinity["preferredDuringSchedulingIgnoredDuringExecution"]
    assert [each["preference"]["matchExpressions"][0]["values"] for each in preferred] == [["l4-spot"], ["l4"]]


def test_containers_of_a_disabled_pool_stay_so_that_nothing_is_built_when_it_comes_back() -> None:
    pools = json.loads(config()[f"{NAMESPACE}:acceleratorPools"])
    pools[0]["enabled"] = False
    containers = _pod(run_program({"acceleratorPools": pools}))["containers"]
    assert [each["name"] for each in containers] == ["vllm-gpu", "vllm-tpu"]


def test_settings_that_decide_an_answer_are_the_same_on_every_accelerator() -> None:
    pod = _pod(run_program({"maxModelLen": 4096, "modelRevision": "ba1cf1846d7df0a0591d6c00649f57e798519da8"}))
    for name in ("vllm-gpu", "vllm-tpu"):
        arguments = _container(pod, name)["args"]
        assert "--max-model-len=4096" in arguments
        assert "--revision=ba1cf1846d7df0a0591d6c00649f57e798519da8" in arguments


def test_the_limit_of_requests_goes_to_servers_that_know_it() -> None:
    pod = _pod(run_program({"maxQueuedRequests": 512}))
    limited = [name for name in ("vllm-gpu", "vllm-tpu") if "--max-num-queued-reqs=512" in _container(pod, name)["args"]]
    assert limited == ["vllm-gpu"], "the default TPU image has vLLM 0.27, and 0.31 brought the option"


@pytest.mark.parametrize(
    ("endpoint", "protocol"), [("http://collector.observability:4317", "grpc"), ("http://collector:4318/v1/traces", "http/protobuf")]
)
def test_traces_name_the_pod_and_the_node_and_go_the_way_that_the_endpoint_takes(endpoint: str, protocol: str) -> None:
    pod = _pod(run_program({"tracesEndpoint": endpoint, "requestIds": True}))
    for name in ("vllm-gpu", "vllm-tpu"):
        container = _container(pod, name)
        assert {f"--otlp-traces-endpoint={endpoint}", "--enable-request-id-headers"} <= set(container["args"])
        environment = {each["name"]: each.get("value") for each in container["env"]}
        assert environment["OTEL_RESOURCE_ATTRIBUTES"] == "k8s.pod.name=$(POD_NAME),k8s.node.name=$(NODE_NAME)"
        assert environment["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"] == protocol


def test_the_walkthrough_s_own_tpu_image_gets_no_option_that_it_refuses() -> None:
    walkthrough = "docker.io/vllm/vllm-tpu:2e33fe419186c65a18da6668972d61d7bbc31564"
    arguments = _container(
        _pod(run_program({"tpuBaseImage": walkthrough, "tpuServerDrains": False, "requestIds": True, "tracesEndpoint": "http://c:4317"})),
        "vllm-tpu",
    )["args"]
    assert not [
        each for each in arguments if each.startswith(("--shutdown-timeout", "--generation-config", "--enable-request-id", "--otlp"))
    ]


def test_processes_of_a_server_with_several_chips_have_shared_memory(pod: dict[str, Any]) -> None:
    pools = [{"name": "l4x4", "machineType": "g2-standard-48", "maxNodeCount": 2}, json.loads(config()[f"{NAMESPACE}:acceleratorPools"])[0]]
    both = _pod(run_program({"acceleratorPools": pools}))
    (volume,) = [each for each in both["volumes"] if "emptyDir" in each]
    assert volume == {"name": "shared-memory-gpu", "emptyDir": {"medium": "Memory", "sizeLimit": "4Gi"}}
    mount = {"name": "shared-memory-gpu", "mountPath": "/dev/shm"}
    assert mount in _container(both, "vllm-gpu")["volumeMounts"]
    assert mount not in _container(both, "vllm-tpu")["volumeMounts"]
    assert not [each for each in pod["volumes"] if "emptyDir" in each]


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({"replicas": 2}, {"maxUnavailable": 1}),
        ({"replicas": 3, "keepLastReplica": True}, {"maxUnavailable": 1}),
        ({"replicas": 1, "keepLastReplica": True}, {"minAvailable": 1}),
        ({"replicas": 1, "maxReplicas": 3, "keepLastReplica": True}, {"minAvailable": "50%"}),
        ({"replicas": 2, "maxReplicas": 4, "keepLastReplica": True}, {"maxUnavailable": 1}),
        ({"replicas": 1, "keepLastReplica": False}, {"maxUnavailable": 1}),
    ],
)
def test_budget_lets_replicas_move_one_at_a_time_and_keeps_the_last(overrides: dict[str, Any], expected: dict[str, int]) -> None:
    spec = run_program(overrides).only(DISRUPTION_BUDGET).inputs["spec"]
    assert {key: value for key, value in spec.items() if key in ("minAvailable", "maxUnavailable")} == expected
    assert spec["selector"] == {"matchLabels": {"app": "vllm"}}
    assert spec["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


def test_a_budget_of_the_other_kind_has_another_name_since_no_preview_sees_the_change_otherwise() -> None:
    names = {keep: run_program({"keepLastReplica": keep}).only(DISRUPTION_BUDGET).inputs["metadata"]["name"] for keep in (True, False)}
    assert names == {True: "vllm-keep-last", False: "vllm"}


def test_servers_use_all_accelerators_of_a_machine() -> None:
    pools = [
        {"name": "v6e-4", "machineType": "ct6e-standard-4t", "maxNodeCount": 2},
        {"name": "l4x2", "machineType": "g2-standard-24", "maxNodeCount": 2},
    ]
    pod = _pod(run_program({"acceleratorPools": pools}))
    assert "--tensor-parallel-size=2" in _container(pod, "vllm-gpu")["args"]
    assert "--tensor-parallel-size=4" in _container(pod, "vllm-tpu")["args"]
    environment = {each["name"]: each.get("value") for each in _container(pod, "vllm-tpu")["env"]}
    assert environment["TPU_CHIPS_PER_HOST_BOUNDS"] == environment["CHIPS_PER_HOST_BOUNDS"] == "2,2,1"
    assert environment["TPU_ACCELERATOR_TYPE"] == "v6e-4"
    assert environment["TPU_RUNTIME_METRICS_PORTS"] == "8431,8432,8433,8434"


@pytest.mark.parametrize("machine_type", [name for name, machine in MACHINE_TYPES.items() if machine.kind == "tpu"])
def test_chips_of_a_host_are_as_many_as_the_machine_has(machine_type: str) -> None:
    machine = MACHINE_TYPES[machine_type]
    environment = {each["name"]: str(each.get("value")) for each in tpu_environment(machine)}
    x, y, z = map(int, environment["TPU_CHIPS_PER_HOST_BOUNDS"].split(","))
    assert x * y * z == machine.count


def test_a_stack_with_only_tpus_runs_one_container_without_nvidia_s_volume() -> None:
    pools = json.loads(config()[f"{NAMESPACE}:acceleratorPools"])[:1]
    run = run_program({"acceleratorPools": pools, "gpuBaseImage": ""})
    pod = _pod(run)
    assert [each["name"] for each in pod["containers"]] == ["vllm-tpu"]
    assert [each["name"] for each in pod["volumes"]] == ["xla-cache"]
    assert list(run.outputs["images"]) == ["tpu"]


@pytest.mark.parametrize(("port", "url"), [(80, "http://198.51.100.7/v1"), (8080, "http://198.51.100.7:8080/v1")])
def test_service_url_is_a_base_url_that_names_a_port_only_where_needed(port: int, url: str) -> None:
    assert make_service_url("198.51.100.7", port) == url


@pytest.mark.parametrize(
    "status",
    [
        None,
        SimpleNamespace(load_balancer=None),
        SimpleNamespace(load_balancer=SimpleNamespace(ingress=None)),
        SimpleNamespace(load_balancer=SimpleNamespace(ingress=[])),
    ],
)
def test_a_service_that_could_not_be_made_has_no_address_and_ends_the_program_with_no_traceback(status: Any) -> None:
    assert ingress_ip(status) is None
