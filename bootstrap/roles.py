"""What the pipelines' two accounts, for deploying and for previews, may do in an environment's project.

They get the narrowest predefined roles that allow what the program's resources need; a test runs the program and requires a line
here for each type. https://docs.cloud.google.com/iam/docs/roles-permissions. Left out: state and keys (`state_store`), and Kubernetes' own
RBAC.
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
    #: Roles for reading it, as `preview --refresh` does.
    preview: tuple[str, ...]


#: Reads every resource's IAM policy, which the refresh of an IAM member requires.
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
        # Only for the roles of GRANTABLE_ROLES.
        deploy=("roles/resourcemanager.projectIamAdmin",),
        preview=(_POLICIES, "roles/browser"),
    ),
    Roles(
        resources="gcp:container/",
        # Nodes run as an account of their own, which the account that makes them must be allowed to use.
        deploy=("roles/container.admin", "roles/iam.serviceAccountUser", "roles/compute.viewer"),
        preview=("roles/container.viewer", "roles/compute.viewer"),
    ),
    # IAM's roles for GKE also apply to objects in the cluster.
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
        # To read a version's metadata; the right to its value is granted on each secret.
        deploy=("roles/secretmanager.viewer",),
        preview=("roles/secretmanager.viewer", _POLICIES),
    ),
)

#: For preflight, which asks for quotas that only Cloud Quotas has.
PREFLIGHT_ROLES = ("roles/cloudquotas.viewer",)

#: The only roles that the deploying account may grant in the project: those that the program grants. Without this limit,
#: everyone who can change the program could become the project's owner.
#: https://docs.cloud.google.com/iam/docs/setting-limits-on-granting-roles
GRANTABLE_ROLES = (
    "roles/container.defaultNodeServiceAccount",
    "roles/monitoring.viewer",
    "roles/serviceusage.serviceUsageConsumer",
)

LIMITED_ROLE = "roles/resourcemanager.projectIamAdmin"

#: Rights that predefined roles only give together with rights to write: to read the Secrets in the cluster that a refresh compares,
#: and to reach a control plane by its DNS endpoint.
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
