"""The weights cache: a Cloud Storage bucket that pods mount as a folder, and the identity that lets them.

The first pod that serves a model downloads it into the bucket; later ones, on whatever node, read it from there. Sources:
https://docs.cloud.google.com/kubernetes-engine/docs/how-to/cloud-storage-fuse-csi-driver-setup (identity, role, add-on) and
https://docs.cloud.google.com/storage/docs/cloud-storage-fuse/overview. Left out: the pod's side (`model_caches`), and the
cluster's add-on (`cluster`). The bucket keeps models that are no longer served until a person removes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pulumi
from pulumi_kubernetes import core

from components.cluster.project_services import enable_apis
from components.serving.model_caches import BucketMount, ModelCaches
from components.serving.workload_identity import pod_principal
from components.settings.sections import Place, ServerSettings
from components.settings.value_types import parse_quantity

#: Kubernetes service account of the pods that mount the bucket.
SERVICE_ACCOUNT = "vllm"

#: May read and write objects, but not change the bucket itself.
ROLE = "roles/storage.objectUser"


@dataclass(frozen=True)
class WeightsCacheArgs:
    #: The bucket is in the nodes' region, so that reading costs no traffic between regions.
    place: Place
    #: Kubernetes namespace of the pods.
    namespace: str
    #: `PROJECT.svc.id.goog`, known once the cluster exists: Google makes the pool with a project's first such cluster.
    workload_pool: pulumi.Input[str]


def bucket_options(location: str) -> dict[str, Any]:
    """Inputs of the Bucket other than its project."""
    return {
        # In capitals, as Google returns it.
        "location": location.upper(),
        # Only IAM knows Kubernetes identities; the older access lists of objects do not.
        "uniform_bucket_level_access": True,
        "public_access_prevention": "enforced",
        # Everything in it can be downloaded again, so it neither outlives the stack nor keeps deleted objects.
        "force_destroy": True,
        "soft_delete_policy": {"retention_duration_seconds": 0},
        "lifecycle_rules": [
            {
                # The remains of interrupted downloads; Hugging Face's library starts again beside them.
                "action": {"type": "Delete"},
                "condition": {"age": 1, "matches_suffixes": [".incomplete"]},
            }
        ],
    }


class WeightsCache(pulumi.ComponentResource):
    """A bucket, a Kubernetes service account, and the right of the one's pods to the other."""

    #: Name of the bucket.
    bucket: pulumi.Output[str]
    #: Name of the Kubernetes service account; known once it may use the bucket.
    service_account: pulumi.Output[str]

    def __init__(self, name: str, args: WeightsCacheArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        # Imported here, since it takes a third of a second, which previews of stacks without the cache save.
        from pulumi_gcp import storage

        super().__init__("fungibility:index:WeightsCache", name, None, opts)
        bucket = storage.Bucket(
            # Pulumi makes its name unique, since bucket names are shared by all of Google Cloud.
            name,
            project=args.place.project,
            **bucket_options(args.place.region),
            **({"labels": dict(args.place.labels)} if args.place.labels else {}),
            opts=pulumi.ResourceOptions(parent=self, depends_on=enable_apis(name, ["storage"], project=args.place.project, parent=self)),
        )
        account = core.v1.ServiceAccount(
            f"{name}-{SERVICE_ACCOUNT}",
            metadata={"name": SERVICE_ACCOUNT, "namespace": args.namespace},
            opts=pulumi.ResourceOptions(parent=self),
        )
        user = storage.BucketIAMMember(
            f"{name}-user",
            bucket=bucket.name,
            role=ROLE,
            member=pulumi.Output.all(bucket.project_number, args.workload_pool).apply(
                lambda known: pod_principal(
                    project_number=int(known[0]), workload_pool=str(known[1]), namespace=args.namespace, service_account=SERVICE_ACCOUNT
                )
            ),
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.bucket = bucket.name
        # Through both, so that pods of the account wait for them.
        self.service_account = pulumi.Output.all(account.id, user.id).apply(lambda _: SERVICE_ACCOUNT)
        self.register_outputs({"bucket": self.bucket, "service_account": self.service_account})


def make_model_caches(settings: ServerSettings, weights_cache: WeightsCache | None) -> ModelCaches:
    """What pods keep between starts."""
    bucket = None
    if weights_cache is not None:
        bucket = BucketMount(
            bucket=weights_cache.bucket,
            service_account=weights_cache.service_account,
            # The setting limits the disk that weights may take on a node, which is now the file cache's.
            file_cache_mib=int(parse_quantity(settings.gpu_ephemeral_storage_limit) / 2**20),
        )
    return ModelCaches(bucket=bucket, xla=settings.xla_cache)
