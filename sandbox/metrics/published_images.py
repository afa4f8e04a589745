"""Images that others publish and that the sandbox has a program for: repository -> image, whatever its tag or digest.

No image can be pulled where the sandbox runs. Everything else that a pod names and that the stack did not build is
refused by the node agent as a registry would refuse it.
"""

from collections.abc import Mapping

from components.serving.fallback_timer import IMAGE as PYTHON_IMAGE
from sandbox.host.paths import PROJECT_DIR
from sandbox.images.image_store import ImageConfig, StoredImage, content_digest, split_reference
from sandbox.metrics import adapter


def published_images() -> Mapping[str, StoredImage]:
    """The images by repository (`REGISTRY/PATH`)."""
    rootfs = PROJECT_DIR / "sandbox" / "metrics" / "image"
    config = ImageConfig(
        base_image="gcr.io/distroless/static", platform="linux/amd64", entrypoint=("/adapter",), env={"PYTHONPATH": str(PROJECT_DIR)}
    )
    # Nothing of its own: `python3` is that of this machine.
    nothing = PROJECT_DIR / "sandbox" / "metrics" / "python-image"
    python = ImageConfig(base_image="docker.io/library/debian", platform="linux/amd64", cmd=("python3",))
    return {
        adapter.IMAGE_REPOSITORY: StoredImage(content_digest(config, rootfs), rootfs, config),
        split_reference(PYTHON_IMAGE)[0]: StoredImage(content_digest(python, nothing), nothing, python),
    }
