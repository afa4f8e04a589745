"""The gateway in the cluster: a Deployment of its image behind a load balancer of its own.

It requests no accelerator and tolerates no accelerator's taint, so it runs on the system nodes. Left out: TLS and a login, which an
Ingress or an identity-aware proxy in front of it would add.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pulumi
from pulumi_kubernetes import apps, core

from gateway_settings import GatewaySettings

NAME = "chat-gateway"
PORT = 8080

_LABELS = {"app": NAME}
_SECRET_KEY = "api-key"  # noqa: S105 - the key in a Secret


@dataclass(frozen=True, kw_only=True)
class ChatGatewayArgs:
    namespace: pulumi.Input[str]
    #: Reference by digest.
    image: pulumi.Input[str]
    #: Base URL of the model's server, ending in `/v1`.
    upstream_url: pulumi.Input[str]
    model: pulumi.Input[str]
    settings: GatewaySettings


def container_spec(args: ChatGatewayArgs, *, secret_name: pulumi.Input[str] | None) -> dict[str, Any]:
    """The container: one process without any privileges."""
    environment: list[dict[str, Any]] = [
        {"name": "UPSTREAM_URL", "value": args.upstream_url},
        {"name": "UPSTREAM_MODEL", "value": args.model},
        {"name": "MODEL_ALIAS", "value": args.settings.model_alias},
        {"name": "REQUESTS_PER_MINUTE", "value": str(args.settings.requests_per_minute)},
        {"name": "PORT", "value": str(PORT)},
    ]
    if secret_name is not None:
        source = {"secret_key_ref": {"name": secret_name, "key": _SECRET_KEY}}
        environment.append({"name": "UPSTREAM_API_KEY", "value_from": source})
    # It probes the gateway itself, which has to tell its clients if the model's server is away.
    probe = {"http_get": {"path": "/healthz", "port": PORT}, "period_seconds": 5}
    return {
        "name": NAME,
        "image": args.image,
        "env": environment,
        "ports": [{"container_port": PORT}],
        "readiness_probe": probe,
        "liveness_probe": {**probe, "period_seconds": 10},
        "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
        # Load balancers and nodes still send requests until they have learnt that the pod ends.
        "lifecycle": {"pre_stop": {"sleep": {"seconds": 3}}},
        "security_context": {
            "allow_privilege_escalation": False,
            "capabilities": {"drop": ["ALL"]},
            "read_only_root_filesystem": True,
            "run_as_non_root": True,
        },
    }


def deployment_spec(args: ChatGatewayArgs, *, secret_name: pulumi.Input[str] | None) -> Any:
    return {
        "replicas": args.settings.replicas,
        "selector": {"match_labels": _LABELS},
        "template": {
            "metadata": {"labels": _LABELS},
            "spec": {
                # The gateway does not use the Kubernetes API.
                "automount_service_account_token": False,
                "security_context": {"run_as_user": 65532, "seccomp_profile": {"type": "RuntimeDefault"}},
                "containers": [container_spec(args, secret_name=secret_name)],
            },
        },
    }


def service_spec(args: ChatGatewayArgs) -> Any:
    spec: dict[str, Any] = {
        "type": "LoadBalancer",
        "selector": _LABELS,
        "ports": [{"protocol": "TCP", "port": args.settings.service_port, "target_port": PORT}],
        # Keeps the clients' addresses, by which the rate is limited.
        "external_traffic_policy": "Local",
    }
    if args.settings.load_balancer_source_ranges:
        spec["load_balancer_source_ranges"] = list(args.settings.load_balancer_source_ranges)
    return spec


class ChatGateway(pulumi.ComponentResource):
    """A chat page and an OpenAI-compatible API in front of the model's server."""

    #: URL of the chat page; the API is below it, at `/v1`.
    url: pulumi.Output[str]

    def __init__(self, name: str, args: ChatGatewayArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("fungibility:index:ChatGateway", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        secret_name: pulumi.Output[str] | None = None
        if args.settings.upstream_api_key != "":
            # Without a fixed name it gets a new one when the key changes, which rolls the pods.
            secret = core.v1.Secret(
                f"{name}-upstream",
                metadata={"namespace": args.namespace},
                string_data={_SECRET_KEY: args.settings.upstream_api_key},
                opts=child,
            )
            secret_name = secret.metadata.apply(lambda metadata: str(metadata.name))
        apps.v1.Deployment(
            name,
            metadata={"name": NAME, "namespace": args.namespace, "labels": _LABELS},
            spec=deployment_spec(args, secret_name=secret_name),
            opts=child,
        )
        service = core.v1.Service(
            f"{name}-service", metadata={"name": NAME, "namespace": args.namespace}, spec=service_spec(args), opts=child
        )
        self.url = service.status.apply(_ingress_ip).apply(lambda ip: make_url(ip, args.settings.service_port))
        self.register_outputs({"url": self.url})


def _ingress_ip(status: Any) -> str:
    """The load balancer's address, for which the provider waits."""
    return str(status.load_balancer.ingress[0].ip)


def make_url(ip: str, port: int) -> str:
    return f"http://{ip}" if port == 80 else f"http://{ip}:{port}"
