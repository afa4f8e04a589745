"""Reads a Dockerfile as this project's own are written, and says what image it makes: for a machine without Docker.

Read: one stage of FROM, ARG, ENV, LABEL, COPY of files into a folder, EXPOSE, USER, and ENTRYPOINT in its exec form, with
double quotes, `${NAME}` and continued lines. Everything else is refused by its line, and so is what depends on the base
image, which is not here. The rules are those of https://docs.docker.com/reference/dockerfile/.
"""

import json
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sandbox.images.build_context import BuildContext
from sandbox.images.image_store import ImageConfig

_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)\})")

#: What would need more of a shell's rules than are read here.
_UNREAD = re.compile(r"['\\`]|\$(?!\w|\{\w+\})")

_DIRECTIVE = re.compile(r"#\s*(syntax|escape)\s*=", re.IGNORECASE)

_FIX = "install Docker 23 or later, by which the sandbox then builds, or write it with what sandbox/images/dockerfile.py reads"


class DockerfileError(Exception):
    """A Dockerfile that is wrong or that is not read here; the message names file, line and instruction."""


@dataclass(frozen=True)
class Image:
    """What the Dockerfile says of the image; nothing of what its base adds."""

    config: ImageConfig
    #: Path in the image -> the file that is copied there, with its mode.
    files: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class _Instruction:
    #: `FILE:LINE: KEYWORD`, which messages begin with.
    place: str
    keyword: str
    rest: str

    def wrong(self, reason: str) -> DockerfileError:
        return DockerfileError(f"{self.place}: {reason}")

    def unread(self, what: str = "it") -> DockerfileError:
        return self.wrong(f"{what} is not read without Docker: {_FIX}")

    def words(self, variables: Mapping[str, str]) -> list[str]:
        """The words with their quotes removed and their variables replaced. Raises `DockerfileError`."""
        if found := _UNREAD.search(self.rest):
            raise self.unread(repr(self.rest[found.start() :]))

        def value(match: re.Match[str]) -> str:
            name = match[1] or match[2]
            if name not in variables:
                raise self.wrong(f"{name} has no value: declare it above by ARG or ENV; the base image's own variables are not known here")
            return variables[name]

        try:
            return [_VARIABLE.sub(value, word) for word in shlex.split(self.rest)]
        except ValueError as error:
            raise self.wrong(f"{self.rest!r}: {error}") from None

    def pairs(self, variables: Mapping[str, str]) -> dict[str, str]:
        """`NAME=VALUE ...`. Raises `DockerfileError`."""
        words = self.words(variables)
        if not words or not all("=" in word for word in words):
            raise self.wrong(f"{self.rest!r} is not of the form NAME=VALUE")
        return {name: value for name, _, value in (word.partition("=") for word in words)}


def base_image(context: BuildContext, args: Mapping[str, str]) -> str:
    """The image that the one stage is FROM, whatever else the Dockerfile has. Raises `DockerfileError`."""
    return _stage(context, args)[0]


def build(context: BuildContext, *, args: Mapping[str, str], platform: str = "linux/amd64") -> Image:
    """Raises `DockerfileError` and `BuildContextError`."""
    base, outer, instructions = _stage(context, args)
    inner: dict[str, str] = {}
    env: dict[str, str] = {}
    labels: dict[str, str] = {}
    files: dict[str, Path] = {}
    entrypoint: tuple[str, ...] = ()
    user = ""
    for instruction in instructions:
        # ENV wins over ARG of the same name.
        variables = {**inner, **env}
        match instruction.keyword:
            case "ARG":
                inner |= _declared(instruction, inner, args, outer)
            case "ENV":
                env |= instruction.pairs(variables)
            case "LABEL":
                labels |= instruction.pairs(variables)
            case "COPY":
                files |= _copied(instruction, variables, context)
            case "USER":
                user = " ".join(instruction.words(variables))
            case "EXPOSE":
                # A note for people, to Docker and to Kubernetes.
                continue
            case "ENTRYPOINT":
                entrypoint = _exec_form(instruction)
            case "RUN":
                raise instruction.wrong(f"the base image {base!r} is not on this machine: put what RUN makes into a file and COPY that")
            case _:
                raise instruction.unread()
    config = ImageConfig(
        base_image=base, platform=platform, entrypoint=entrypoint, env=env, labels=labels, user=user, stop_signal="SIGTERM"
    )
    return Image(config, files)


