"""The stand-in for pulumi-docker: `docker.Image`, built by Docker where there is a daemon, else by reading its Dockerfile.

What the engine sees is as with pulumi-docker 5.2: `build.contextDigest` among the checked inputs makes the diff, a new
registry password or user name makes none, and `repoDigest` names the registry's repository and the image's digest.

Left out: RUN and the real base images (what stands for them has no programs), a login (the registry is this machine's own),
every option of a build that no image of ours sets, the other resources of the package, and building while previewing.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sandbox.google.latencies import Clock
from sandbox.images.build_context import BuildContext, BuildContextError
from sandbox.images.docker_engine import DockerError
from sandbox.images.dockerfile import DockerfileError
from sandbox.images.image_builder import BuildRequest, ImageBuilder
from sandbox.images.image_store import split_reference
from sandbox.images.local_registry import RegistryError
from sandbox.images.oci_image import OciImageError
from sandbox.providers.differences import Difference, PropertyChange, compare
from sandbox.providers.google_requests import GoogleRequests, RequestError
from sandbox.providers.sdk_types import find_problems
from sandbox.providers.server import Change, Checked, CheckFailure, Created, Properties, Provider, ProviderError, ReadState, Urn
from sandbox.providers.wire import UNKNOWN, Secret, has_unknown, keep_secrets, plain

IMAGE = "docker:index/image:Image"

#: What a build may say.
_OPTIONS = frozenset({"args", "builderVersion", "context", "dockerfile", "platform"})
_OPTIONAL = frozenset({"args", "builderVersion"})
_LACKING = "the sandbox builds one stage of one Dockerfile and pushes it. Leave it out, or run the real docker plugin"
_REQUIRED = "missing: the sandbox has no default for it. Set it, as the program's own images do"


class DockerProvider(Provider):
    """`project_dir`: where the program runs, from which relative paths of its builds count.

    `others`: the same of further Pulumi projects, by name. The real plugin is started in the program's folder, which the engine
    does not tell one that runs already.
    """

    package = "docker"
    version = version("pulumi-docker")

    def __init__(
        self,
        builder: ImageBuilder,
        project_dir: Path,
        others: Mapping[str, Path] | None = None,
        requests: GoogleRequests | None = None,
        *,
        clock: Clock,
    ) -> None:
        """Without `requests` no push fails."""
        super().__init__()
        self._requests = requests or GoogleRequests()
        self._builder = builder
        self._clock = clock
        self._project_dir = project_dir
        self._others = dict(others or {})

    def check(self, urn: Urn, olds: Properties | None, news: Properties, seed: bytes) -> Checked:
        if urn.type_token != IMAGE:
            return Checked(news, [CheckFailure("", f"the sandbox has no {urn.type_token}, which needs a Docker daemon: only {IMAGE}")])
        problems = find_problems(IMAGE, plain(news))
        if problems:
            return Checked(news, [CheckFailure(problem.property_path, str(problem)) for problem in problems])
        inputs: Properties = {"buildOnPreview": False, **{key: value for key, value in news.items() if value is not None}}
        given = plain(inputs.get("build")) or {}
        if given is UNKNOWN:
            return Checked(inputs)
        failures = [CheckFailure(f"build.{option}", _LACKING) for option in sorted(given.keys() - _OPTIONS)]
        failures += [CheckFailure(f"build.{option}", _REQUIRED) for option in sorted(_OPTIONS - _OPTIONAL - given.keys())]
        if inputs.get("skipPush"):
            failures.append(CheckFailure("skipPush", _LACKING))
        if not failures and not has_unknown(given):
            folder = self._folder(urn)
            if missing := _missing_dockerfile(folder, given):
                failures.append(CheckFailure("build.dockerfile", missing))
            else:
                try:
                    inputs["build"] = _merged(inputs["build"], {"contextDigest": _context(folder, given).digest()})
                except BuildContextError as error:
                    failures.append(CheckFailure("build.context", str(error)))
        return Checked(inputs, failures)

    def diff(self, change: Change) -> Difference:
        # A user name or password that changed says nothing about the image.
        return Difference(tuple(change for change in compare(change.old_inputs, change.new_inputs) if not _is_credential(change)))

    def create(self, urn: Urn, inputs: Properties, timeout: float | None, preview: bool) -> Created:
        if preview:
            return Created("", _previewed(inputs))
        return Created(plain(inputs["imageName"]), self._build_and_push(urn, inputs))

    def update(self, change: Change) -> Properties:
        return _previewed(change.new_inputs) if change.preview else self._build_and_push(change.urn, change.new_inputs)

    def read(self, urn: Urn, id: str, inputs: Properties, outputs: Properties) -> ReadState | None:
        # As the real one: what a registry holds is not looked up.
        return ReadState(id, inputs, outputs)

    def delete(self, urn: Urn, id: str, inputs: Properties, outputs: Properties, timeout: float | None) -> None:
        """Leaves the image where it was pushed to, as the real one does."""

    def _folder(self, urn: Urn) -> Path:
        return self._others.get(urn.project, self._project_dir)

    def _build_and_push(self, urn: Urn, inputs: Properties) -> Properties:
        known = plain(inputs)
        options = known["build"]
        name = known["imageName"]
        request = BuildRequest(
            name=name, context=_context(self._folder(urn), options), platform=options["platform"], args=options.get("args") or {}
        )
        try:
            repository, _, _ = split_reference(name)
            # A base that comes for the first time takes time on the sandbox's clock, and goes to the registry.
            with self._clock.during(*(() if self._builder.has_base(request) else ("image_build", "image_push"))):
                built = self._requests.push(
                    name, (known.get("registry") or {}).get("password"), lambda: self._builder.build(request), cancelled=self.cancelled
                )
        except RequestError as error:
            raise ProviderError(f"error pushing image: {error}") from error
        except (BuildContextError, DockerError, DockerfileError, OciImageError, RegistryError, ValueError) as error:
            raise ProviderError(f"error building image: {error}") from error
        stored = built.stored
        self.log(urn, built.how)
        outputs = {
            "baseImageName": name,
            "imageName": name,
            "registryServer": (known.get("registry") or {}).get("server") or "",
            "dockerfile": options["dockerfile"],
            "context": options["context"],
            "platform": options["platform"],
            "repoDigest": f"{repository}@{stored.digest}",
            # The real provider has no such output: it says what stands for what, for a person who reads the stack's state.
            "sandbox": built.how,
        }
        return _secret_names(outputs, inputs)


def _context(folder: Path, options: Mapping[str, Any]) -> BuildContext:
    return BuildContext(folder / options["context"], folder / options["dockerfile"])


def _missing_dockerfile(folder: Path, options: Mapping[str, Any]) -> str | None:
    """What to say of a Dockerfile that is not there; None when it is."""
    dockerfile = options["dockerfile"]
    if (folder / dockerfile).is_file():
        return None
    hint = f'. Try setting `dockerfile` to "{found}"' if (folder / (found := Path(options["context"]) / dockerfile)).is_file() else ""
    return f'could not open dockerfile at relative path "{dockerfile}": no such file or directory{hint}'


def _merged(given: Any, defaults: Mapping[str, Any]) -> Any:
    if isinstance(given, Secret):
        return Secret(_merged(given.value, defaults))
    return {**(given or {}), **defaults}


def _previewed(inputs: Properties) -> Properties:
    """What is known of an image before it is built: its name, and nothing by which it could be pulled."""
    known = plain(inputs)
    registry = known.get("registry") or {}
    outputs = {
        "baseImageName": known.get("imageName"),
        "imageName": known.get("imageName"),
        "registryServer": UNKNOWN if registry is UNKNOWN else registry.get("server") or "",
        "repoDigest": UNKNOWN,
    }
    return _secret_names(outputs, inputs)


def _secret_names(outputs: Properties, inputs: Properties) -> Properties:
    """An image whose name was secret keeps it so in every output that tells it."""
    secret = {key: inputs.get("imageName") for key in ("baseImageName", "imageName", "repoDigest", "sandbox")}
    kept: Properties = keep_secrets(outputs, secret)
    return kept


def _is_credential(change: PropertyChange) -> bool:
    return change.path[0] == "registry" and change.path[1:] not in ((), ("server",))
