"""What IAM calls the pods of a Kubernetes service account, so that they have rights of their own and no key.

Left out: which rights; and Google service accounts, which need not be between.
"""

from __future__ import annotations


def pod_principal(*, project_number: int, workload_pool: str, namespace: str, service_account: str) -> str:
    """How IAM calls the pods of a Kubernetes service account.

    https://docs.cloud.google.com/kubernetes-engine/docs/how-to/workload-identity#authenticating_to
    """
    return (
        f"principal://iam.googleapis.com/projects/{project_number}/locations/global/workloadIdentityPools/{workload_pool}"
        f"/subject/ns/{namespace}/sa/{service_account}"
    )
