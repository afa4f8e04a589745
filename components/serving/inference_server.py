"""The inference server in the cluster: its Secrets, the Deployment of vLLM with its disruption budget, its scraping and its network
policy, the timer of its fallback, and the load balancer in front of it.

Each pod has one container for each accelerator. Each container finds out which device its node has, and one serves while
the other idles (images/fungibility-entrypoint). Left out: what the number of replicas follows (`replica_autoscaler`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
from pulumi_kubernetes import apiextensions, apps, core, policy

from components.catalog.machines import KINDS, Kind, MachineType
from components.catalog.node_labels import COMPUTE_CLASS_LABEL, NODE_POOL_LABEL
from components.catalog.shutdown import MIN_READY_SECONDS, PROXY_KEEP_ALIVE_SECONDS, settle_seconds
from components.catalog.vllm_releases import GENERATION_CONFIG, QUEUE_LIMIT, REQUEST_IDS, TRACING, Release
from components.cluster.compute_class import preference_weights
from components.serving import api_key, drain
from components.serving.device_access import DeviceAccess, device_access, device_resources, security_context
from components.serving.disruption_budget import disruption_budget_name, disruption_budget_spec
from components.serving.fallback_timer import FallbackTimer, FallbackTimerArgs
from components.serving.load_balancer import service_annotations
from components.serving.model_caches import (
    ModelCaches,
    cache_annotations,
    cache_environment,
    cache_mounts,
    cache_volumes,
    pod_service_account,
)
from components.serving.network_policy import network_policy, service_arguments
from components.serving.pod_monitoring import pod_monitoring_spec
from components.serving.probes import container_probes
from components.serving.shared_memory import shared_memory_mounts, shared_memory_volumes
from components.settings.accelerator_pool import AcceleratorPool
from components.settings.sections import AcceleratorSettings, NetworkSettings, ScalingSettings, ServerSettings

APP_LABELS = {"app": "vllm"}
DEPLOYMENT_NAME = "vllm"
SERVICE_NAME = "vllm-service"
SERVER_PORT = 8000

SECRET_NAME = "hf-secret"  # noqa: S105 - the name of a Secret
SECRET_KEY = "hf_api_token"  # noqa: S105 - the key in it

#: Where GKE's driver installer puts NVIDIA's libraries on a node, and where the image looks for them.
GPU_DRIVER_HOST_PATH = "/home/kubernetes/bin/nvidia"
GPU_DRIVER_MOUNT_PATH = "/usr/local/nvidia"

#: The pod requests neither device (it must fit nodes of both kinds), so GKE adds neither toleration.
TOLERATIONS = [{"key": key, "operator": "Exists", "effect": "NoSchedule"} for key in ("nvidia.com/gpu", "google.com/tpu")]


@dataclass(frozen=True)
class InferenceServerArgs:
    server: ServerSettings
    scaling: ScalingSettings
    network: NetworkSettings
    accelerators: AcceleratorSettings
    compute_class_name: pulumi.Input[str]
    #: Accelerator -> image by digest, for every accelerator of the pools.
    images: Mapping[Kind, pulumi.Input[str]]
    #: Accelerator -> release of vLLM in its image, None where nothing tells.
    releases: Mapping[Kind, Release | None]
    #: What pods keep between starts.
    caches: ModelCaches
    hugging_face_token: pulumi.Input[str]
    #: Whether GKE itself looks for pods of vLLM and scrapes them; a PodMonitoring of ours would have each counted twice.
    scraped_by_gke: bool
    #: Secret; if it is empty, the server requires no key.
    api_key: pulumi.Input[str]

    @property
    def device_access(self) -> DeviceAccess:
        return device_access(self.server.device_access, [pool.machine for pool in self.accelerators.pools])


def tpu_environment(machine: MachineType) -> list[dict[str, Any]]:
    """What libtpu reads on a single host, in place of the metadata that a pod without a TPU request does not get.

    https://github.com/ai-on-gke/tutorials-and-examples, tutorial gpu-tpu/fungibility-recipes.
    """
    fixed = {
        "TPU_TOPOLOGY": machine.topology,
        "TPU_WORKER_ID": "0",
        "TPU_SKIP_MDS_QUERY": "true",
        "TPU_TOPOLOGY_WRAP": "false,false,false",
        "TPU_CHIPS_PER_HOST_BOUNDS": machine.bounds,
        "TPU_ACCELERATOR_TYPE": f"{machine.generation}-{machine.count * machine.chip.cores}",
        "TPU_RUNTIME_METRICS_PORTS": ",".join(str(8431 + chip) for chip in range(machine.count)),
        "TPU_TOPOLOGY_ALT": "false",
        "CHIPS_PER_HOST_BOUNDS": machine.bounds,
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


def _trace_environment(endpoint: str) -> list[dict[str, Any]]:
    """What names a trace's server: https://opentelemetry.io/docs/specs/semconv/resource/k8s/. The node's name has its pool in it."""
    if not endpoint:
        return []
    return [
        {"name": "POD_NAME", "value_from": {"field_ref": {"field_path": "metadata.name"}}},
        {"name": "NODE_NAME", "value_from": {"field_ref": {"field_path": "spec.nodeName"}}},
        {"name": "OTEL_SERVICE_NAME", "value": DEPLOYMENT_NAME},
        {"name": "OTEL_RESOURCE_ATTRIBUTES", "value": "k8s.pod.name=$(POD_NAME),k8s.node.name=$(NODE_NAME)"},
        {"name": "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "value": "http/protobuf" if endpoint.endswith("/v1/traces") else "grpc"},
    ]


def _ending(args: InferenceServerArgs) -> Any:
    return {
        "grace_seconds": args.server.termination_grace_period_seconds,
        "settle_seconds": settle_seconds(slow=args.network.leaves_slowly),
    }


def server_arguments(kind: Kind, machine: MachineType, args: InferenceServerArgs) -> list[str]:
    """The command line of vLLM's server in the container of an accelerator.

    What decides an answer is the same in each, as a client does not choose the accelerator that it comes to.
    """
    server, release = args.server, args.releases[kind]

    def knows(since: Release) -> bool:
        return release is None or release >= since

    arguments = ["--host=0.0.0.0", f"--port={SERVER_PORT}"]
    # Of GPUs in different numbers the entrypoint decides (GPU_COUNTS).
    if len(args.accelerators.gpu_counts) == 1 if kind == "gpu" else machine.parallel_size > 1:
        arguments.append(f"--tensor-parallel-size={machine.parallel_size}")
    arguments += [f"--max-model-len={server.max_model_len}", f"--model={server.model}", f"--served-model-name={server.model}"]
    if server.model_revision:
        arguments.append(f"--revision={server.model_revision}")
    if knows(GENERATION_CONFIG):
        # The model's own sampling defaults: what releases take when nothing is said has changed.
        arguments.append("--generation-config=auto")
    if server.max_queued_requests and knows(QUEUE_LIMIT):
        arguments.append(f"--max-num-queued-reqs={server.max_queued_requests}")
    if server.request_ids and knows(REQUEST_IDS):
        arguments.append("--enable-request-id-headers")
    if server.traces_endpoint and knows(TRACING):
        arguments.append(f"--otlp-traces-endpoint={server.traces_endpoint}")
    ending = drain.server_arguments(**_ending(args), server_drains=server.drains[kind])
    return [*arguments, *ending, *server.arguments[kind]]


def container_spec(kind: Kind, machine: MachineType, args: InferenceServerArgs, key_secret: core.v1.Secret | None) -> dict[str, Any]:
    """The container of one accelerator."""
    requests = {"cpu": args.server.cpu_request, "memory": args.server.memory_request}
    arguments, counts = server_arguments(kind, machine, args), args.accelerators.gpu_counts
    spec: dict[str, Any] = {
        "name": f"vllm-{kind}",
        "image": args.images[kind],
        "args": arguments,
        "security_context": security_context(args.device_access),
        "env": [
            {"name": "HUGGING_FACE_HUB_TOKEN", "value_from": {"secret_key_ref": {"name": SECRET_NAME, "key": SECRET_KEY}}},
            *api_key.container_environment(key_secret),
            *([{"name": "GPU_COUNTS", "value": ",".join(map(str, counts))}] if kind == "gpu" and len(counts) > 1 else []),
            *([{"name": "VLLM_HTTP_TIMEOUT_KEEP_ALIVE", "value": str(PROXY_KEEP_ALIVE_SECONDS)}] if args.network.gateway else []),
            *_trace_environment(args.server.traces_endpoint),
            # With a request GKE's device plugin sets all of this itself.
            *(tpu_environment(machine) if kind == "tpu" and args.device_access == "privileged" else []),
            *cache_environment(kind, machine, args.caches, image=args.images[kind], arguments=arguments),
        ],
        "resources": {"requests": requests},
        **container_probes(startup_seconds=args.server.startup_seconds),
        "lifecycle": drain.lifecycle(**_ending(args)),
    }
    if kind == "gpu":
        storage = {"ephemeral-storage": args.server.gpu_ephemeral_storage_limit}
        spec["resources"] = {"requests": {**requests, **storage}, "limits": storage}
    if devices := device_resources(args.device_access, kind, machine):
        resources = spec["resources"]
        spec["resources"] = {"requests": resources["requests"] | devices, "limits": resources.get("limits", {}) | devices}
    elif "gpu" in args.accelerators.kinds:
        # In the TPU container too, which asks nvidia-smi whether the node is the other container's.
        spec["volume_mounts"] = [{"name": "gpu", "mount_path": GPU_DRIVER_MOUNT_PATH}]
    if mounts := [*cache_mounts(kind, args.caches), *shared_memory_mounts(kind, machine)]:
        spec["volume_mounts"] = [*spec.get("volume_mounts", []), *mounts]
    return spec


def affinity(pools: Sequence[AcceleratorPool]) -> dict[str, Any]:
    """One replica on each node, and a preference for the best free node."""
    weights = preference_weights([pool.name for pool in pools if pool.enabled])
    disabled = [pool.name for pool in pools if not pool.enabled]
    # A disabled pool's nodes carry the class's label until they are gone.
    elsewhere: dict[str, Any] = {
        "required_during_scheduling_ignored_during_execution": {
            "node_selector_terms": [{"match_expressions": [{"key": NODE_POOL_LABEL, "operator": "NotIn", "values": disabled}]}]
        }
    }
    return {
        "pod_anti_affinity": {
            "required_during_scheduling_ignored_during_execution": [
                {"label_selector": {"match_labels": APP_LABELS}, "topology_key": "kubernetes.io/hostname"}
            ]
        },
        "node_affinity": {
            **(elsewhere if disabled else {}),
            "preferred_during_scheduling_ignored_during_execution": [
                {"weight": weight, "preference": {"match_expressions": [{"key": NODE_POOL_LABEL, "operator": "In", "values": [name]}]}}
                for name, weight in weights.items()
            ],
        },
    }


def pod_spec(args: InferenceServerArgs, key_secret: core.v1.Secret | None) -> dict[str, Any]:
    """The pod template's spec: only the containers that the pools need, GPU first as in the walkthrough."""
    machines = args.accelerators.largest
    spec: dict[str, Any] = {
        "node_selector": {COMPUTE_CLASS_LABEL: args.compute_class_name},
        "tolerations": TOLERATIONS,
        "affinity": affinity(args.accelerators.pools),
        "termination_grace_period_seconds": args.server.termination_grace_period_seconds,
        # Kubernetes sets NAME_PORT for each Service of the namespace, and vLLM reads VLLM_PORT: a Service named vllm would end each server.
        "enable_service_links": False,
        # Always set: if it were removed, the old account would stay in the older field `serviceAccount`, which Kubernetes fills
        # from this one, and pods of an account that no longer exists are refused.
        "service_account_name": pod_service_account(args.caches),
        "containers": [container_spec(kind, machines[kind], args, key_secret) for kind in KINDS if kind in machines],
    }
    # GKE's device plugin mounts the same folder into a container that requests a GPU.
    if "gpu" in machines and args.device_access == "privileged":
        spec["volumes"] = [{"name": "gpu", "host_path": {"path": GPU_DRIVER_HOST_PATH, "type": "DirectoryOrCreate"}}]
    if volumes := [*cache_volumes(tuple(machines), args.caches), *shared_memory_volumes(machines)]:
        spec["volumes"] = [*spec.get("volumes", []), *volumes]
    return spec


