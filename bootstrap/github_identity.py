"""GitHub's identity tokens as Google credentials: a workload identity pool that takes this repository's tokens only.

https://docs.github.com/en/actions/reference/security/oidc lists the claims. There is no key: a job gets a token of its own,
which Google exchanges for one of the account that the job's GitHub environment and branch allow.
"""

from __future__ import annotations

import pulumi
from pulumi_gcp import iam

from bootstrap.settings import PREVIEW_SUFFIX, BootstrapSettings
from components.cluster.project_services import enable_apis

ISSUER = "https://token.actions.githubusercontent.com"

#: google.subject may have 127 bytes. GitHub's subjects are longer for long names, and its numbers never are.
ATTRIBUTE_MAPPING = {
    "google.subject": "assertion.repository_id + ':' + assertion.environment + ':' + assertion.run_id",
    "attribute.environment": "assertion.environment",
    "attribute.deployment": "'environment:' + assertion.environment + ':ref:' + assertion.ref",
}


def attribute_condition(settings: BootstrapSettings) -> str:
    """Which tokens are accepted at all, in CEL. It compares numbers, since someone else can take over a name that was given up.

    The token of a job without an environment lacks that claim, so the evaluation fails and the token is refused.
    """
    listed = ", ".join(f"'{name}'" for each in settings.environment_names for name in (each, f"{each}{PREVIEW_SUFFIX}"))
    return (
        f"assertion.repository_id == '{settings.repository_id}' && assertion.repository_owner_id == '{settings.owner_id}'"
        f" && assertion.environment in [{listed}]"
    )


class GitHubIdentity(pulumi.ComponentResource):
    """The pool and its one provider."""

    #: `projects/NUMBER/locations/global/workloadIdentityPools/POOL`.
    pool: pulumi.Output[str]
    #: Full name, for google-github-actions/auth.
    provider: pulumi.Output[str]

    def __init__(self, name: str, settings: BootstrapSettings, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("fungibility:bootstrap:GitHubIdentity", name, None, opts)
        pool = iam.WorkloadIdentityPool(
            name,
            project=settings.project,
            workload_identity_pool_id=name,
            display_name="GitHub Actions",
            opts=pulumi.ResourceOptions(
                parent=self,
                # Explicit, since no output depends on an API being on.
                depends_on=enable_apis(name, ["iam", "iamcredentials", "sts"], project=settings.project, parent=self),
            ),
        )
        provider = iam.WorkloadIdentityPoolProvider(
            name,
            project=settings.project,
            workload_identity_pool_id=pool.workload_identity_pool_id,
            workload_identity_pool_provider_id=name,
            display_name="GitHub Actions",
            attribute_mapping=ATTRIBUTE_MAPPING,
            attribute_condition=attribute_condition(settings),
            oidc={"issuer_uri": ISSUER},
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.pool = pool.name
        self.provider = provider.name
        self.register_outputs({"pool": self.pool, "provider": self.provider})

    def previewing(self, environment: str) -> pulumi.Output[str]:
        """IAM's name for the jobs of an environment's previews, on any branch."""
        return self._principals("environment", f"{environment}{PREVIEW_SUFFIX}")

    def deploying(self, environment: str, branch: str) -> pulumi.Output[str]:
        """IAM's name for the jobs of the environment itself, on the branch that deploys."""
        return self._principals("deployment", f"environment:{environment}:ref:refs/heads/{branch}")

    def _principals(self, attribute: str, value: str) -> pulumi.Output[str]:
        return self.pool.apply(lambda pool: f"principalSet://iam.googleapis.com/{pool}/attribute.{attribute}/{value}")
