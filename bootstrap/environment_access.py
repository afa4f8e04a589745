"""The two accounts of an environment, and all that they may do: `deploy-ENV` changes it, `preview-ENV` only reads.

Both belong to the project that holds the state; what they may do in the environment's project is in `roles`.
"""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
from pulumi_gcp import kms, projects, secretmanager, serviceaccount, storage

from bootstrap import roles
from bootstrap.github_identity import GitHubIdentity
from bootstrap.settings import BootstrapSettings, Environment
from bootstrap.state_store import StateStore, write_condition
from components.cluster.project_services import enable_apis

#: Have to be on in the environment's own project before the program runs: it switches on the others through the first, and the
#: provider reads the project through the second.
_APIS = ("serviceusage", "cloudresourcemanager")


@dataclass(frozen=True, kw_only=True)
class EnvironmentAccessArgs:
    settings: BootstrapSettings
    environment: Environment
    identity: GitHubIdentity
    state: StateStore


class EnvironmentAccess(pulumi.ComponentResource):
    """Accounts and grants of one environment."""

    #: E-mail addresses.
    deploy_account: pulumi.Output[str]
    preview_account: pulumi.Output[str]

    def __init__(self, name: str, args: EnvironmentAccessArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("fungibility:bootstrap:EnvironmentAccess", name, None, opts)
        environment = args.environment
        self._name, self._args = name, args
        self._apis = enable_apis(name, _APIS, project=environment.project, parent=self)
        secrets_reader = projects.IAMCustomRole(
            f"{name}-secrets-reader",
            project=environment.project,
            # Two environments may share a project. Such a name has no hyphens.
            role_id=f"fungibility_{environment.name.replace('-', '_')}_secretsReader",
            title=f"Reads Secrets of {environment.name}'s cluster",
            description="Rights to read that a preview needs and that predefined roles only give together with rights to write",
            permissions=list(roles.PREVIEW_PERMISSIONS),
            opts=pulumi.ResourceOptions(parent=self, depends_on=self._apis),
        )
        deploy = self._account("deploy", args.identity.deploying(environment.name, args.settings.branch))
        preview = self._account("preview", args.identity.previewing(environment.name))
        for role in roles.deploy_roles():
            self._grant("deploy", deploy, role)
        for role in roles.preview_roles():
            self._grant("preview", preview, role)
        projects.IAMMember(
            f"{name}-preview-secrets-reader",
            project=environment.project,
            role=secrets_reader.name,
            member=_member(preview),
            opts=pulumi.ResourceOptions(parent=self),
        )
        self._state(deploy, preview)
        self.deploy_account, self.preview_account = deploy.email, preview.email
        self.register_outputs({"deploy_account": self.deploy_account, "preview_account": self.preview_account})

    def _account(self, use: str, principals: pulumi.Input[str]) -> serviceaccount.Account:
        environment = self._args.environment.name
        account = serviceaccount.Account(
            f"{self._name}-{use}",
            project=self._args.settings.project,
            account_id=f"{use}-{environment}",
            display_name=f"GitHub Actions: {use} {environment}",
            # The identity pool waits for the APIs that accounts need too.
            opts=pulumi.ResourceOptions(parent=self, depends_on=[self._args.identity]),
        )
        serviceaccount.IAMMember(
            f"{self._name}-{use}-github",
            service_account_id=account.name,
            role="roles/iam.workloadIdentityUser",
            member=principals,
            opts=pulumi.ResourceOptions(parent=self),
        )
        return account

    def _grant(self, use: str, account: serviceaccount.Account, role: str) -> None:
        projects.IAMMember(
            f"{self._name}-{use}-{role.removeprefix('roles/')}",
            project=self._args.environment.project,
            role=role,
            member=_member(account),
            condition={"title": "Only the roles that the program grants", "expression": roles.grant_condition()}
            if role == roles.LIMITED_ROLE
            else None,
            opts=pulumi.ResourceOptions(parent=self, depends_on=self._apis),
        )

    def _state(self, deploy: serviceaccount.Account, preview: serviceaccount.Account) -> None:
        """A preview takes no lock and writes nothing: Preview in pkg/backend/diy/backend.go of pulumi 3.250."""
        environment = self._args.environment
        child = pulumi.ResourceOptions(parent=self)
        storage.BucketIAMMember(
            f"{self._name}-deploy-state-writer",
            bucket=self._args.state.bucket,
            role="roles/storage.objectUser",
            member=_member(deploy),
            condition={
                "title": f"State of {environment.name}",
                "expression": write_condition(self._args.settings.state_bucket, environment.name),
            },
            opts=child,
        )
        for use, account in (("deploy", deploy), ("preview", preview)):
            storage.BucketIAMMember(
                f"{self._name}-{use}-state-reader",
                bucket=self._args.state.bucket,
                role="roles/storage.objectViewer",
                member=_member(account),
                opts=child,
            )
            for other in dict.fromkeys((environment.name, *environment.reads_from)):
                # A stack's secrets are encrypted with a key that is itself encrypted once, when a person makes the stack (docs/deploy.md).
                # Afterwards the accounts only need to decrypt.
                kms.CryptoKeyIAMMember(
                    f"{self._name}-{use}-key-{other}",
                    crypto_key_id=self._args.state.keys[other],
                    role="roles/cloudkms.cryptoKeyDecrypter",
                    member=_member(account),
                    opts=child,
                )
            for secret in environment.secrets:
                secretmanager.SecretIamMember(
                    f"{self._name}-{use}-secret-{secret}",
                    project=environment.project,
                    secret_id=secret,
                    role="roles/secretmanager.secretAccessor",
                    member=_member(account),
                    opts=child,
                )


def _member(account: serviceaccount.Account) -> pulumi.Output[str]:
    return pulumi.Output.concat("serviceAccount:", account.email)