def rolling_update(*, surge: bool) -> dict[str, int]:
    """Which replica comes or goes first in an update; one at a time either way.

    With `surge` the capacity never falls: the new pod starts first, on a node of its own, for which the settings keep room. Without it
    the old pod goes first. Kubernetes's `Recreate` would end all replicas at once, and a Deployment that exists cannot change to it
    (pulumi-kubernetes#2843).
    """
    return {"max_surge": int(surge), "max_unavailable": int(not surge)}


def update_gap(scaling: ScalingSettings) -> str | None:
    """The warning where every update leaves nothing that serves; else None."""
    if scaling.surge_on_update or scaling.replicas > 1:
        return None
    return (
        "surgeOnUpdate: false ends the only replica before its successor starts: each update that changes the pod leaves nothing that "
        "serves for as long as a server's start takes. Fix: allow a node more (maxNodeCount) and set it to true, or update in a quiet hour."
    )


def deployment_spec(args: InferenceServerArgs, key_secret: core.v1.Secret | None) -> Any:
    metadata: dict[str, Any] = {"labels": APP_LABELS}
    if annotations := cache_annotations(args.caches):
        metadata["annotations"] = annotations
    return {
        "replicas": args.scaling.replicas,
        "selector": {"match_labels": APP_LABELS},
        **({"min_ready_seconds": MIN_READY_SECONDS} if args.network.gateway else {}),
        "strategy": {"type": "RollingUpdate", "rolling_update": rolling_update(surge=args.scaling.surge_on_update)},
        # Kubernetes's default (10 minutes) is less than a TPU node and its server need.
        "progress_deadline_seconds": args.server.rollout_timeout_seconds,
        "template": {"metadata": metadata, "spec": pod_spec(args, key_secret)},
    }


