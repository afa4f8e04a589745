"""The inference server in the cluster: the token's Secret, the Deployment of vLLM, and the load balancer in front of it.

Each pod has one container an accelerator; each container finds out which device its node has, and one serves while the
other idles (images/fungibility-entrypoint). Left out here: drain, disruption budget and autoscaling.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
from pulumi_kubernetes import apps, core

from components.accelerator_pool import AcceleratorPool
from components.accelerator_pools import COMPUTE_CLASS_KEY
from components.compute_class import preference_weights
from components.machines import KINDS, Kind, MachineType
from components.model_caches import (
    ModelCaches,
    cache_annotations,
    cache_environment,
    cache_mounts,
    cache_volumes,
    pod_service_account,
)
from components.probes import container_probes
from components.settings import Settings

APP_LABELS = {"app": "vllm"}
SERVER_PORT = 8000

SECRET_NAME = "hf-secret"  # noqa: S105 - the name of a Secret
SECRET_KEY = "hf_api_token"  # noqa: S105 - the key in it

#: Where GKE's driver installer leaves NVIDIA's libraries on a node, and where the image looks for them.
GPU_DRIVER_HOST_PATH = "/home/kubernetes/bin/nvidia"
GPU_DRIVER_MOUNT_PATH = "/usr/local/nvidia"

#: The pod requests neither device (it must fit nodes of both kinds), so GKE adds neither toleration.
TOLERATIONS = [
    {"key": key, "operator": "Exists", "effect": "NoSchedule"} for key in ("nvidia.com/gpu", "google.com/tpu")
]


@dataclass(frozen=True, kw_only=True)
class InferenceServerArgs:
    namespace: str
    compute_class_name: pulumi.Input[str]
    #: The best first.
    pools: tuple[AcceleratorPool, ...]
    #: Accelerator -> image by digest, for every accelerator of the pools.
    images: Mapping[Kind, pulumi.Input[str]]
    #: What pods keep between starts.
    caches: ModelCaches
    model: str
    max_model_len: int
    #: Accelerator -> more arguments for its server.
    server_arguments: Mapping[Kind, Sequence[str]]
    replicas: int
    #: Kubernetes quantities, each container's.
    cpu_request: str
    memory_request: str
    gpu_ephemeral_storage_limit: str
    service_port: int
    #: IPv4 CIDR; empty lets everyone in.
    load_balancer_source_ranges: Sequence[str]
    #: How long a server may take to start before its container is restarted.
    server_startup_seconds: int
    rollout_timeout_seconds: int
    hugging_face_token: pulumi.Input[str]

    @classmethod
    def of(
        cls,
        settings: Settings,
        *,
        compute_class_name: pulumi.Input[str],
        images: Mapping[Kind, pulumi.Input[str]],
        caches: ModelCaches,
    ) -> InferenceServerArgs:
        return cls(
            namespace=settings.namespace,
            compute_class_name=compute_class_name,
            pools=settings.accelerator_pools,
            images=images,
            caches=caches,
            model=settings.model,
            max_model_len=settings.max_model_len,
            server_arguments=settings.server_arguments,
            replicas=settings.replicas,
            cpu_request=settings.cpu_request,
            memory_request=settings.memory_request,
            gpu_ephemeral_storage_limit=settings.gpu_ephemeral_storage_limit,
            service_port=settings.service_port,
            load_balancer_source_ranges=settings.load_balancer_source_ranges,
            server_startup_seconds=settings.server_startup_seconds,
            rollout_timeout_seconds=settings.rollout_timeout_seconds,
            hugging_face_token=settings.hugging_face_token,
        )


def tpu_environment(machine: MachineType) -> list[dict[str, Any]]:
    """What libtpu reads in place of the metadata that a pod without a TPU request does not get, for one host.

    https://github.com/ai-on-gke/tutorials-and-examples, tutorial gpu-tpu/fungibility-recipes.
    """
    chips = ",".join(machine.topology.split("x")) + ",1"
    fixed = {
        "TPU_TOPOLOGY": machine.topology,
        "TPU_WORKER_ID": "0",
        "TPU_SKIP_MDS_QUERY": "true",
        "TPU_TOPOLOGY_WRAP": "false,false,false",
        "TPU_CHIPS_PER_HOST_BOUNDS": chips,
        "TPU_ACCELERATOR_TYPE": f"{machine.generation}-{machine.count}",
        "TPU_RUNTIME_METRICS_PORTS": ",".join(str(8431 + chip) for chip in range(machine.count)),
        "TPU_TOPOLOGY_ALT": "false",
        "CHIPS_PER_HOST_BOUNDS": chips,
        "TPU_WORKER_HOSTNAMES": "localhost",
        "HOST_BOUNDS": "1,1,1",
        "TPU_HOST_BOUNDS": "1,1,1",
    }
    return [
        *({"name": name, "value": value} for name, value in fixed.items()),
        {"name": "NODE_IP", "value_from": {"field_ref": {"field_path": "status.hostIP"}}},
        # After NODE_IP: a variable can use only those before it.
        {"name": "VBAR_CONTROL_SERVICE_URL", "value": "$(NODE_IP):8353"},
    ]


def server_arguments(kind: Kind, machine: MachineType, args: InferenceServerArgs) -> list[str]:
    """The command line of vLLM's server in the container of an accelerator."""
    arguments = ["--host=0.0.0.0", f"--port={SERVER_PORT}"]
    if kind == "gpu" or machine.count > 1:
        arguments.append(f"--tensor-parallel-size={machine.count}")
    if kind == "tpu":
        arguments.append(f"--max-model-len={args.max_model_len}")
    return [*arguments, f"--model={args.model}", *args.server_arguments[kind]]


