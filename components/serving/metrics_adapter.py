"""Custom Metrics Stackdriver Adapter: serves metrics from Managed Service for Prometheus to the HorizontalPodAutoscaler.

Google publishes it as one manifest, of which this is the part for custom metrics:
https://github.com/GoogleCloudPlatform/k8s-stackdriver/tree/master/custom-metrics-stackdriver-adapter/deploy/production.
Chosen over GKE's own `AutoscalingMetric` (autoscaling.gke.io), which was a preview for GKE 1.35 and later in the Rapid channel when
this was written (November 2026); a move to it would change the HPA's metric name and this module.

Left out: external metrics, and a second adapter in the same cluster: a cluster has one server for `custom.metrics.k8s.io`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pulumi
from pulumi_gcp import organizations, projects
from pulumi_kubernetes import apiregistration, apps, core, rbac

from components.cluster.project_services import enable_apis
from components.cluster.providers import reason_of
from components.cluster.replacement import successor_first
from components.serving.workload_identity import pod_principal

NAMESPACE = "custom-metrics"
NAME = "custom-metrics-stackdriver-adapter"

#: Released on 2026-08-17; Google never moves this image's tags.
IMAGE = "gcr.io/gke-release/custom-metrics-stackdriver-adapter:v0.16.9-gke.0"

#: Above 1024, so that the process needs no privilege for it. Beside 443 it is the only port that GKE's firewall opens from the control
#: plane to private nodes (https://docs.cloud.google.com/kubernetes-engine/docs/concepts/firewall-rules).
PORT = 10250

LABELS = {"run": NAME, "k8s-app": NAME}

_GET_PROJECT = "gcp:organizations/getProject:getProject"

#: Version -> priority among the versions; the HorizontalPodAutoscaler asks for the newest one available.
_API_VERSIONS = {"v1beta1": 100, "v1beta2": 200}


@dataclass(frozen=True)
class MetricsAdapterArgs:
    project: str
    #: Known once the cluster exists, with which Google makes the project's workload identity pool.
    cluster_name: pulumi.Input[str]
    #: The same, known at once.
    stack_cluster: str

    @property
    def account_name(self) -> str:
        """The adapter's Kubernetes service account.

        IAM knows it by namespace and name, in every cluster of the project alike: without the cluster's name in it, two stacks would
        share one principal, and the end of one would take the other's right away.
        """
        return f"{NAME}-{self.stack_cluster}"


def deployment_spec(account_name: str) -> Any:
    resources = {"cpu": "250m", "memory": "200Mi"}
    return {
        "replicas": 1,
        "selector": {"match_labels": LABELS},
        "template": {
            "metadata": {"labels": {**LABELS, "kubernetes.io/cluster-service": "true"}},
            "spec": {
                "service_account_name": account_name,
                "containers": [
                    {
                        "name": "pod-custom-metrics-stackdriver-adapter",
                        "image": IMAGE,
                        "command": [
                            "/adapter",
                            "--use-new-resource-model=true",
                            "--fallback-for-container-metrics=true",
                            "--enable-external-metrics-api=false",
                            f"--secure-port={PORT}",
                        ],
                        "ports": [{"container_port": PORT, "protocol": "TCP"}],
                        "readiness_probe": {
                            "http_get": {"scheme": "HTTPS", "path": "/healthz", "port": PORT},
                            "period_seconds": 5,
                            "timeout_seconds": 5,
                        },
                        "resources": {"requests": resources, "limits": resources},
                        "security_context": {"allow_privilege_escalation": False, "capabilities": {"drop": ["ALL"]}},
                    }
                ],
            },
        },
    }


async def _project_number(project: str, parent: pulumi.Resource) -> str:
    """Raises `pulumi.RunError`: the SDK's own function ends the program with its traceback."""
    options = pulumi.InvokeOptions(parent=parent)
    try:
        found = await pulumi.runtime.invoke_async(_GET_PROJECT, {"projectId": project}, options, organizations.GetProjectResult)
    except Exception as error:  # noqa: BLE001 - the SDK raises no narrower one
        raise pulumi.RunError(
            f"maxReplicas: the number of project {project}, by which IAM calls the metrics adapter, cannot be read: {reason_of(error)}. "
            "Fix: give the deploying account resourcemanager.projects.get on the project (roles/browser), by which the provider reads it "
            "and its billing information; or set maxReplicas to 0"
        ) from None
    return str(found.number)


