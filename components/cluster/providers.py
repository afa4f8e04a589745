"""The providers of every resource, made explicitly: no default of the machine that runs the program is used."""

from __future__ import annotations

import pulumi
import pulumi_docker
import pulumi_gcp
import pulumi_kubernetes
from pulumi_gcp import organizations

from components.cluster.cluster import Cluster

_CLIENT_CONFIG = "gcp:organizations/getClientConfig:getClientConfig"


def gcp_provider(project: str, region: str) -> pulumi_gcp.Provider:
    return pulumi_gcp.Provider("gcp", project=project, region=region)


def docker_provider() -> pulumi_docker.Provider:
    """The Docker daemon of the machine that runs the program."""
    return pulumi_docker.Provider("docker")


def kubernetes_provider(cluster: Cluster) -> pulumi_kubernetes.Provider:
    """Waits for the system pool, which outlives every object: without nodes no pod answers the webhooks that an object needs, and
    namespaces hang in their deletion (kubernetes/kubernetes#114214)."""
    return pulumi_kubernetes.Provider("kubernetes", kubeconfig=cluster.kubeconfig, opts=_with_nodes(cluster))


def adopting_provider(cluster: Cluster) -> pulumi_kubernetes.Provider:
    """For objects that may already exist: it takes them over, where the other provider refuses."""
    return pulumi_kubernetes.Provider(
        "kubernetes-adopting", kubeconfig=cluster.kubeconfig, upsert_existing_objects=True, opts=_with_nodes(cluster)
    )


def _with_nodes(cluster: Cluster) -> pulumi.ResourceOptions:
    return pulumi.ResourceOptions(depends_on=[cluster.system_pool])


def access_token(gcp: pulumi_gcp.Provider) -> pulumi.Output[str]:
    """A short-lived token of the account that runs the program, for pushing images."""
    return pulumi.Output.secret(pulumi.Output.from_input(_access_token(gcp)))


async def _access_token(gcp: pulumi_gcp.Provider) -> str:
    """Raises `pulumi.RunError` if there is none; the SDK's own function would end the program with a traceback."""
    try:
        client = await pulumi.runtime.invoke_async(
            _CLIENT_CONFIG, {}, pulumi.InvokeOptions(provider=gcp), organizations.GetClientConfigResult
        )
    except Exception as error:  # noqa: BLE001 - the SDK raises no narrower one
        raise pulumi.RunError(
            f"no access token of Google Cloud for pushing images: {reason_of(error)}. Log in again: `gcloud auth application-default "
            "login`; in a pipeline run the job again, which logs in by Workload Identity Federation. What was made so far stays, "
            "and the next `pulumi up` goes on from there"
        ) from None
    return str(client.access_token)


def reason_of(error: Exception) -> str:
    """The provider's own message about a call that failed, without what Pulumi's SDK says before it."""
    return str(error).rpartition("returned an error: ")[2]