def container_spec(kind: Kind, machine: MachineType, args: InferenceServerArgs) -> dict[str, Any]:
    """The container of one accelerator."""
    requests = {"cpu": args.cpu_request, "memory": args.memory_request}
    arguments = server_arguments(kind, machine, args)
    spec: dict[str, Any] = {
        "name": f"vllm-{kind}",
        "image": args.images[kind],
        "args": arguments,
        # Device files of the node are visible without requesting a device, which a pod for both kinds cannot do.
        "security_context": {"privileged": True},
        "env": [
            {
                "name": "HUGGING_FACE_HUB_TOKEN",
                "value_from": {"secret_key_ref": {"name": SECRET_NAME, "key": SECRET_KEY}},
            },
            *(tpu_environment(machine) if kind == "tpu" else []),
            *cache_environment(kind, machine, args.caches, image=args.images[kind], arguments=arguments),
        ],
        "resources": {"requests": requests},
        **container_probes(server_port=SERVER_PORT, startup_seconds=args.server_startup_seconds),
    }
    if kind == "gpu":
        storage = {"ephemeral-storage": args.gpu_ephemeral_storage_limit}
        spec["resources"] = {"requests": {**requests, **storage}, "limits": storage}
    if any(pool.kind == "gpu" for pool in args.pools):
        # In the TPU container too: it asks nvidia-smi whether this is the other's node.
        spec["volume_mounts"] = [{"name": "gpu", "mount_path": GPU_DRIVER_MOUNT_PATH}]
    if mounts := cache_mounts(kind, args.caches):
        spec["volume_mounts"] = [*spec.get("volume_mounts", []), *mounts]
    return spec


def affinity(pools: Sequence[AcceleratorPool]) -> dict[str, Any]:
    """One replica a node, and the best node that is free."""
    weights = preference_weights([pool.name for pool in pools])
    return {
        "pod_anti_affinity": {
            "required_during_scheduling_ignored_during_execution": [
                {"label_selector": {"match_labels": APP_LABELS}, "topology_key": "kubernetes.io/hostname"}
            ]
        },
        "node_affinity": {
            "preferred_during_scheduling_ignored_during_execution": [
                {
                    "weight": weight,
                    "preference": {
                        "match_expressions": [
                            {"key": "cloud.google.com/gke-nodepool", "operator": "In", "values": [name]}
                        ]
                    },
                }
                for name, weight in weights.items()
            ]
        },
    }


def pod_spec(args: InferenceServerArgs) -> dict[str, Any]:
    """The pod template's spec: only the containers that the pools need, GPU first as in the walkthrough."""
    machines: dict[Kind, MachineType] = {pool.kind: pool.machine for pool in args.pools}
    spec: dict[str, Any] = {
        "node_selector": {COMPUTE_CLASS_KEY: args.compute_class_name},
        "tolerations": TOLERATIONS,
        "affinity": affinity(args.pools),
        # Said in every case: one that is no longer said stays, by the older field `serviceAccount` that Kubernetes fills from
        # it, and pods of an account that is gone are refused.
        "service_account_name": pod_service_account(args.caches),
        "containers": [container_spec(kind, machines[kind], args) for kind in KINDS if kind in machines],
    }
    if "gpu" in machines:
        spec["volumes"] = [{"name": "gpu", "host_path": {"path": GPU_DRIVER_HOST_PATH, "type": "DirectoryOrCreate"}}]
    if volumes := cache_volumes(tuple(machines), args.caches):
        spec["volumes"] = [*spec.get("volumes", []), *volumes]
    return spec


