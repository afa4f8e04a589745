"""How the sandbox builds images: by Docker where there are a daemon and docker-registry, else by reading the Dockerfile.

By Docker, the image is real: built, pushed to a registry on this machine, named by that registry's digest, and what runs
are the files of its own layers. Only the base is not the one that the Dockerfile names, which has gigabytes: FROM of
it means a small one made here, while `ARG BASE_IMAGE` and the labels keep the name. Either way the image keeps the name
that the program gave it; the local registry stands for the one that the name says.
"""

import hashlib
import json
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sandbox.host.processes import Spawner
from sandbox.host.state_files import write_text
from sandbox.images.build_context import BuildContext
from sandbox.images.docker_engine import DockerEngine, NoDocker
from sandbox.images.dockerfile import base_image, build, write_files
from sandbox.images.image_store import ImageConfig, ImageStore, StoredImage, split_reference
from sandbox.images.local_registry import LocalRegistry
from sandbox.images.oci_image import unpack

#: By image name, what the last build of each did; part of the sandbox's state.
RECORD = "image-builds.json"

_BASE_DOCKERFILE = "FROM scratch\nCOPY rootfs/ /\n"


@dataclass(frozen=True, kw_only=True)
class BuildRequest:
    """One image; as pulumi-docker's arguments, with paths that are absolute or count from here."""

    #: `REGISTRY/PATH:TAG`.
    name: str
    context: BuildContext
    platform: str
    args: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class BuiltImage:
    stored: StoredImage
    #: One line for the user: what was done, with what, and what was not.
    how: str


class ImageBuilder:
    """Builds images into the store; safe for several threads. Docker is looked for anew with every build: a daemon may come and go."""

    def __init__(self, images: ImageStore, *, state_dir: Path, spawner: Spawner, environment: Mapping[str, str]) -> None:
        """`state_dir`: where the record and the registry are kept. `environment`: in which docker and its registry are found and run."""
        self._images = images
        self._state_dir = state_dir
        self._environment = environment
        self.registry = LocalRegistry(state_dir / "registry", spawner, environment)
        self._lock = threading.Lock()
        self._known_bases: set[str] = set()

    def build(self, request: BuildRequest) -> BuiltImage:
        """Builds, pushes and keeps one image.

        Raises `DockerfileError`, `BuildContextError`, `ValueError` for the name, and what Docker refuses as `DockerError`,
        `RegistryError` and `OciImageError`.
        """
        repository, tag, _ = split_reference(request.name)
        base = base_image(request.context, request.args)
        with self._lock:
            try:
                if not self.registry.available:
                    raise NoDocker("docker-registry is not installed")
                engine = DockerEngine.find(self._environment, self._state_dir)
                built = self._really(engine, request, base, repository, tag or "latest")
            except NoDocker as reason:
                built = self._read(request, repository, tag or "latest", str(reason))
            self._note(request.name, built)
            self._known_bases.add(base)
        return built

    def has_base(self, request: BuildRequest) -> bool:
        """Whether what the image is built on was built on before, since the builder began; raises as `build`.

        A builder and a registry that have a base move next to nothing of it again (docs/images.md, measured).
        """
        return base_image(request.context, request.args) in self._known_bases

    def _read(self, request: BuildRequest, repository: str, tag: str, reason: str) -> BuiltImage:
        image = build(request.context, args=request.args, platform=request.platform)
        with tempfile.TemporaryDirectory(prefix="image-") as folder:
            write_files(image, Path(folder))
            stored = self._images.add(repository=repository, tag=tag, config=image.config, rootfs=Path(folder))
        first_line = (reason.splitlines() or [""])[0]
        how = (
            f"read from its Dockerfile without Docker ({first_line}); the digest is the content's, and {image.config.base_image} "
            "was not pulled"
        )
        return BuiltImage(stored=stored, how=how)

    def _really(self, engine: DockerEngine, request: BuildRequest, base: str, repository: str, tag: str) -> BuiltImage:
        stand_in = _base_name(base)
        # The registry's part of the name becomes the local one's.
        path = repository.partition("/")[2]
        local = f"{self.registry.address()}/{path}:{tag}"
        try:
            _make_base(engine, base, request.platform)
            engine.build(
                context=request.context.root,
                dockerfile=request.context.dockerfile,
                tag=local,
                platform=request.platform,
                args=request.args,
                base=(base, f"docker-image://{stand_in}"),
            )
            engine.push(local)
        finally:
            engine.remove([local, stand_in])
        digest = self.registry.manifest_digest(path, tag)
        with tempfile.TemporaryDirectory(prefix="image-") as folder:
            config = unpack(digest, self.registry.reader(path), Path(folder), ImageConfig(base_image=base, platform=request.platform))
            stored = self._images.add(repository=repository, tag=tag, config=config, rootfs=Path(folder), digest=digest)
        how = (
            f"built by Docker {engine.version} and pushed to a registry on this machine (docker-registry); {base} was not pulled: "
            "a small base made here stands for it"
        )
        return BuiltImage(stored=stored, how=how)

    def _note(self, name: str, built: BuiltImage) -> None:
        self._state_dir.mkdir(parents=True, exist_ok=True)
        notes = {**read_notes(self._state_dir), name: {"digest": built.stored.digest, "how": built.how}}
        write_text(self._state_dir / RECORD, json.dumps(notes, indent=1, sort_keys=True))


def read_notes(state_dir: Path) -> dict[str, dict[str, str]]:
    """By image name, the `digest` of its last build and `how` it was built; empty before the first build."""
    try:
        return dict(json.loads((state_dir / RECORD).read_text()))
    except FileNotFoundError:
        return {}


def _base_name(base: str) -> str:
    """Never the base's own name, under which this daemon may have the real one."""
    return f"tpu-gpu-fungibility-sandbox/base:{hashlib.sha256(base.encode()).hexdigest()[:16]}"


def _make_base(engine: DockerEngine, base: str, platform: str) -> None:
    with tempfile.TemporaryDirectory(prefix="base-") as name:
        folder = Path(name)
        (folder / "Dockerfile").write_text(_BASE_DOCKERFILE)
        stands_for = folder / "rootfs" / "etc" / "sandbox-base"
        stands_for.parent.mkdir(parents=True)
        stands_for.write_text(f"stands for {base}\n")
        engine.build(context=folder, dockerfile=folder / "Dockerfile", tag=_base_name(base), platform=platform, args={})
