"""What the pipelines' two accounts may do in an environment's project: to deploy, and to preview.

Predefined roles, the narrowest that hold what the program's resources need; a test runs the program and wants a line here for
each type. https://docs.cloud.google.com/iam/docs/roles-permissions. Left out: state and keys (`state_store`), and what Kubernetes'
own RBAC would give.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Roles:
    """What a family of resources needs."""

    #: Beginning of Pulumi's type tokens.
    resources: str
    deploy: tuple[str, ...]
    #: To read it, as `preview --refresh` does.
    preview: tuple[str, ...]


#: Reads every resource's IAM policy, which is what refreshing an IAM member takes.
_POLICIES = "roles/iam.securityReviewer"

ROLES: tuple[Roles, ...] = (
    Roles(
        resources="gcp:projects/service:",
        deploy=("roles/serviceusage.serviceUsageAdmin",),
        preview=("roles/serviceusage.serviceUsageViewer",),
    ),
    Roles(
        resources="gcp:serviceaccount/account:",
        deploy=("roles/iam.serviceAccountAdmin",),
        preview=("roles/iam.serviceAccountViewer",),
    ),
    Roles(
        resources="gcp:projects/iAMMember:",
        # For the roles of GRANTABLE_ROLES only.
        deploy=("roles/resourcemanager.projectIamAdmin",),
        preview=(_POLICIES, "roles/browser"),
    ),
    Roles(
        resources="gcp:container/",
        # Nodes run as an account of their own, which whoever makes them must be allowed to use.
        deploy=("roles/container.admin", "roles/iam.serviceAccountUser", "roles/compute.viewer"),
        preview=("roles/container.viewer", "roles/compute.viewer"),
    ),
    # Objects in the cluster: IAM's roles for GKE hold there too.
    Roles(resources="kubernetes:", deploy=("roles/container.admin",), preview=("roles/container.viewer",)),
    Roles(
        resources="gcp:artifactregistry/",
        deploy=("roles/artifactregistry.admin",),
        preview=("roles/artifactregistry.reader", _POLICIES),
    ),
    Roles(resources="docker:", deploy=("roles/artifactregistry.admin",), preview=("roles/artifactregistry.reader",)),
    Roles(resources="gcp:compute/", deploy=("roles/compute.networkAdmin",), preview=("roles/compute.viewer",)),
    Roles(resources="gcp:monitoring/", deploy=("roles/monitoring.editor",), preview=("roles/monitoring.viewer",)),
    Roles(
        resources="gcp:storage/",
        deploy=("roles/storage.admin",),
        preview=("roles/storage.bucketViewer", _POLICIES),
    ),
    Roles(
        resources="gcp:secretmanager/",
        # A look at the version beside its value, for which each secret's own right is given.
        deploy=("roles/secretmanager.viewer",),
        preview=("roles/secretmanager.viewer", _POLICIES),
    ),
)

#: Preflight's own questions: quotas that Cloud Quotas alone knows.
PREFLIGHT_ROLES = ("roles/cloudquotas.viewer",)

#: The only roles that the deploying account may grant in the project: those that the program grants. Without this limit,
#: whoever can change the program could make itself the project's owner.
#: https://docs.cloud.google.com/iam/docs/setting-limits-on-granting-roles
GRANTABLE_ROLES = (
    "roles/container.defaultNodeServiceAccount",
    "roles/monitoring.viewer",
    "roles/serviceusage.serviceUsageConsumer",
)

LIMITED_ROLE = "roles/resourcemanager.projectIamAdmin"

#: What no predefined role gives without the right to write: to read the Secrets in the cluster that a refresh compares, and to
#: reach a control plane by its DNS endpoint.
PREVIEW_PERMISSIONS = ("container.clusters.connect", "container.secrets.get", "container.secrets.list")


def deploy_roles() -> tuple[str, ...]:
    return _sorted({role for each in ROLES for role in each.deploy} | set(PREFLIGHT_ROLES))


def preview_roles() -> tuple[str, ...]:
    return _sorted({role for each in ROLES for role in each.preview} | set(PREFLIGHT_ROLES))


def grant_condition() -> str:
    """The condition on `LIMITED_ROLE`, in CEL."""
    listed = ", ".join(f"'{role}'" for role in GRANTABLE_ROLES)
    return f"api.getAttribute('iam.googleapis.com/modifiedGrantsByRole', []).hasOnly([{listed}])"


def _sorted(roles: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(roles))