def write_files(image: Image, root: Path) -> None:
    """The image's files under an empty folder, at the paths that they have in the image."""
    for name, file in image.files.items():
        path = root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, path)


def _stage(context: BuildContext, args: Mapping[str, str]) -> tuple[str, dict[str, str], list[_Instruction]]:
    """The base, the arguments declared before it, and the instructions after it."""
    outer: dict[str, str] = {}
    base, after = "", list[_Instruction]()
    for instruction in _instructions(context.dockerfile):
        if instruction.keyword == "FROM":
            words = instruction.words(outer)
            if base or len(words) != 1:
                raise instruction.unread("more than one stage, or a stage with a name or a platform,")
            base = words[0]
        elif base:
            after.append(instruction)
        elif instruction.keyword == "ARG":
            outer |= _declared(instruction, outer, args)
        else:
            raise instruction.wrong("it stands before the first FROM")
    if not base:
        raise DockerfileError(f"{context.dockerfile}: there is no build stage: a FROM instruction is missing")
    return base, outer, after


def _instructions(dockerfile: Path) -> Iterator[_Instruction]:
    """Instructions with continued lines joined, comments and empty lines dropped."""
    try:
        lines = dockerfile.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DockerfileError(f"cannot read {dockerfile}: {error}") from error
    joined, first = "", 0
    for number, line in enumerate(lines, 1):
        if _DIRECTIVE.match(line):
            raise DockerfileError(f"{dockerfile}:{number}: the directive {line!r} is not read without Docker: {_FIX}")
        if line.lstrip().startswith("#") or not line.strip():
            continue
        first = first if joined else number
        joined += line.strip()
        # The last line may end as if it went on.
        if joined.endswith("\\"):
            joined = joined[:-1] + " "
            if number < len(lines):
                continue
        keyword, _, rest = joined.strip().partition(" ")
        yield _Instruction(f"{dockerfile}:{first}: {keyword.upper()}", keyword.upper(), rest.strip())
        joined = ""


def _declared(
    instruction: _Instruction, scope: Mapping[str, str], args: Mapping[str, str], outer: Mapping[str, str] | None = None
) -> dict[str, str]:
    """An ARG without a value of its own or of the build's has none, or in a stage that of the one before FROM."""
    found = {}
    for word in instruction.words({**(outer or {}), **scope}):
        name, given, default = word.partition("=")
        known = {**(outer or {}), **({name: default} if given else {}), **args}
        if name in known:
            found[name] = known[name]
    return found


def _copied(instruction: _Instruction, variables: Mapping[str, str], context: BuildContext) -> dict[str, Path]:
    words = [word for word in instruction.words(variables) if word != "--link"]
    *sources, folder = words or [""]
    if unread := [word for word in words if word.startswith(("--", "<<", "[")) or re.search(r"[*?\[]", word)]:
        raise instruction.unread(unread[0])
    if not sources or not (folder.startswith("/") and folder.endswith("/")):
        raise instruction.wrong(f"{instruction.rest!r} does not name files and then a folder as /FOLDER/, which the base image may lack")
    known = {str(path) for path in context.files}
    for source in sources:
        if source not in known:
            where = f"the build context {str(context.root)!r} that its .dockerignore lets in"
            raise instruction.wrong(f"{source!r} is not a file in {where}; folders and links are not copied")
    return {f"{folder}{Path(source).name}": context.root / source for source in sources}


def _exec_form(instruction: _Instruction) -> tuple[str, ...]:
    try:
        words = json.loads(instruction.rest)
    except ValueError:
        words = None
    if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
        raise instruction.unread(f"{instruction.rest!r}, which is not a JSON list of words,")
    return tuple(words)
