"""What a pod keeps between starts: the model's weights in the cache bucket, and compiled XLA programs there or on the node.

It makes parts of a pod: variables, mounts, volumes and annotations. Left out: the bucket and the identity (`weights_cache`), and
what vLLM compiles for GPUs.

The weights are a Hugging Face cache (HF_HUB_CACHE) and not vLLM's `--download-dir`, which Google's tutorial uses. There vLLM keeps
its lock file in the same folder, so pods that start together on two nodes write one object, Cloud Storage FUSE answers all but one
with "stale file handle", and vLLM ends. Without `--download-dir` the lock is in the container's /tmp, and the library takes its own
locks only while a file is missing. docs/cold-start.md says what was tried.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pulumi

from components.catalog.capacity import SIDECAR_REQUESTS
from components.catalog.machines import Kind, MachineType

#: Where both containers find the bucket, and its folders.
BUCKET_MOUNT_PATH = "/var/cache/model-bucket"
HUB_FOLDER = "huggingface"
XLA_FOLDER = "xla"

#: Where the node keeps compiled programs if there is no bucket: on its boot disk, in a writable folder of Container-Optimized OS.
XLA_HOST_PATH = "/var/lib/vllm-xla-cache"
XLA_MOUNT_PATH = "/var/cache/vllm-xla"

_BUCKET_VOLUME = "weights-cache"
_XLA_VOLUME = "xla-cache"


@dataclass(frozen=True, kw_only=True)
class BucketMount:
    """A bucket as the pods see it."""

    bucket: pulumi.Input[str]
    #: Kubernetes service account that may use it.
    service_account: pulumi.Input[str]
    #: MiB of the bucket that the node's boot disk may hold at a time.
    file_cache_mib: int


@dataclass(frozen=True, kw_only=True)
class ModelCaches:
    #: The bucket; if it is None, each container downloads the weights itself.
    bucket: BucketMount | None = None
    #: Whether compiled XLA programs outlive the container.
    xla: bool = False


def xla_cache_key(*, image: str, arguments: Sequence[str], machine: MachineType) -> str:
    """The folder of one build, one command line and one kind of TPU.

    PyTorch/XLA derives its keys only from the Torch IR, so a cache that survives a change of compiler options gives wrong programs
    (vLLM's own warning, vllm/v1/worker/tpu_worker.py). Everything that may affect how vLLM compiles therefore changes the folder.
    """
    facts = [image, list(arguments), machine.generation, machine.topology]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def cache_environment(
    kind: Kind, machine: MachineType, caches: ModelCaches, *, image: pulumi.Input[str], arguments: Sequence[str]
) -> list[dict[str, Any]]:
    """Additional variables of the container of an accelerator."""
    variables: list[dict[str, Any]] = []
    if caches.bucket is not None:
        variables += [
            {"name": "HF_HUB_CACHE", "value": f"{BUCKET_MOUNT_PATH}/{HUB_FOLDER}"},
            # Xet writes a file in many places at once, which Cloud Storage FUSE stages on the node's disk; a plain download
            # streams into the bucket, and was tried. It happens once for each model.
            {"name": "HF_HUB_DISABLE_XET", "value": "1"},
        ]
    if kind == "tpu" and caches.xla:
        root = f"{BUCKET_MOUNT_PATH}/{XLA_FOLDER}" if caches.bucket is not None else XLA_MOUNT_PATH
        path = pulumi.Output.from_input(image).apply(
            lambda known: f"{root}/{xla_cache_key(image=known, arguments=arguments, machine=machine)}"
        )
        # Read by tpu-inference (the default image; JAX) and by older vLLM on PyTorch/XLA.
        variables.append({"name": "VLLM_XLA_CACHE_PATH", "value": path})
    return variables


def cache_mounts(kind: Kind, caches: ModelCaches) -> list[dict[str, Any]]:
    """`volume_mounts` of the container of an accelerator."""
    if caches.bucket is not None:
        return [{"name": _BUCKET_VOLUME, "mount_path": BUCKET_MOUNT_PATH}]
    if kind == "tpu" and caches.xla:
        return [{"name": _XLA_VOLUME, "mount_path": XLA_MOUNT_PATH}]
    return []


def cache_volumes(kinds: Sequence[Kind], caches: ModelCaches) -> list[dict[str, Any]]:
    """`volumes` of a pod with containers for these accelerators."""
    if caches.bucket is not None:
        return [
            {
                "name": _BUCKET_VOLUME,
                "csi": {
                    "driver": "gcsfuse.csi.storage.gke.io",
                    "volume_attributes": {"bucketName": caches.bucket.bucket, "mountOptions": mount_options(caches.bucket.file_cache_mib)},
                },
            }
        ]
    if "tpu" in kinds and caches.xla:
        return [{"name": _XLA_VOLUME, "host_path": {"path": XLA_HOST_PATH, "type": "DirectoryOrCreate"}}]
    return []


def pod_service_account(caches: ModelCaches) -> pulumi.Input[str]:
    """Kubernetes service account of the pod: the namespace's default unless the bucket needs another."""
    return "default" if caches.bucket is None else caches.bucket.service_account


def cache_annotations(caches: ModelCaches) -> dict[str, str]:
    """Annotations of the pod, which make GKE add the sidecar container that serves the mount."""
    if caches.bucket is None:
        return {}
    return {
        "gke-gcsfuse/volumes": "true",
        # No limits: they would slow the loading of weights, or kill the process that serves the mount.
        **{f"gke-gcsfuse/{resource}-limit": "0" for resource in SIDECAR_REQUESTS},
    }


def mount_options(file_cache_mib: int) -> str:
    """Options of Cloud Storage FUSE: https://docs.cloud.google.com/storage/docs/cloud-storage-fuse/cli-options."""
    options = {
        # Many connections at once fetch a file into a cache on the node's boot disk, before the server reads it.
        "file-cache:enable-parallel-downloads": "true",
        "file-cache:max-size-mb": str(file_cache_mib),
        # New files of other nodes are seen at once, and a replaced object is not read by its old generation, which Cloud Storage
        # FUSE would answer with "stale file handle". On large machines its default is to remember metadata forever.
        "metadata-cache:ttl-secs": "0",
        "metadata-cache:negative-ttl-secs": "0",
    }
    # A folder exists as soon as an object lies in it.
    return ",".join(["implicit-dirs", *(f"{name}:{value}" for name, value in options.items())])
