"""Which Google APIs `pulumi up` and preflight ask. Left out: permissions and roles (`bootstrap.roles`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from components.settings.sections import Settings

#: Without these the program cannot switch on the others: the provider enables an API through the first, and reads the project
#: through the second as it does so (resource_google_project_service.go).
APIS_BEFORE_UP = ("serviceusage", "cloudresourcemanager")

#: What preflight itself asks; `up` does without.
APIS_OF_PREFLIGHT = ("cloudbilling",)


#: API that the program switches on -> whether a stack with these settings asks for it; `container` stands for container.googleapis.com.
APIS_OF_PROGRAM: Mapping[str, Callable[[Settings], bool]] = {
    "compute": lambda settings: True,
    "container": lambda settings: True,
    "iam": lambda settings: True,
    "cloudresourcemanager": lambda settings: True,
    "artifactregistry": lambda settings: True,
    "containerfilesystem": lambda settings: settings.cluster.image_streaming,
    "storage": lambda settings: settings.server.weights_cache,
    "monitoring": lambda settings: settings.monitoring.enabled or settings.scaling.autoscaled,
    "containerscanning": lambda settings: settings.images.vulnerability_scanning,
    "certificatemanager": lambda settings: settings.network.gateway is not None and settings.network.gateway.makes_certificate,
    "networkservices": lambda settings: settings.network.inference_gateway,
    "binaryauthorization": lambda settings: settings.security.binary_authorization,
}


def apis_of_program(settings: Settings) -> tuple[str, ...]:
    return tuple(api for api, when in APIS_OF_PROGRAM.items() if when(settings))
