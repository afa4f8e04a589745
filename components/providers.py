"""The providers of every resource, made explicitly: none is taken from the machine that runs the program."""

from __future__ import annotations

import pulumi
import pulumi_docker
import pulumi_gcp
import pulumi_kubernetes
from pulumi_gcp import organizations


def gcp_provider(project: str, region: str) -> pulumi_gcp.Provider:
    return pulumi_gcp.Provider("gcp", project=project, region=region)


def docker_provider() -> pulumi_docker.Provider:
    """The Docker daemon of the machine that runs the program."""
    return pulumi_docker.Provider("docker")


def kubernetes_provider(kubeconfig: pulumi.Input[str]) -> pulumi_kubernetes.Provider:
    return pulumi_kubernetes.Provider("kubernetes", kubeconfig=kubeconfig)


def access_token(gcp: pulumi_gcp.Provider) -> pulumi.Output[str]:
    """A short-lived token of whoever runs the program, for pushing images."""
    client = organizations.get_client_config_output(opts=pulumi.InvokeOutputOptions(provider=gcp))
    return pulumi.Output.secret(client.access_token)
