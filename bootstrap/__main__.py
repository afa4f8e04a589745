"""The one-time set-up of a team's project: settings, provider, state, identity, access, outputs."""

import sys
from pathlib import Path

import pulumi
import pulumi_gcp

# The engine runs this file from its own folder, and it shares components with the program beside it.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bootstrap import github_commands, settings
from bootstrap.environment_access import EnvironmentAccess, EnvironmentAccessArgs
from bootstrap.github_identity import GitHubIdentity
from bootstrap.state_store import StateStore
from components.cluster.project_services import enable_apis, waiting_for_new_apis

#: Google counts an account's requests against the account's own project, where the APIs have to be on too.
_APIS_OF_THE_PIPELINES = (
    "artifactregistry",
    "cloudbilling",
    "cloudquotas",
    "cloudresourcemanager",
    "compute",
    "container",
    "monitoring",
    "secretmanager",
    "serviceusage",
)

config = settings.load()
only = waiting_for_new_apis(pulumi_gcp.Provider("gcp", project=config.project, region=config.location))

pipelines = pulumi.ComponentResource("fungibility:bootstrap:PipelineApis", "pipelines", None, only)
enable_apis("pipelines", _APIS_OF_THE_PIPELINES, project=config.project, parent=pipelines)
state = StateStore("state", config, only)
identity = GitHubIdentity("github", config, only)
access = {
    each.name: EnvironmentAccess(each.name, EnvironmentAccessArgs(settings=config, environment=each, identity=identity, state=state), only)
    for each in config.environments
}

backend_url = state.bucket.apply(lambda bucket: f"gs://{bucket}")
accounts = {
    name: account
    for each, accounts in access.items()
    for name, account in ((each, accounts.deploy_account), (f"{each}{settings.PREVIEW_SUFFIX}", accounts.preview_account))
}
pulumi.export("backend_url", backend_url)
pulumi.export("secrets_providers", {name: key.apply(lambda known: f"gcpkms://{known}") for name, key in state.keys.items()})
pulumi.export("workload_identity_provider", identity.provider)
pulumi.export("service_accounts", accounts)
pulumi.export(
    "github_commands",
    pulumi.Output.all(backend=backend_url, provider=identity.provider, accounts=accounts).apply(
        lambda known: github_commands.commands(
            config, backend_url=known["backend"], identity_provider=known["provider"], accounts=known["accounts"]
        )
    ),
)
