"""What a pod keeps between starts: the model's weights in the cache bucket, and compiled XLA programs there or on the node.

Pure parts of a pod: variables, mounts, volumes and annotations. Left out: the bucket and the identity (`weights_cache`), and
what vLLM compiles for GPUs.

Why the weights are a Hugging Face cache (HF_HUB_CACHE) and not vLLM's `--download-dir`, which Google's tutorial uses: there vLLM
keeps its lock file in the same folder, so pods that start together on two nodes write one object, and Cloud Storage FUSE answers
all but one with "stale file handle", at which vLLM ends. Without `--download-dir` the lock is in the container's /tmp, and the
library's own are taken only while a file is missing. docs/cold-start.md has what was tried.
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

#: Where the node keeps compiled programs while there is no bucket: its boot disk, on Container-Optimized OS a writable folder.
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
    #: MiB of it that the node's boot disk may hold at a time.
    file_cache_mib: int


@dataclass(frozen=True, kw_only=True)
class ModelCaches:
    #: None: each container downloads the weights for itself.
    bucket: BucketMount | None = None
    #: Whether compiled XLA programs outlive the container.
    xla: bool = False


def xla_cache_key(*, image: str, arguments: Sequence[str], machine: MachineType) -> str:
    """The folder of one build, one command line and one kind of TPU.

    PyTorch/XLA makes its keys of the Torch IR alone: a cache that survives a change of compiler options gives wrong programs
    (vLLM's own warning, vllm/v1/worker/tpu_worker.py). So whatever may decide how vLLM compiles opens a folder of its own.
    """
    facts = [image, list(arguments), machine.generation, machine.topology]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def cache_environment(
    kind: Kind, machine: MachineType, caches: ModelCaches, *, image: pulumi.Input[str], arguments: Sequence[str]
) -> list[dict[str, Any]]:
    """More variables of the container of an accelerator."""
    variables: list[dict[str, Any]] = []
    if caches.bucket is not None:
        variables += [
            {"name": "HF_HUB_CACHE", "value": f"{BUCKET_MOUNT_PATH}/{HUB_FOLDER}"},
            # Xet writes a file in many places at once, which Cloud Storage FUSE stages on the node's disk; a plain download
            # streams into the bucket, and is what was tried. It happens once a model.
            {"name": "HF_HUB_DISABLE_XET", "value": "1"},
        ]
    if kind == "tpu" and caches.xla:
        root = f"{BUCKET_MOUNT_PATH}/{XLA_FOLDER}" if caches.bucket is not None else XLA_MOUNT_PATH
        path = pulumi.Output.from_input(image).apply(
            lambda known: f"{root}/{xla_cache_key(image=known, arguments=arguments, machine=machine)}"
        )
        # Of vLLM on PyTorch/XLA (the default image) and of tpu-inference (JAX) alike.
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
                    "volume_attributes": {
                        "bucketName": caches.bucket.bucket,
                        "mountOptions": mount_options(caches.bucket.file_cache_mib),
                    },
                },
            }
        ]
    if "tpu" in kinds and caches.xla:
        return [{"name": _XLA_VOLUME, "host_path": {"path": XLA_HOST_PATH, "type": "DirectoryOrCreate"}}]
    return []


def pod_service_account(caches: ModelCaches) -> pulumi.Input[str]:
    """Kubernetes service account of the pod: the namespace's own unless the bucket needs another."""
    return "default" if caches.bucket is None else caches.bucket.service_account


def cache_annotations(caches: ModelCaches) -> dict[str, str]:
    """Annotations of the pod: they make GKE add the sidecar container that serves the mount."""
    if caches.bucket is None:
        return {}
    return {
        "gke-gcsfuse/volumes": "true",
        # It uses what the node has: a limit would slow the loading of weights, or end the mount with them.
        **{f"gke-gcsfuse/{resource}-limit": "0" for resource in SIDECAR_REQUESTS},
    }


def mount_options(file_cache_mib: int) -> str:
    """Of Cloud Storage FUSE: https://docs.cloud.google.com/storage/docs/cloud-storage-fuse/cli-options."""
    options = {
        # Files are fetched by many connections at once into a cache on the node's boot disk, before the server reads them.
        "file-cache:enable-parallel-downloads": "true",
        "file-cache:max-size-mb": str(file_cache_mib),
        # What another node has just written is there, and what it has replaced is not read under its old number, for which
        # Cloud Storage FUSE would answer "stale file handle". On large machines its own default is to remember for ever.
        "metadata-cache:ttl-secs": "0",
        "metadata-cache:negative-ttl-secs": "0",
    }
    # A folder is there as soon as anything lies in it.
    return ",".join(["implicit-dirs", *(f"{name}:{value}" for name, value in options.items())])
