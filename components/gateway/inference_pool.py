"""What lets a gateway choose a server by its load: an InferencePool of the servers, and the endpoint picker that the load balancer asks.

The picker reads each server's queue, KV cache and remembered beginnings of prompts, so that a slower accelerator is asked less and a prompt
goes where its beginning is known. After the chart of kubernetes-sigs/gateway-api-inference-extension (config/charts/inferencepool), and
https://docs.cloud.google.com/kubernetes-engine/docs/concepts/about-gke-inference-gateway. Left out: objectives and rewritten model names,
whose types the picker uses where a cluster has them. **The picker was not run**, neither on GKE nor in the sandbox.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pulumi
from pulumi_kubernetes import apiextensions, apps, core, rbac

from components.cluster.project_services import enable_apis
from components.serving.network_policy import PICKER_LABELS

GROUP = "inference.networking.k8s.io"

#: Version 1.5.0, whose digest is from a public repository that pins it (ckodex-labs/kserve-llm-operator); the registry was not asked.
IMAGE = "registry.k8s.io/gateway-api-inference-extension/epp@sha256:86c679b057298e68c6e65ff5603e92066d432e77b11f1f81f0a06399694810bc"

_PORT, _HEALTH_PORT = 9002, 9003
_CONFIG_FILE = "picker.yaml"

#: What a server is chosen by, with its weight; the chart's own.
_SCORERS = {"queue-scorer": 2, "kv-cache-utilization-scorer": 2, "prefix-cache-scorer": 3}


def picker_config() -> str:
    """The picker's configuration; JSON is YAML."""
    config = {
        "apiVersion": "inference.networking.x-k8s.io/v1alpha1",
        "kind": "EndpointPickerConfig",
        "plugins": [{"type": each} for each in _SCORERS],
        "schedulingProfiles": [
            {"name": "default", "plugins": [{"pluginRef": each, "weight": weight} for each, weight in _SCORERS.items()]}
        ],
    }
    return json.dumps(config, indent=1)


def pool_spec(*, pod_labels: Mapping[str, str], port: int, picker: str) -> dict[str, Any]:
    return {
        "selector": {"matchLabels": dict(pod_labels)},
        "targetPorts": [{"number": port}],
        # Without the picker requests still go somewhere, as they do without this setting.
        "endpointPickerRef": {"name": picker, "port": {"number": _PORT}, "failureMode": "FailOpen"},
    }


def picker_container(pool: str, namespace: str) -> dict[str, Any]:
    probe = {"grpc": {"port": _HEALTH_PORT, "service": "inference-extension"}}
    field = {"NAMESPACE": "metadata.namespace", "POD_NAME": "metadata.name"}
    return {
        "name": "endpoint-picker",
        "image": IMAGE,
        "args": [
            f"--pool-name={pool}",
            f"--pool-namespace={namespace}",
            f"--config-file=/config/{_CONFIG_FILE}",
            "--zap-encoder=json",
            "--tracing=false",
        ],
        "env": [{"name": name, "value_from": {"field_ref": {"field_path": path}}} for name, path in field.items()],
        "ports": [{"name": "grpc", "container_port": _PORT}, {"name": "grpc-health", "container_port": _HEALTH_PORT}],
        "liveness_probe": {**probe, "initial_delay_seconds": 5, "period_seconds": 10},
        "readiness_probe": {**probe, "period_seconds": 2},
        # A share of the smallest system node.
        "resources": {"requests": {"cpu": "200m", "memory": "256Mi"}},
        "security_context": {"allow_privilege_escalation": False, "capabilities": {"drop": ["ALL"]}},
        "volume_mounts": [{"name": "config", "mount_path": "/config"}],
    }


class InferencePool(pulumi.ComponentResource):
    """The pool `name_in_cluster` with its picker, `NAME-picker`."""

    #: Of the pool, for a route and for policies.
    reference: dict[str, str]

    def __init__(
        self,
        name: str,
        name_in_cluster: str,
        namespace: str,
        *,
        project: str,
        pod_labels: Mapping[str, str],
        port: int,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("fungibility:index:InferencePool", name, None, opts)
        here = pulumi.ResourceOptions(parent=self)
        # The load balancer asks the picker by an extension of this API: "Enable ... the Network Services API".
        # https://docs.cloud.google.com/kubernetes-engine/docs/how-to/deploy-gke-inference-gateway
        apis = enable_apis(name, ["networkservices"], project=project, parent=self)
        picker = f"{name_in_cluster}-picker"
        metadata: Any = {"name": picker, "namespace": namespace}
        account = core.v1.ServiceAccount(name, metadata=metadata, opts=here)
        role = rbac.v1.Role(
            name,
            metadata=metadata,
            rules=[
                {"api_groups": [""], "resources": ["pods"], "verbs": ["get", "watch", "list"]},
                {"api_groups": [GROUP], "resources": ["inferencepools"], "verbs": ["get", "watch", "list"]},
                {
                    "api_groups": ["inference.networking.x-k8s.io"],
                    "resources": ["inferenceobjectives", "inferencemodelrewrites"],
                    "verbs": ["get", "watch", "list"],
                },
            ],
            opts=here,
        )
        binding = rbac.v1.RoleBinding(
            name,
            metadata=metadata,
            role_ref={"api_group": "rbac.authorization.k8s.io", "kind": "Role", "name": picker},
            subjects=[{"kind": "ServiceAccount", "name": picker, "namespace": namespace}],
            opts=pulumi.ResourceOptions(parent=self, depends_on=[role]),
        )
        config = core.v1.ConfigMap(name, metadata=metadata, data={_CONFIG_FILE: picker_config()}, opts=here)
        core.v1.Service(
            name,
            metadata=metadata,
            spec={"selector": PICKER_LABELS, "ports": [{"name": "grpc", "port": _PORT, "target_port": _PORT, "app_protocol": "http2"}]},
            opts=here,
        )
        pool = apiextensions.CustomResource(
            name,
            api_version=f"{GROUP}/v1",
            kind="InferencePool",
            metadata={"name": name_in_cluster, "namespace": namespace},
            spec=pool_spec(pod_labels=pod_labels, port=port, picker=picker),
            opts=pulumi.ResourceOptions(parent=self, depends_on=apis),
        )
        pod: Any = {
            "service_account_name": picker,
            "containers": [picker_container(name_in_cluster, namespace)],
            "volumes": [{"name": "config", "config_map": {"name": picker}}],
        }
        apps.v1.Deployment(
            name,
            metadata=metadata,
            spec={
                "replicas": 1,
                # Two pickers would each remember half of the prompts.
                "strategy": {"type": "Recreate"},
                "selector": {"match_labels": PICKER_LABELS},
                "template": {"metadata": {"labels": PICKER_LABELS}, "spec": pod},
            },
            # Explicit, since the pod names all of them as plain text, and the picker ends without its pool.
            opts=pulumi.ResourceOptions(parent=self, depends_on=[account, binding, config, pool]),
        )
        self.reference = {"group": GROUP, "kind": "InferencePool", "name": name_in_cluster}
        self.register_outputs({})