def service_spec(args: InferenceServerArgs) -> Any:
    spec: dict[str, Any] = {
        # A gateway's load balancer goes to the pods themselves.
        "type": "ClusterIP" if args.network.gateway else "LoadBalancer",
        "selector": APP_LABELS,
        # Named by its number: the API server keeps the old port beside the new one in a preview of a change, and refuses two ports of
        # which one has no name, or both the same.
        "ports": [
            {"name": f"http-{args.network.service_port}", "protocol": "TCP", "port": args.network.service_port, "target_port": SERVER_PORT}
        ],
    }
    # Kubernetes admits everyone if the list is missing.
    if args.network.load_balancer_source_ranges:
        spec["load_balancer_source_ranges"] = list(args.network.load_balancer_source_ranges)
    return spec | service_arguments(args.network)


def ingress_ip(status: Any) -> str | None:
    """The load balancer's address, for which the provider waits; None if the Service has none (see `FrontDoor`) or could not be made.

    With `--continue-on-error` the program goes on after a failed resource, whose outputs are then empty.
    """
    ingress = status.load_balancer.ingress if status and status.load_balancer else None
    return str(ingress[0].ip) if ingress else None


def make_service_url(ip: str, port: int) -> str:
    """The base URL of an OpenAI client."""
    return f"http://{ip}/v1" if port == 80 else f"http://{ip}:{port}/v1"


