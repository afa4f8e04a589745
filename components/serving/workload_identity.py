"""IAM's name for the pods of a Kubernetes service account, by which they get rights of their own without a key.

Left out: which rights, and Google service accounts, which are not needed in between.
"""

from __future__ import annotations


def pod_principal(*, project_number: int, workload_pool: str, namespace: str, service_account: str) -> str:
    """IAM's name for the pods of a Kubernetes service account.

    https://docs.cloud.google.com/kubernetes-engine/docs/how-to/workload-identity#authenticating_to
    """
    return (
        f"principal://iam.googleapis.com/projects/{project_number}/locations/global/workloadIdentityPools/{workload_pool}"
        f"/subject/ns/{namespace}/sa/{service_account}"
    )
