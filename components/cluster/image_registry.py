"""The image repository and one image for each accelerator, built here or elsewhere, and run by digest.

Only this module knows how images are built (pulumi-docker). Nothing here waits for the cluster. Left out: the right to read
another project's repository, which that project has to grant.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_docker
from pulumi_gcp import artifactregistry

from components.catalog.machines import Kind
from components.catalog.vllm_releases import same_server
from components.cluster.cluster import Cluster
from components.cluster.project_services import enable_apis
from components.settings.formats import is_digest_reference
from components.settings.sections import AcceleratorSettings, ClusterSettings, ImageSettings, Place

#: Build context and Dockerfiles, relative to the program.
CONTEXT = "images"

#: How many versions of an image are kept whatever their age.
KEPT_VERSIONS = 10

#: All of GKE's accelerator machines have this platform, whatever machine builds the image.
PLATFORM = "linux/amd64"


@dataclass(frozen=True)
class ImageRegistryArgs:
    place: Place
    images: ImageSettings
    accelerators: AcceleratorSettings
    #: Whose nodes pull the images. It is protected where the cluster is: other stacks may run its images.
    cluster_settings: ClusterSettings
    cluster: Cluster
    #: OAuth access token of the account that pushes them; secret.
    access_token: pulumi.Input[str]


def repository_arguments(args: ImageRegistryArgs) -> dict[str, Any]:
    """Keyword arguments of `artifactregistry.Repository` beyond its name."""
    arguments: dict[str, Any] = {
        # Inherited: what the project says, in which Container Scanning is then switched on (`_apis`).
        "vulnerability_scanning_config": {"enablement_config": "INHERITED" if args.images.vulnerability_scanning else "DISABLED"}
    }
    if args.place.labels:
        arguments["labels"] = dict(args.place.labels)
    if args.images.retention_days:
        arguments["cleanup_policies"] = [
            {
                "id": "delete-untagged",
                "action": "DELETE",
                "condition": {"tag_state": "UNTAGGED", "older_than": f"{args.images.retention_days * 86_400}s"},
            },
            # Pods run digests. Only the newest image of each accelerator has its tag; earlier ones allow a rollback.
            {"id": "keep-latest", "action": "KEEP", "most_recent_versions": {"keep_count": KEPT_VERSIONS}},
        ]
    return arguments


class ImageRegistry(pulumi.ComponentResource):
    """An Artifact Registry repository with the images of this program."""

    #: `LOCATION-docker.pkg.dev/PROJECT/REPOSITORY`.
    repository: pulumi.Output[str]
    #: Accelerator -> reference by digest: a rebuilt image rolls its pods, and an unchanged one does nothing.
    images: dict[Kind, pulumi.Output[str]]

    def __init__(self, name: str, args: ImageRegistryArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("fungibility:index:ImageRegistry", name, None, opts)
        self._built_by: pulumi.StackReference | None = None
        server = f"{args.place.region}-docker.pkg.dev"
        repository = artifactregistry.Repository(
            name,
            project=args.place.project,
            location=args.place.region,
            repository_id=args.images.repository_name,
            format="DOCKER",
            description="Images of the tpu-gpu-fungibility stack",
            **repository_arguments(args),
            opts=pulumi.ResourceOptions(
                parent=self,
                # Explicit, since no output depends on an API being on.
                depends_on=enable_apis(name, _apis(args), project=args.place.project, parent=self),
                protect=args.cluster_settings.deletion_protection,
            ),
        )
        reader = artifactregistry.RepositoryIamMember(
            f"{name}-reader",
            project=args.place.project,
            location=args.place.region,
            repository=repository.name,
            role="roles/artifactregistry.reader",
            member=pulumi.Output.from_input(args.cluster.node_service_account).apply(lambda email: f"serviceAccount:{email}"),
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.repository = repository.repository_id.apply(
            # In a domain-scoped project's ID (example.com:project) the colon becomes a slash, as in every image reference.
            lambda known: f"{server}/{args.place.project.replace(':', '/')}/{known}"
        )
        self.images = {}
        for kind in args.accelerators.kinds:
            if kind in args.images.prebuilt:
                self.images[kind] = pulumi.Output.from_input(args.images.prebuilt[kind])
            elif args.images.prebuilt_from:
                self.images[kind] = self._promoted(kind, args.images.prebuilt_from, args.images.base_images[kind])
            else:
                image = self._build(f"{name}-{kind}", kind, args.images.base_images[kind], server, args)
                # An image is useful only once nodes may pull it, so users of the reference wait for that too.
                self.images[kind] = pulumi.Output.all(image.repo_digest, reader.id).apply(lambda known: str(known[0]))
        self.register_outputs({"repository": self.repository, "images": self.images})

    def _promoted(self, kind: Kind, stack: str, own_base: str) -> pulumi.Output[str]:
        if self._built_by is None:
            self._built_by = pulumi.StackReference(stack, opts=pulumi.ResourceOptions(parent=self))
        named = pulumi.Output.all(images=self._built_by.get_output("images"), base_images=self._built_by.get_output("base_images"))
        return named.apply(lambda outputs: promoted_image(outputs, kind, stack, own_base=own_base))

    def _build(self, name: str, kind: Kind, base: str, server: str, args: ImageRegistryArgs) -> pulumi_docker.Image:
        return pulumi_docker.Image(
            name,
            # The walkthrough's tags; pods never use them.
            image_name=self.repository.apply(lambda known: f"{known}/{args.images.name}:{kind.upper()}"),
            build=pulumi_docker.DockerBuildArgs(
                context=CONTEXT,
                dockerfile=f"{CONTEXT}/{kind}.Dockerfile",
                platform=PLATFORM,
                args={"BASE_IMAGE": base},
                # COPY --link needs BuildKit.
                builder_version=pulumi_docker.BuilderVersion.BUILDER_BUILD_KIT,
            ),
            # The token is new in every run and makes no diff, since the provider does not compare the password.
            registry=pulumi_docker.RegistryArgs(server=server, username="oauth2accesstoken", password=args.access_token),
            opts=pulumi.ResourceOptions(parent=self),
        )


def _apis(args: ImageRegistryArgs) -> list[str]:
    return ["artifactregistry", *(["containerscanning"] if args.images.vulnerability_scanning else [])]


def promoted_image(outputs: Mapping[str, Any], kind: Kind, stack: str, *, own_base: str) -> str:
    """The reference in another stack's `images` output, if that image has the vLLM for which this stack makes the server's arguments.

    `outputs`: `images` and `base_images` of that stack. `own_base`: this stack's base image. Raises `pulumi.RunError`.
    """
    reference, base = (each.get(kind) if isinstance(each := outputs[name], Mapping) else None for name in ("images", "base_images"))
    if not isinstance(reference, str) or not is_digest_reference(reference):
        found = "nothing" if reference is None else json.dumps(reference, default=str)
        raise pulumi.RunError(
            f"imagesFrom: {json.dumps(stack)} has {found} as image of accelerator {kind} in its output `images`, "
            f"not a reference by digest. Fix: run `pulumi up` on that stack with a pool of {kind}, or name the image in `images`."
        )
    if not isinstance(base, str):
        raise pulumi.RunError(
            f"imagesFrom: {json.dumps(stack)} does not say in its output `base_images` which vLLM its image of accelerator {kind} has, "
            "and the server's arguments depend on that. Fix: run `pulumi up` on that stack with this version of the program."
        )
    if not same_server(base, own_base):
        raise pulumi.RunError(
            f"{kind}BaseImage: {json.dumps(own_base)} is another vLLM than that of the image which runs ({json.dumps(base)}, says "
            f"{json.dumps(stack)}), and the server's arguments depend on it. Fix: `pulumi config set {kind}BaseImage {base}`."
        )
    return reference
