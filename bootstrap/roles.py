"""What each type of resource takes: permissions, and the role that gives them. The one table for bootstrap and preflight.

Bootstrap gives the pipelines' two accounts the roles, to deploy and to preview; preflight asks whether its caller holds the permissions.
A test runs the program and compares: a resource without a line here fails it. Roles are the narrowest predefined ones that hold all of a
line's permissions: https://docs.cloud.google.com/iam/docs/roles-permissions. Left out: state and keys (`state_store`), and what
Kubernetes' own RBAC would give.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from components.settings.sections import Settings

When = Callable[[Settings], bool]


@dataclass(frozen=True, kw_only=True)
class Need:
    """Permissions in the project for one type of resource."""

    #: Pulumi's type token.
    resource: str
    permissions: tuple[str, ...]
    #: Gives all of them.
    role: str
    #: Empty, or why the project's policy need not be what gives it: then its absence is a warning.
    elsewhere: str = ""
    #: Whether a stack with these settings makes the resource.
    when: When


def _need(resource: str, role: str, kind: str, verbs: str, when: When = lambda settings: True, elsewhere: str = "") -> Need:
    permissions = tuple(f"{kind}.{verb}" for verb in verbs.split())
    return Need(resource=resource, permissions=permissions, role=f"roles/{role}", when=when, elsewhere=elsewhere)


def _object(resource: str, kind: str, when: When = lambda settings: True) -> Need:
    """Cluster admission takes IAM's permission or RBAC's; a new cluster has no RBAC rules yet."""
    return _need(f"kubernetes:{resource}", "container.admin", f"container.{kind}", "create get update", when)


def _is_autoscaled(settings: Settings) -> bool:
    return settings.scaling.autoscaled


def _is_timed(settings: Settings) -> bool:
    return settings.accelerators.fallback_after_minutes > 0


def _has_network(settings: Settings) -> bool:
    return settings.network.ranges is not None


def _has_gateway(settings: Settings) -> bool:
    return settings.network.gateway is not None


def _has_picker(settings: Settings) -> bool:
    return settings.network.inference_gateway


def _is_bound(settings: Settings) -> bool:
    return _is_autoscaled(settings) or _is_timed(settings) or _has_picker(settings)


def _has_client_policy(settings: Settings, *, regional: bool) -> bool:
    gateway = settings.network.gateway
    return gateway is not None and bool(gateway.source_ranges) and gateway.regional == regional


def _has_certificate(settings: Settings) -> bool:
    return settings.network.gateway is not None and settings.network.gateway.makes_certificate


def _has_certificate_map(settings: Settings) -> bool:
    return settings.network.gateway is not None and settings.network.gateway.makes_certificate and not settings.network.gateway.regional


def _is_built(settings: Settings) -> bool:
    return not settings.images.prebuilt_from and any(pool.kind not in settings.images.prebuilt for pool in settings.accelerators.pools)


def _is_monitored(settings: Settings) -> bool:
    return settings.monitoring.enabled


def _has_cache(settings: Settings) -> bool:
    return settings.server.weights_cache


_ON_ACCOUNT = "it may be given on the nodes' service account itself, once that is there"
_ON_REPOSITORY = "it may be given on the repository itself, once that is there"

NEEDS: tuple[Need, ...] = (
    _need("gcp:projects/service:Service", "serviceusage.serviceUsageAdmin", "serviceusage.services", "enable get list"),
    _need("gcp:serviceaccount/account:Account", "iam.serviceAccountAdmin", "iam.serviceAccounts", "create get"),
    # Only for the roles of GRANTABLE_ROLES.
    _need("gcp:projects/iAMMember:IAMMember", "resourcemanager.projectIamAdmin", "resourcemanager.projects",
        "get getIamPolicy setIamPolicy"),
    _need("gcp:container/cluster:Cluster", "container.admin", "container", "clusters.create clusters.get clusters.update operations.get"),
    # IAM stands in front of the control plane's DNS endpoint.
    _need("gcp:container/cluster:Cluster", "container.admin", "container.clusters", "connect",
        lambda settings: settings.network.control_plane_endpoint == "dns"),
    # Nodes run as an account of their own, which the account that makes them must be allowed to use.
    _need("gcp:container/nodePool:NodePool", "iam.serviceAccountUser", "iam.serviceAccounts", "actAs", elsewhere=_ON_ACCOUNT),
    # The provider reads the instance groups behind a node pool.
    _need("gcp:container/nodePool:NodePool", "compute.viewer", "compute.instanceGroupManagers", "get"),
    _need("gcp:artifactregistry/repository:Repository", "artifactregistry.admin", "artifactregistry.repositories", "create get"),
    _need("gcp:artifactregistry/repositoryIamMember:RepositoryIamMember", "artifactregistry.admin", "artifactregistry.repositories",
        "getIamPolicy setIamPolicy"),
    _need("docker:index/image:Image", "artifactregistry.writer", "artifactregistry.repositories", "downloadArtifacts uploadArtifacts",
        _is_built, _ON_REPOSITORY),
    _need("gcp:compute/network:Network", "compute.networkAdmin", "compute.networks", "create get updatePolicy", _has_network),
    _need("gcp:compute/subnetwork:Subnetwork", "compute.networkAdmin", "compute.subnetworks", "create get use", _has_network),
    _need("gcp:compute/router:Router", "compute.networkAdmin", "compute.routers", "create get", _has_network),
    _need("gcp:compute/routerNat:RouterNat", "compute.networkAdmin", "compute.routers", "update", _has_network),
    _need("gcp:compute/securityPolicy:SecurityPolicy", "compute.securityAdmin", "compute.securityPolicies", "create get update",
        lambda settings: _has_client_policy(settings, regional=False)),
    _need("gcp:compute/regionSecurityPolicy:RegionSecurityPolicy", "compute.securityAdmin", "compute.regionSecurityPolicies",
        "create get update", lambda settings: _has_client_policy(settings, regional=True)),
    *(
        _need(f"gcp:certificatemanager/{name[0].lower()}{name[1:]}:{name}", "certificatemanager.owner", f"certificatemanager.{kind}", verbs,
              when)
        for name, kind, verbs, when in (
            ("DnsAuthorization", "dnsauthorizations", "create get use", _has_certificate),
            ("Certificate", "certs", "create get use", _has_certificate),
            ("CertificateMap", "certmaps", "create get use", _has_certificate_map),
            ("CertificateMapEntry", "certmapentries", "create get", _has_certificate_map),
        )
    ),
    _need("gcp:monitoring/dashboard:Dashboard", "monitoring.editor", "monitoring.dashboards", "create get update", _is_monitored),
    _need("gcp:monitoring/alertPolicy:AlertPolicy", "monitoring.editor", "monitoring.alertPolicies", "create get update", _is_monitored),
    _need("gcp:storage/bucket:Bucket", "storage.admin", "storage.buckets", "create get update", _has_cache),
    _need("gcp:storage/bucketIAMMember:BucketIAMMember", "storage.admin", "storage.buckets", "getIamPolicy setIamPolicy", _has_cache),
    _object("cloud.google.com/v1:ComputeClass", "thirdPartyObjects"),
    _object("core/v1:Secret", "secrets"),
    _object("apps/v1:Deployment", "deployments"),
    _object("core/v1:Service", "services"),
    _object("policy/v1:PodDisruptionBudget", "podDisruptionBudgets"),
    _object("networking.k8s.io/v1:NetworkPolicy", "networkPolicies", lambda settings: settings.network.network_policy),
    _object("monitoring.googleapis.com/v1:PodMonitoring", "thirdPartyObjects"),
    *(
        _object(kind, "thirdPartyObjects", _has_gateway)
        for kind in ("gateway.networking.k8s.io/v1:Gateway", "gateway.networking.k8s.io/v1:HTTPRoute",
                     "networking.gke.io/v1:HealthCheckPolicy", "networking.gke.io/v1:GCPBackendPolicy")
    ),
    _object("inference.networking.k8s.io/v1:InferencePool", "thirdPartyObjects", _has_picker),
    _object("core/v1:ConfigMap", "configMaps", _has_picker),
    _object("rbac.authorization.k8s.io/v1:Role", "roles", lambda settings: _has_picker(settings) or _is_timed(settings)),
    # The metrics adapter and what it may do.
    _object("autoscaling/v2:HorizontalPodAutoscaler", "horizontalPodAutoscalers", _is_autoscaled),
    _object("apiregistration.k8s.io/v1:APIService", "apiServices", _is_autoscaled),
    _object("core/v1:Namespace", "namespaces", lambda settings: _is_autoscaled(settings) or _is_timed(settings)),
    _object("core/v1:ServiceAccount", "serviceAccounts", lambda settings: _is_bound(settings) or _has_cache(settings)),
    _object("rbac.authorization.k8s.io/v1:ClusterRole", "clusterRoles", _is_autoscaled),
    _object("rbac.authorization.k8s.io/v1:ClusterRoleBinding", "clusterRoleBindings", _is_autoscaled),
    _object("rbac.authorization.k8s.io/v1:RoleBinding", "roleBindings", _is_bound),
    _object("scheduling.k8s.io/v1:PriorityClass", "priorityClasses", _is_timed),
    # Kubernetes lets a subject make and bind only roles whose permissions it holds itself, unless it may `escalate` and `bind`.
    _need("kubernetes:rbac.authorization.k8s.io/v1:ClusterRoleBinding", "container.admin", "container",
        "clusterRoles.bind clusterRoles.escalate", _is_autoscaled),
    _need("kubernetes:rbac.authorization.k8s.io/v1:RoleBinding", "container.admin", "container", "roles.bind roles.escalate", _is_bound),
)  # fmt: skip

#: Reads every resource's IAM policy, which the refresh of an IAM member requires.
_POLICIES = "roles/iam.securityReviewer"

#: Role that deploys -> roles that read the same, as `preview --refresh` does.
_PREVIEW: Mapping[str, tuple[str, ...]] = {
    "roles/serviceusage.serviceUsageAdmin": ("roles/serviceusage.serviceUsageViewer",),
    "roles/iam.serviceAccountAdmin": ("roles/iam.serviceAccountViewer",),
    "roles/iam.serviceAccountUser": (),
    "roles/resourcemanager.projectIamAdmin": (_POLICIES, "roles/browser"),
    "roles/container.admin": ("roles/container.viewer",),
    "roles/compute.viewer": ("roles/compute.viewer",),
    "roles/compute.networkAdmin": ("roles/compute.viewer",),
    "roles/compute.securityAdmin": ("roles/compute.viewer",),
    "roles/certificatemanager.owner": ("roles/certificatemanager.viewer",),
    "roles/artifactregistry.admin": ("roles/artifactregistry.reader", _POLICIES),
    "roles/artifactregistry.writer": ("roles/artifactregistry.reader",),
    "roles/monitoring.editor": ("roles/monitoring.viewer",),
    "roles/storage.admin": ("roles/storage.bucketViewer", _POLICIES),
}

#: For reading a secret version's metadata (the right to its value is granted on each secret), and quotas that only Cloud Quotas has.
_READ = ("roles/secretmanager.viewer", "roles/cloudquotas.viewer")

#: Roles above that a stronger role of the same account includes.
_IMPLIED = "roles/artifactregistry.writer"

#: The only roles that the deploying account may grant in the project: those that the program grants. Without this limit,
#: everyone who can change the program could become the project's owner.
#: https://docs.cloud.google.com/iam/docs/setting-limits-on-granting-roles
GRANTABLE_ROLES = ("roles/container.defaultNodeServiceAccount", "roles/monitoring.viewer", "roles/serviceusage.serviceUsageConsumer")

LIMITED_ROLE = "roles/resourcemanager.projectIamAdmin"

#: Rights that predefined roles only give together with rights to write: to read the Secrets in the cluster that a refresh compares,
#: and to reach a control plane by its DNS endpoint.
PREVIEW_PERMISSIONS = ("container.clusters.connect", "container.secrets.get", "container.secrets.list")


def needs(settings: Settings) -> tuple[Need, ...]:
    """What a stack with these settings takes."""
    return tuple(each for each in NEEDS if each.when(settings))


def deploy_roles() -> tuple[str, ...]:
    return tuple(sorted({need.role for need in NEEDS if need.role != _IMPLIED} | set(_READ)))


def preview_roles() -> tuple[str, ...]:
    return tuple(sorted({role for need in NEEDS for role in _PREVIEW[need.role]} | {_POLICIES, *_READ}))


def grant_condition() -> str:
    """The condition on `LIMITED_ROLE`, in CEL."""
    listed = ", ".join(f"'{role}'" for role in GRANTABLE_ROLES)
    return f"api.getAttribute('iam.googleapis.com/modifiedGrantsByRole', []).hasOnly([{listed}])"
