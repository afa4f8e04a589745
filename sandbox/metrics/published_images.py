"""Images that others publish and that the sandbox has a program for: repository -> image, whatever its tag or digest.

No image can be pulled where the sandbox runs. Everything else that a pod names and that the stack did not build is
refused by the node agent as a registry would refuse it.
"""

from collections.abc import Mapping

from sandbox.host.paths import PROJECT_DIR
from sandbox.images.image_store import ImageConfig, StoredImage, content_digest
from sandbox.metrics import adapter


def published_images() -> Mapping[str, StoredImage]:
    """The images by repository (`REGISTRY/PATH`)."""
    rootfs = PROJECT_DIR / "sandbox" / "metrics" / "image"
    config = ImageConfig(
        base_image="gcr.io/distroless/static", platform="linux/amd64", entrypoint=("/adapter",), env={"PYTHONPATH": str(PROJECT_DIR)}
    )
    return {adapter.IMAGE_REPOSITORY: StoredImage(content_digest(config, rootfs), rootfs, config)}