class MetricsAdapter(pulumi.ComponentResource):
    """The adapter, its rights in the cluster and in the project, and its place in the Kubernetes API."""

    def __init__(self, name: str, args: MetricsAdapterArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("fungibility:index:MetricsAdapter", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        number: pulumi.Output[str] = pulumi.Output.from_input(_project_number(args.project, self))
        reader = projects.IAMMember(
            f"{name}-monitoring-viewer",
            project=args.project,
            role="roles/monitoring.viewer",
            # Through the cluster's name, since the pool does not exist before the project's first cluster.
            member=pulumi.Output.all(args.cluster_name, number).apply(
                lambda known: pod_principal(
                    project_number=int(known[1]),
                    workload_pool=f"{args.project}.svc.id.goog",
                    namespace=NAMESPACE,
                    service_account=args.account_name,
                )
            ),
            opts=successor_first(self, depends_on=enable_apis(name, ["monitoring"], project=args.project, parent=self)),
        )
        namespace = core.v1.Namespace(f"{name}-namespace", metadata={"name": NAMESPACE}, opts=child)
        in_namespace = pulumi.ResourceOptions(parent=self, depends_on=[namespace])
        account = core.v1.ServiceAccount(f"{name}-account", metadata={"name": args.account_name, "namespace": NAMESPACE}, opts=in_namespace)
        subjects: Any = [{"kind": "ServiceAccount", "name": args.account_name, "namespace": NAMESPACE}]
        resource_reader = rbac.v1.ClusterRole(
            f"{name}-resource-reader",
            metadata={"name": "custom-metrics-resource-reader"},
            rules=[{"api_groups": [""], "resources": ["pods", "nodes", "nodes/stats"], "verbs": ["get", "list", "watch"]}],
            opts=child,
        )
        rights = [
            rbac.v1.ClusterRoleBinding(
                f"{name}-auth-delegator",
                metadata={"name": "custom-metrics:system:auth-delegator"},
                role_ref={"api_group": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:auth-delegator"},
                subjects=subjects,
                opts=child,
            ),
            rbac.v1.RoleBinding(
                f"{name}-auth-reader",
                metadata={"name": "custom-metrics-auth-reader", "namespace": "kube-system"},
                role_ref={"api_group": "rbac.authorization.k8s.io", "kind": "Role", "name": "extension-apiserver-authentication-reader"},
                subjects=subjects,
                opts=child,
            ),
            rbac.v1.ClusterRoleBinding(
                f"{name}-resource-reader",
                metadata={"name": "custom-metrics-resource-reader"},
                role_ref={"api_group": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "custom-metrics-resource-reader"},
                subjects=subjects,
                opts=pulumi.ResourceOptions(parent=self, depends_on=[resource_reader]),
            ),
        ]
        deployment = apps.v1.Deployment(
            name,
            metadata={"name": NAME, "namespace": NAMESPACE, "labels": LABELS},
            spec=deployment_spec(args.account_name),
            # It reads its rights once, at its start.
            opts=pulumi.ResourceOptions(parent=self, depends_on=[account, *rights, reader]),
        )
        service = core.v1.Service(
            f"{name}-service",
            metadata={"name": NAME, "namespace": NAMESPACE, "labels": LABELS},
            spec={"type": "ClusterIP", "selector": LABELS, "ports": [{"protocol": "TCP", "port": 443, "target_port": PORT}]},
            opts=in_namespace,
        )
        for version, priority in _API_VERSIONS.items():
            apiregistration.v1.APIService(
                f"{name}-{version}",
                metadata={"name": f"{version}.custom.metrics.k8s.io"},
                spec={
                    "group": "custom.metrics.k8s.io",
                    "version": version,
                    "group_priority_minimum": 100,
                    "version_priority": priority,
                    # The adapter makes its own certificate at each start, as in Google's manifest.
                    "insecure_skip_tls_verify": True,
                    "service": {"name": NAME, "namespace": NAMESPACE, "port": 443},
                },
                # Made last and deleted first: an APIService without a server makes the deletion of namespaces hang.
                opts=pulumi.ResourceOptions(parent=self, depends_on=[deployment, service]),
            )
        self.register_outputs({})