class InferenceServer(pulumi.ComponentResource):
    """vLLM behind a load balancer."""

    #: None with a gateway, and if an update could not make the Service.
    service_ip: pulumi.Output[str | None]
    #: Ends in `/v1`.
    service_url: pulumi.Output[str | None]

    def __init__(self, name: str, args: InferenceServerArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("fungibility:index:InferenceServer", name, None, opts)
        if gap := update_gap(args.scaling):
            pulumi.log.warn(gap, resource=self)
        secret = core.v1.Secret(
            f"{name}-{SECRET_NAME}",
            metadata={"name": SECRET_NAME, "namespace": args.server.namespace},
            # Exists with an empty token for an open model too, so that the pod is the same for all models.
            string_data={SECRET_KEY: args.hugging_face_token},
            opts=pulumi.ResourceOptions(parent=self),
        )
        key_secret = api_key.api_key_secret(name, namespace=args.server.namespace, api_key=args.api_key, parent=self)
        network_policy(name, args.network, namespace=args.server.namespace, pod_labels=APP_LABELS, port=SERVER_PORT, parent=self)
        apps.v1.Deployment(
            name,
            metadata={
                "name": DEPLOYMENT_NAME,
                "namespace": args.server.namespace,
                "labels": APP_LABELS,
                "annotations": {
                    # For all replicas, which start one after the other.
                    "pulumi.com/timeoutSeconds": str(
                        args.server.rollout_timeout_seconds * max(args.scaling.replicas, args.scaling.max_replicas)
                    ),
                    # `kubectl scale` makes kubectl the owner of the replicas, on which the next update would fail.
                    "pulumi.com/patchForce": "true",
                },
            },
            spec=deployment_spec(args, key_secret),
            # Explicit, since the pod names the Secret as plain text.
            opts=pulumi.ResourceOptions(
                parent=self,
                depends_on=[secret],
                # Set once; later updates would undo the autoscaler's decisions.
                ignore_changes=["spec.replicas"] if args.scaling.autoscaled else [],
            ),
        )
        budget = disruption_budget_spec(
            labels=APP_LABELS,
            least_replicas=args.scaling.replicas,
            autoscaled=args.scaling.autoscaled,
            keep_last=args.scaling.keep_last_replica,
        )
        policy.v1.PodDisruptionBudget(
            f"{name}-disruption-budget",
            metadata={"name": disruption_budget_name(DEPLOYMENT_NAME, budget), "namespace": args.server.namespace},
            spec=budget,
            opts=pulumi.ResourceOptions(parent=self),
        )
        if not args.scraped_by_gke:
            apiextensions.CustomResource(
                f"{name}-pod-monitoring",
                api_version="monitoring.googleapis.com/v1",
                kind="PodMonitoring",
                metadata={
                    "name": DEPLOYMENT_NAME,
                    "namespace": args.server.namespace,
                    "labels": APP_LABELS,
                    # It has no dependents. By the default (foreground) its finalizer's removal is an update, which GKE's webhook refuses on
                    # a replaced cluster whose nodes are gone.
                    "annotations": {"pulumi.com/deletionPropagationPolicy": "background"},
                },
                spec=pod_monitoring_spec(labels=APP_LABELS, port=SERVER_PORT),
                opts=pulumi.ResourceOptions(parent=self),
            )
        if args.accelerators.fallback_after_minutes:
            timer_args = FallbackTimerArgs(args.accelerators, args.server.namespace, APP_LABELS)
            FallbackTimer(f"{name}-fallback-timer", timer_args, pulumi.ResourceOptions(parent=self))
        # Not after the Deployment, nor the Deployment after it: each waits for what the other gives it.
        service = core.v1.Service(
            f"{name}-service",
            metadata={
                "name": SERVICE_NAME,
                "namespace": args.server.namespace,
                "annotations": {
                    "pulumi.com/timeoutSeconds": str(args.server.rollout_timeout_seconds),
                    **service_annotations(args.network.internal_load_balancer),
                },
            },
            spec=service_spec(args),
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.service_ip = service.status.apply(ingress_ip)
        self.service_url = self.service_ip.apply(lambda ip: make_service_url(ip, args.network.service_port) if ip else None)
        self.register_outputs({"service_ip": self.service_ip, "service_url": self.service_url})
