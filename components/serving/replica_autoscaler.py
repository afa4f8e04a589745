"""The number of replicas: a HorizontalPodAutoscaler that follows the requests waiting in the servers' queues, and those running.

Users feel a queue, its length means the same on a TPU and on a GPU, and it is empty on a server with room.
The use of the KV cache (`vllm:kv_cache_usage_perc`) rises earlier, but stays high on a busy and healthy server, and the two
accelerators differ in its size. Google's guide names both and starts with 3 to 5 waiting requests for each replica:
https://docs.cloud.google.com/kubernetes-engine/docs/best-practices/machine-learning/inference/autoscaling

vLLM runs up to 256 requests at once (`--max-num-seqs`), so a small model's queue stays empty while every token takes longer; hence the
running requests as well. A step reads the weights once and the KV cache of each request. For Qwen2-1.5B on an L4 (300 GB/s) that is 10 ms
for 3.1 GB of weights and 0.1 ms for a request of 1,000 tokens (28 KiB a token): 64 requests add 6 ms to the 10, and 256 add 24. This is
arithmetic, not a measurement. The autoscaler follows the metric that asks for more replicas.

Left out: scaling to zero (docs/deploy.md says why).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pulumi
from pulumi_kubernetes import autoscaling

from components.serving.inference_server import APP_LABELS, DEPLOYMENT_NAME
from components.serving.metrics_adapter import MetricsAdapter, MetricsAdapterArgs
from components.settings.sections import ScalingSettings, ServerSettings

#: The adapter's form of a Prometheus metric's name: PREFIX|NAME|KIND.
WAITING_METRIC = "prometheus.googleapis.com|vllm:num_requests_waiting|gauge"
RUNNING_METRIC = "prometheus.googleapis.com|vllm:num_requests_running|gauge"

#: A new replica takes minutes to help, so the autoscaler has to be able to add several at once, but must not react to a short peak.
_SCALE_UP = {"stabilization_window_seconds": 30, "policies": [{"type": "Pods", "value": 2, "period_seconds": 60}]}


@dataclass(frozen=True)
class ReplicaAutoscalerArgs:
    project: str
    #: Known once the cluster is there.
    cluster_name: pulumi.Input[str]
    #: The same, known at once.
    stack_cluster: str
    server: ServerSettings
    scaling: ScalingSettings


def autoscaler_spec(scaling: ScalingSettings) -> Any:
    """`spec` of the HorizontalPodAutoscaler (autoscaling/v2)."""
    return {
        "scale_target_ref": {"api_version": "apps/v1", "kind": "Deployment", "name": DEPLOYMENT_NAME},
        "min_replicas": scaling.replicas,
        "max_replicas": scaling.max_replicas,
        "metrics": [
            {"type": "Pods", "pods": {"metric": {"name": name}, "target": {"type": "AverageValue", "average_value": str(target)}}}
            for name, target in ((WAITING_METRIC, scaling.target_waiting_requests), (RUNNING_METRIC, scaling.target_running_requests))
        ],
        "behavior": {
            "scale_up": _SCALE_UP,
            "scale_down": {
                "stabilization_window_seconds": scaling.scale_down_stabilization_seconds,
                # One at a time, since the others have to take over its requests.
                "policies": [{"type": "Pods", "value": 1, "period_seconds": 60}],
            },
        },
    }


class ReplicaAutoscaler(pulumi.ComponentResource):
    """The HorizontalPodAutoscaler, and the adapter that it asks."""

    def __init__(self, name: str, args: ReplicaAutoscalerArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("fungibility:index:ReplicaAutoscaler", name, None, opts)
        adapter = MetricsAdapter(
            f"{name}-metrics", MetricsAdapterArgs(args.project, args.cluster_name, args.stack_cluster), pulumi.ResourceOptions(parent=self)
        )
        autoscaling.v2.HorizontalPodAutoscaler(
            name,
            metadata={"name": DEPLOYMENT_NAME, "namespace": args.server.namespace, "labels": APP_LABELS},
            spec=autoscaler_spec(args.scaling),
            # Before that it could not read its metric.
            opts=pulumi.ResourceOptions(parent=self, depends_on=[adapter]),
        )
        self.register_outputs({})
