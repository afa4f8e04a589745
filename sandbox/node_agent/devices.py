"""The accelerators that a node's processes find, as far as an entrypoint looks: a TPU's device file, or `nvidia-smi`.

Each node has a folder that stands for its root. A device file is a link to /dev/null, a character device that everyone
may open; there is no driver behind it. A node's labels say what it has, as GKE writes them.
"""

import shlex
import uuid
from collections.abc import Mapping
from pathlib import Path

TPU_LABEL = "cloud.google.com/gke-tpu-accelerator"
GPU_LABEL = "cloud.google.com/gke-accelerator"

#: GKE's word for an accelerator -> how nvidia-smi names it; others are derived.
_PRODUCTS = {"nvidia-l4": "NVIDIA L4"}


class NodeDevices:
    """The device paths of one node; they exist or not, as on the real one."""

    def __init__(self, root: Path) -> None:
        self.tpu_device = root / "dev" / "vfio" / "0"
        self.nvidia_device = root / "dev" / "nvidia0"
        self.nvidia_smi = root / "usr" / "local" / "nvidia" / "bin" / "nvidia-smi"

    def make(self, node: str, labels: Mapping[str, str], *, gpus: int = 1) -> None:
        """Puts in place what the labels say, and so many GPUs; making it twice changes nothing."""
        if TPU_LABEL in labels:
            _link_to_null(self.tpu_device)
        if product := labels.get(GPU_LABEL):
            _link_to_null(self.nvidia_device)
            self.nvidia_smi.parent.mkdir(parents=True, exist_ok=True)
            self.nvidia_smi.write_text(_nvidia_smi(node, product, gpus))
            self.nvidia_smi.chmod(0o755)

    @property
    def environment(self) -> dict[str, str]:
        """What tells the images' entrypoint where to look instead of at this machine's own devices."""
        return {"TPU_DEVICE": str(self.tpu_device), "NVIDIA_SMI": str(self.nvidia_smi), "NVIDIA_DEVICE": str(self.nvidia_device)}


def _link_to_null(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_symlink():
        path.symlink_to("/dev/null")


def _nvidia_smi(node: str, product: str, count: int) -> str:
    name = _PRODUCTS.get(product) or product.upper().replace("-", " ")
    uuids = [uuid.uuid5(uuid.NAMESPACE_DNS, f"{node}/{number}") for number in range(count)]
    lines = "\n".join(f"GPU {number}: {name} (UUID: GPU-{each})" for number, each in enumerate(uuids))
    return f"""#!/bin/sh
# The sandbox's stand-in for NVIDIA's tool: lists what the node's labels say, and nothing else.
case "${{1:-}}" in
    -L | --list-gpus) echo {shlex.quote(lines)} ;;
    *) echo "nvidia-smi: this is the sandbox's stand-in, which knows -L alone" >&2; exit 2 ;;
esac
"""
