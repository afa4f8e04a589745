"""A chat page and a gateway on top of another stack: that stack's outputs, an image, and a Deployment in its cluster."""

import sys
from pathlib import Path

import pulumi
import pulumi_docker
import pulumi_gcp
import pulumi_kubernetes

# The engine runs this file from its own folder, and the settings' reader is the one of the program above it.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import gateway_settings
import inference_stack
from chat_gateway import ChatGateway, ChatGatewayArgs

config = gateway_settings.load()
serving = inference_stack.read(config.inference_stack)

# Every provider waits for the other stack's outputs, so nothing is made before these are checked.
gcp = pulumi_gcp.Provider("gcp", project=serving.image_repository.apply(lambda repository: repository.split("/")[1]))
docker = pulumi_docker.Provider("docker", opts=pulumi.ResourceOptions(depends_on=[gcp]))
kubernetes = pulumi_kubernetes.Provider("kubernetes", kubeconfig=serving.kubeconfig)

login = pulumi_gcp.organizations.get_client_config_output(opts=pulumi.InvokeOutputOptions(provider=gcp))
image = pulumi_docker.Image(
    "gateway",
    image_name=serving.image_repository.apply(lambda repository: f"{repository}/chat-gateway:latest"),
    build=pulumi_docker.DockerBuildArgs(
        context="gateway",
        dockerfile="gateway/Dockerfile",
        platform="linux/amd64",
        builder_version=pulumi_docker.BuilderVersion.BUILDER_BUILD_KIT,
    ),
    registry=pulumi_docker.RegistryArgs(
        server=serving.image_repository.apply(lambda repository: repository.split("/")[0]),
        username="oauth2accesstoken",
        password=pulumi.Output.secret(login.access_token),
    ),
    opts=pulumi.ResourceOptions(provider=docker),
)
gateway = ChatGateway(
    "chat-gateway",
    ChatGatewayArgs(
        namespace=serving.namespace,
        image=image.repo_digest,
        upstream_url=config.upstream_url or serving.service_url,
        model=serving.model,
        settings=config,
    ),
    pulumi.ResourceOptions(providers=[kubernetes]),
)

pulumi.export("chat_url", gateway.url)
pulumi.export("api_url", gateway.url.apply(lambda url: f"{url}/v1"))
pulumi.export("model_alias", config.model_alias)