def rolling_update(replicas: int, pools: Sequence[AcceleratorPool]) -> dict[str, int]:
    """Never below the running capacity: the new pod comes first, on a node of its own that the class may add for it.

    Where replicas fill every node that the pools may have, the new pod would wait for ever for one: there the old goes first.
    """
    if replicas < sum(pool.max_nodes for pool in pools):
        return {"max_surge": 1, "max_unavailable": 0}
    return {"max_surge": 0, "max_unavailable": 1}


def deployment_spec(args: InferenceServerArgs) -> Any:
    metadata: dict[str, Any] = {"labels": APP_LABELS}
    if annotations := cache_annotations(args.caches):
        metadata["annotations"] = annotations
    return {
        "replicas": args.replicas,
        "selector": {"match_labels": APP_LABELS},
        "strategy": {"type": "RollingUpdate", "rolling_update": rolling_update(args.replicas, args.pools)},
        # Kubernetes's own patience (10 minutes) ends before a TPU node and its server are there.
        "progress_deadline_seconds": args.rollout_timeout_seconds,
        "template": {"metadata": metadata, "spec": pod_spec(args)},
    }


def service_spec(args: InferenceServerArgs) -> Any:
    spec: dict[str, Any] = {
        "type": "LoadBalancer",
        "selector": APP_LABELS,
        "ports": [{"protocol": "TCP", "port": args.service_port, "target_port": SERVER_PORT}],
    }
    # Kubernetes takes a missing list to mean that everyone may come in.
    if args.load_balancer_source_ranges:
        spec["load_balancer_source_ranges"] = list(args.load_balancer_source_ranges)
    return spec


def _ingress_ip(status: Any) -> str:
    """The provider waits until the load balancer has an address."""
    return str(status.load_balancer.ingress[0].ip)


def make_service_url(ip: str, port: int) -> str:
    """The base URL of an OpenAI client."""
    return f"http://{ip}/v1" if port == 80 else f"http://{ip}:{port}/v1"


class InferenceServer(pulumi.ComponentResource):
    """vLLM behind a load balancer."""

    service_ip: pulumi.Output[str]
    #: Ends in `/v1`.
    service_url: pulumi.Output[str]

    def __init__(self, name: str, args: InferenceServerArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("fungibility:index:InferenceServer", name, None, opts)
        secret = core.v1.Secret(
            f"{name}-{SECRET_NAME}",
            metadata={"name": SECRET_NAME, "namespace": args.namespace},
            # There for a model that needs no token too, holding nothing, so that the pod is the same for all.
            string_data={SECRET_KEY: args.hugging_face_token},
            opts=pulumi.ResourceOptions(parent=self),
        )
        apps.v1.Deployment(
            name,
            metadata={
                "name": "vllm",
                "namespace": args.namespace,
                "labels": APP_LABELS,
                "annotations": {
                    "pulumi.com/timeoutSeconds": str(args.rollout_timeout_seconds),
                    # `kubectl scale` makes kubectl the owner of the replicas; the next update would fail on that.
                    "pulumi.com/patchForce": "true",
                },
            },
            spec=deployment_spec(args),
            # The pod names the Secret as text, which no output of the Secret's says.
            opts=pulumi.ResourceOptions(parent=self, depends_on=[secret]),
        )
        # Not after the Deployment, nor the Deployment after it: each waits for what the other gives it.
        service = core.v1.Service(
            f"{name}-service",
            metadata={
                "name": "vllm-service",
                "namespace": args.namespace,
                "annotations": {"pulumi.com/timeoutSeconds": str(args.rollout_timeout_seconds)},
            },
            spec=service_spec(args),
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.service_ip = service.status.apply(_ingress_ip)
        self.service_url = self.service_ip.apply(lambda ip: make_service_url(ip, args.service_port))
        self.register_outputs({"service_ip": self.service_ip, "service_url": self.service_url})
