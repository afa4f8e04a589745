"""What `pulumi up` needs of a project: APIs, and permissions for each type of resource that the program makes.

A test runs the program and compares: a resource without a line here fails it. Roles are the narrowest predefined ones that hold all of
a line's permissions (https://docs.cloud.google.com/iam/docs/roles-permissions).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from components.settings.sections import Settings

#: Without these the program cannot switch on the others: the provider enables an API through the first, and reads the project
#: through the second as it does so (resource_google_project_service.go).
APIS_BEFORE_UP = ("serviceusage", "cloudresourcemanager")

#: What preflight itself asks; `up` does without.
APIS_OF_PREFLIGHT = ("cloudbilling",)


@dataclass(frozen=True, kw_only=True)
class Api:
    """One API that the program switches on."""

    #: `container` stands for container.googleapis.com.
    name: str
    #: Whether a stack with these settings asks for it.
    when: Callable[[Settings], bool] = lambda settings: True


APIS_OF_PROGRAM = (
    Api(name="compute"),
    Api(name="container"),
    Api(name="iam"),
    Api(name="cloudresourcemanager"),
    Api(name="artifactregistry"),
    Api(name="containerfilesystem", when=lambda settings: settings.cluster.image_streaming),
    Api(name="storage", when=lambda settings: settings.server.weights_cache),
    Api(name="monitoring", when=lambda settings: settings.monitoring.enabled or settings.scaling.autoscaled),
    Api(name="containerscanning", when=lambda settings: settings.images.vulnerability_scanning),
    Api(name="binaryauthorization", when=lambda settings: settings.security.binary_authorization),
)


def apis_of_program(settings: Settings) -> tuple[str, ...]:
    return tuple(each.name for each in APIS_OF_PROGRAM if each.when(settings))


@dataclass(frozen=True, kw_only=True)
class Need:
    """Permissions on the project for one type of resource."""

    #: Pulumi's type token.
    resource: str
    permissions: tuple[str, ...]
    #: Gives all of them.
    role: str
    #: Empty, or why the project's policy need not be what gives it: then its absence is a warning.
    elsewhere: str = ""
    #: Whether a stack with these settings makes the resource.
    when: Callable[[Settings], bool] = lambda settings: True


def _kubernetes(resource: str, kind: str, when: Callable[[Settings], bool] = lambda settings: True) -> Need:
    """Cluster admission takes IAM's permission or RBAC's; a new cluster has no RBAC for anybody yet."""
    return Need(
        resource=resource,
        permissions=tuple(f"container.{kind}.{verb}" for verb in ("create", "get", "update")),
        role="roles/container.admin",
        when=when,
    )


def _is_autoscaled(settings: Settings) -> bool:
    return settings.scaling.autoscaled


def _has_network(settings: Settings) -> bool:
    return settings.network.ranges is not None


def _is_built(settings: Settings) -> bool:
    return not settings.images.prebuilt_from and any(pool.kind not in settings.images.prebuilt for pool in settings.accelerators.pools)


NEEDS: tuple[Need, ...] = (
    Need(
        resource="gcp:projects/service:Service",
        permissions=("serviceusage.services.enable", "serviceusage.services.get", "serviceusage.services.list"),
        role="roles/serviceusage.serviceUsageAdmin",
    ),
    Need(
        resource="gcp:serviceaccount/account:Account",
        permissions=("iam.serviceAccounts.create", "iam.serviceAccounts.get"),
        role="roles/iam.serviceAccountAdmin",
    ),
    Need(
        resource="gcp:projects/iAMMember:IAMMember",
        permissions=(
            "resourcemanager.projects.get",
            "resourcemanager.projects.getIamPolicy",
            "resourcemanager.projects.setIamPolicy",
        ),
        role="roles/resourcemanager.projectIamAdmin",
    ),
    Need(
        resource="gcp:container/cluster:Cluster",
        permissions=(
            "container.clusters.create",
            "container.clusters.get",
            "container.clusters.update",
            "container.operations.get",
        ),
        role="roles/container.admin",
    ),
    Need(
        # To reach the control plane by its DNS endpoint, in front of which IAM stands.
        resource="gcp:container/cluster:Cluster",
        permissions=("container.clusters.connect",),
        role="roles/container.admin",
        when=lambda settings: settings.network.control_plane_endpoint == "dns",
    ),
    Need(
        resource="gcp:container/nodePool:NodePool",
        permissions=("iam.serviceAccounts.actAs",),
        role="roles/iam.serviceAccountUser",
        elsewhere="it may be given on the nodes' service account itself, once that is there",
    ),
    Need(
        resource="gcp:container/nodePool:NodePool",
        # The provider reads the instance groups behind a node pool.
        permissions=("compute.instanceGroupManagers.get",),
        role="roles/compute.viewer",
    ),
    Need(
        resource="gcp:artifactregistry/repository:Repository",
        permissions=("artifactregistry.repositories.create", "artifactregistry.repositories.get"),
        role="roles/artifactregistry.admin",
    ),
    Need(
        resource="gcp:artifactregistry/repositoryIamMember:RepositoryIamMember",
        permissions=("artifactregistry.repositories.getIamPolicy", "artifactregistry.repositories.setIamPolicy"),
        role="roles/artifactregistry.admin",
    ),
    Need(
        resource="docker:index/image:Image",
        permissions=(
            "artifactregistry.repositories.downloadArtifacts",
            "artifactregistry.repositories.uploadArtifacts",
        ),
        role="roles/artifactregistry.writer",
        elsewhere="it may be given on the repository itself, once that is there",
        when=_is_built,
    ),
    Need(
        resource="gcp:compute/network:Network",
        permissions=("compute.networks.create", "compute.networks.get", "compute.networks.updatePolicy"),
        role="roles/compute.networkAdmin",
        when=_has_network,
    ),
    Need(
        resource="gcp:compute/subnetwork:Subnetwork",
        permissions=("compute.subnetworks.create", "compute.subnetworks.get", "compute.subnetworks.use"),
        role="roles/compute.networkAdmin",
        when=_has_network,
    ),
    Need(
        resource="gcp:compute/router:Router",
        permissions=("compute.routers.create", "compute.routers.get"),
        role="roles/compute.networkAdmin",
        when=_has_network,
    ),
    Need(
        resource="gcp:compute/routerNat:RouterNat",
        permissions=("compute.routers.update",),
        role="roles/compute.networkAdmin",
        when=_has_network,
    ),
    _kubernetes("kubernetes:networking.k8s.io/v1:NetworkPolicy", "networkPolicies", lambda settings: settings.network.network_policy),
    Need(
        resource="gcp:monitoring/dashboard:Dashboard",
        permissions=("monitoring.dashboards.create", "monitoring.dashboards.get", "monitoring.dashboards.update"),
        role="roles/monitoring.editor",
        when=lambda settings: settings.monitoring.enabled,
    ),
    Need(
        resource="gcp:monitoring/alertPolicy:AlertPolicy",
        permissions=(
            "monitoring.alertPolicies.create",
            "monitoring.alertPolicies.get",
            "monitoring.alertPolicies.update",
        ),
        role="roles/monitoring.editor",
        when=lambda settings: settings.monitoring.enabled,
    ),
    Need(
        resource="gcp:storage/bucket:Bucket",
        permissions=("storage.buckets.create", "storage.buckets.get", "storage.buckets.update"),
        role="roles/storage.admin",
        when=lambda settings: settings.server.weights_cache,
    ),
    Need(
        resource="gcp:storage/bucketIAMMember:BucketIAMMember",
        permissions=("storage.buckets.getIamPolicy", "storage.buckets.setIamPolicy"),
        role="roles/storage.admin",
        when=lambda settings: settings.server.weights_cache,
    ),
    _kubernetes("kubernetes:cloud.google.com/v1:ComputeClass", "thirdPartyObjects"),
    _kubernetes("kubernetes:core/v1:Secret", "secrets"),
    _kubernetes("kubernetes:apps/v1:Deployment", "deployments"),
    _kubernetes("kubernetes:core/v1:Service", "services"),
    _kubernetes("kubernetes:policy/v1:PodDisruptionBudget", "podDisruptionBudgets"),
    _kubernetes("kubernetes:monitoring.googleapis.com/v1:PodMonitoring", "thirdPartyObjects"),
    # The metrics adapter and what it may do.
    _kubernetes("kubernetes:autoscaling/v2:HorizontalPodAutoscaler", "horizontalPodAutoscalers", _is_autoscaled),
    _kubernetes("kubernetes:apiregistration.k8s.io/v1:APIService", "apiServices", _is_autoscaled),
    _kubernetes("kubernetes:core/v1:Namespace", "namespaces", _is_autoscaled),
    _kubernetes("kubernetes:core/v1:ServiceAccount", "serviceAccounts", lambda s: _is_autoscaled(s) or s.server.weights_cache),
    _kubernetes("kubernetes:rbac.authorization.k8s.io/v1:ClusterRole", "clusterRoles", _is_autoscaled),
    _kubernetes("kubernetes:rbac.authorization.k8s.io/v1:ClusterRoleBinding", "clusterRoleBindings", _is_autoscaled),
    _kubernetes("kubernetes:rbac.authorization.k8s.io/v1:RoleBinding", "roleBindings", _is_autoscaled),
    Need(
        # Kubernetes lets nobody bind a role that holds more than his own, but for who may `bind`.
        resource="kubernetes:rbac.authorization.k8s.io/v1:ClusterRoleBinding",
        permissions=("container.clusterRoles.bind", "container.roles.bind"),
        role="roles/container.admin",
        when=_is_autoscaled,
    ),
)


def needs(settings: Settings) -> tuple[Need, ...]:
    return tuple(each for each in NEEDS if each.when(settings))
