"""The fallback timer: how long a pool whose machines do not come may keep replicas from the pools after it.

GKE's autoscaler waits ten hours for a node of a single-host TPU pool before it tries the next priority (docs/ladder.md). The timer
(`fallback_program`) has one pod, which may list the servers' pods, and list, make and delete pods in a namespace of its own: nothing else.
Left out: what it decides, and the ComputeClass, which stays as it is.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pulumi
from pulumi_kubernetes import apps, core, rbac, scheduling

from components.catalog.node_labels import COMPUTE_CLASS_LABEL, NODE_POOL_LABEL
from components.serving import fallback_program
from components.settings.sections import AcceleratorSettings

#: Python 3.13.15 on Debian. GKE's nodes ask mirror.gcr.io for images of Docker Hub first.
IMAGE = "docker.io/library/python:3.13-slim@sha256:9d2e5553305c7c7b0097999bb17187c69b921ccd6bc9d40e4bb5ebe652c00285"

NAMESPACE = "fallback-timer"
NAME = "fallback-timer"
LABELS = {"app": NAME}

#: What a placeholder's name begins with; the pool follows.
PLACEHOLDER = "holds"

_RESOURCES = {"cpu": "50m", "memory": "64Mi"}
_UNPRIVILEGED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "runAsUser": 65532,
    "capabilities": {"drop": ["ALL"]},
}


@dataclass(frozen=True)
class FallbackTimerArgs:
    accelerators: AcceleratorSettings
    #: Where the servers' pods are, and the labels that they have.
    namespace: str
    server_labels: dict[str, str]


def placeholder(pool: str, args: FallbackTimerArgs) -> dict[str, Any]:
    """A pod that fits one node of the pool, beside no server and no other placeholder."""
    apart: Any = [
        {"labelSelector": {"matchLabels": args.server_labels}, "namespaces": [args.namespace], "topologyKey": "kubernetes.io/hostname"},
        {
            "labelSelector": {"matchExpressions": [{"key": fallback_program.HOLDS, "operator": "Exists"}]},
            "topologyKey": "kubernetes.io/hostname",
        },
    ]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": f"{PLACEHOLDER}-{pool}-", "labels": {fallback_program.HOLDS: pool}},
        "spec": {
            "nodeSelector": {COMPUTE_CLASS_LABEL: args.accelerators.compute_class_name, NODE_POOL_LABEL: pool},
            "tolerations": [{"operator": "Exists", "effect": "NoSchedule"}],
            "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": apart}},
            "priorityClassName": NAME,
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "holds", "image": IMAGE, "command": ["sleep", "infinity"], "securityContext": _UNPRIVILEGED}],
        },
    }


def program_config(args: FallbackTimerArgs) -> dict[str, Any]:
    """The program's only argument."""
    pools = {pool.name: pool.max_nodes for pool in args.accelerators.pools if pool.enabled}
    ((key, value),) = args.server_labels.items()
    return {
        "afterSeconds": args.accelerators.fallback_after_minutes * 60,
        "pools": pools,
        "placeholders": {pool: placeholder(pool, args) for pool in pools},
        "namespace": args.namespace,
        "selector": f"{key}%3D{value}",
        "ownNamespace": NAMESPACE,
    }


class FallbackTimer(pulumi.ComponentResource):
    """The timer's pod and what it may do."""

    def __init__(self, name: str, args: FallbackTimerArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("fungibility:index:FallbackTimer", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        namespace = core.v1.Namespace(f"{name}-namespace", metadata={"name": NAMESPACE}, opts=child)
        inside = pulumi.ResourceOptions(parent=self, depends_on=[namespace])
        account = core.v1.ServiceAccount(f"{name}-account", metadata={"name": NAME, "namespace": NAMESPACE}, opts=inside)
        # Above the servers' priority, so that the autoscaler and the scheduler place it first; it never drives one of them out.
        priority = scheduling.v1.PriorityClass(f"{name}-priority", metadata={"name": NAME}, value=1, preemption_policy="Never", opts=child)
        subjects: Any = [{"kind": "ServiceAccount", "name": NAME, "namespace": NAMESPACE}]
        rights: list[pulumi.Resource] = []
        for where, place, verbs in (
            ("servers", args.namespace, ["list"]),
            ("placeholders", NAMESPACE, ["list", "create", "deletecollection"]),
        ):
            metadata: Any = {"name": f"{NAME}-{where}", "namespace": place}
            role = rbac.v1.Role(
                f"{name}-{where}", metadata=metadata, rules=[{"api_groups": [""], "resources": ["pods"], "verbs": verbs}], opts=inside
            )
            rights.append(
                rbac.v1.RoleBinding(
                    f"{name}-{where}",
                    metadata=metadata,
                    role_ref={"api_group": "rbac.authorization.k8s.io", "kind": "Role", "name": metadata["name"]},
                    subjects=subjects,
                    opts=pulumi.ResourceOptions(parent=self, depends_on=[role]),
                )
            )
        program = Path(fallback_program.__file__).read_text()
        config = json.dumps(program_config(args))
        pod: Any = {
            "service_account_name": NAME,
            "containers": [
                {
                    "name": NAME,
                    "image": IMAGE,
                    # -I: nothing but the standard library, whatever the environment says.
                    "command": ["python3", "-I", "-c", program, config],
                    "resources": {"requests": _RESOURCES, "limits": {"memory": _RESOURCES["memory"]}},
                    "security_context": _UNPRIVILEGED,
                }
            ],
        }
        apps.v1.Deployment(
            name,
            metadata={"name": NAME, "namespace": NAMESPACE, "labels": LABELS},
            spec={
                "replicas": 1,
                # Never two of them, which would each undo what the other does.
                "strategy": {"type": "Recreate"},
                "selector": {"match_labels": LABELS},
                "template": {"metadata": {"labels": LABELS}, "spec": pod},
            },
            # Explicit, since the pod and its placeholders name them as plain text.
            opts=pulumi.ResourceOptions(parent=self, depends_on=[account, priority, *rights]),
        )
        self.register_outputs({})
