"""Reads a Dockerfile and says what image it makes, as far as that is known without its base image.

Interpreted: FROM with stages, ARG (before FROM too), ENV, LABEL, COPY and ADD of local files (globs, --from a stage, --chmod,
--chown, --link), ENTRYPOINT, CMD, SHELL, USER, WORKDIR, EXPOSE, VOLUME, STOPSIGNAL, HEALTHCHECK, ONBUILD. Refused, since they
need the base image or a network: RUN, ADD of URLs, archives and repositories, COPY --from another image, here-documents.

The rules are those of https://docs.docker.com/reference/dockerfile/.
"""

from __future__ import annotations

import difflib
import json
import os
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from sandbox.images.build_context import BuildContext, BuildContextError, glob_expression, read_entry

#: What a base image's PATH is taken for where the Dockerfile extends it: Docker's own default.
_BASE_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}

#: Folders that every base image has, so that a single file copied to one of them goes into it.
_BASE_FOLDERS = frozenset(
    (
        "/", "/bin", "/etc", "/home", "/lib", "/opt", "/root", "/run", "/sbin", "/srv", "/usr", "/usr/bin", "/usr/lib",
        "/tmp",  # noqa: S108 - a name inside an image
        "/usr/local", "/usr/local/bin", "/usr/local/lib", "/usr/local/sbin", "/usr/sbin", "/usr/share", "/var", "/var/lib",
    )
)  # fmt: skip

_DEFAULT_SHELL = ("/bin/sh", "-c")

_ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".txz", ".tbz2")


class DockerfileError(Exception):
    """A Dockerfile that is wrong or that this interpreter cannot build; the message names file and line."""


@dataclass(frozen=True)
class PlacedFile:
    """A file of the image: what it holds (a symbolic link: what it points to) and its permission bits."""

    content: bytes
    mode: int
    owner: str = ""
    link: bool = False


@dataclass(frozen=True, kw_only=True)
class Image:
    """What the Dockerfile says of the image; nothing of what its base adds."""

    base: str
    platform: str
    files: Mapping[str, PlacedFile] = field(default_factory=dict)
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    workdir: str = "/"
    user: str = ""
    stop_signal: str = ""
    exposed: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    shell: tuple[str, ...] = _DEFAULT_SHELL
    healthcheck: tuple[str, ...] | None = None
    on_build: tuple[str, ...] = ()


def build(context: BuildContext, *, args: Mapping[str, str], target: str | None = None, platform: str = "linux/amd64") -> Image:
    """The image of the last stage, or of `target`.

    Raises `DockerfileError` and `BuildContextError`.
    """
    return _Build(context, args, target, platform).run()


def base_images(
    context: BuildContext, *, args: Mapping[str, str], target: str | None = None, platform: str = "linux/amd64"
) -> frozenset[str]:
    """Every image that the stages up to the one built are FROM, as `build` would expand their names; raises as it does."""
    reading = _Build(context, args, target, platform)
    reading.run()
    return frozenset(stage.base for stage in reading.stages.values())


def write_files(image: Image, root: Path) -> None:
    """The image's files under an empty folder, at the paths that they have in the image; owners are not kept (no root)."""
    for name, file in image.files.items():
        path = root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        if file.link:
            path.symlink_to(os.fsdecode(file.content))
        else:
            path.write_bytes(file.content)
            path.chmod(file.mode)


# --- syntax


@dataclass(frozen=True)
class Instruction:
    line: int
    keyword: str
    flags: Mapping[str, str]
    rest: str

    def json_words(self) -> tuple[str, ...] | None:
        """The words of an exec form; None for a shell form."""
        if not self.rest.startswith("["):
            return None
        try:
            words = json.loads(self.rest)
        except ValueError:
            # Docker, too, takes a broken array for a shell command.
            return None
        return tuple(words) if all(isinstance(word, str) for word in words) else None


_KEYWORDS = (
    "ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "MAINTAINER", "ONBUILD",
    "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR",
)  # fmt: skip


def parse(text: str) -> list[Instruction]:
    """Instructions with continued lines joined and comments dropped. Raises `DockerfileError` without a file's name."""
    escape = _escape_character(text)
    instructions: list[Instruction] = []
    joined, first = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("#") or (joined and not line.strip()):
            continue
        if not joined:
            first = number
        stripped = line.rstrip()
        # An escaped escape character at the end of a line continues it as well, as in Docker's own parser.
        if stripped.endswith(escape):
            joined += (stripped[: -len(escape)]).lstrip() if not joined else stripped[: -len(escape)]
            continue
        joined += line
        if joined.strip():
            instructions.append(_instruction(first, joined.strip()))
        joined = ""
    if joined.strip():
        instructions.append(_instruction(first, joined.strip()))
    return instructions


def _escape_character(text: str) -> str:
    for line in text.splitlines():
        directive = re.fullmatch(r"#\s*(\w+)\s*=\s*(\S+)\s*", line.strip())
        if directive is None:
            break
        if directive[1].lower() == "escape":
            return directive[2]
    return "\\"


def _instruction(line: int, text: str) -> Instruction:
    keyword, _, rest = text.partition(" ") if " " in text else text.partition("\t")
    keyword = keyword.upper()
    if keyword not in _KEYWORDS:
        near = difflib.get_close_matches(keyword, _KEYWORDS, n=1)
        raise DockerfileError(f"{line}: unknown instruction: {keyword}" + (f" (did you mean {near[0]}?)" if near else ""))
    flags = {}
    rest = rest.strip()
    if keyword in ("ADD", "COPY", "FROM", "HEALTHCHECK", "RUN"):
        while flag := re.match(r"--([a-z-]+)(?:=(\S*))?(?:\s+|$)", rest):
            flags[flag[1]] = flag[2] if flag[2] is not None else "true"
            rest = rest[flag.end() :]
    if keyword in ("ADD", "COPY") and re.search(r"(^|\s)<<-?[\"']?\w", rest):
        raise DockerfileError(f"{line}: {keyword} with a here-document is not supported here; copy a file instead")
    return Instruction(line, keyword, flags, rest)


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Quotes removed and `$NAME`, `${NAME}`, `${NAME:-DEFAULT}`, `${NAME:+OTHER}` replaced, as in Docker's words."""
    out = ""
    index = 0
    quote = ""
    while index < len(text):
        character = text[index]
        if character == "\\" and quote != "'" and index + 1 < len(text):
            # Between double quotes only these lose their backslash.
            keep = quote == '"' and text[index + 1] not in '"$\\'
            out += ("\\" if keep else "") + text[index + 1]
            index += 2
        elif character in "\"'" and quote in ("", character):
            quote = "" if quote else character
            index += 1
        elif character == "$" and quote != "'" and (match := _VARIABLE.match(text, index)):
            out += _value_of(match, variables)
            index = match.end()
        else:
            out += character
            index += 1
    if quote:
        raise DockerfileError(f"unexpected end of statement while looking for matching {quote}")
    return out


_VARIABLE = re.compile(r"\$(?:(?P<bare>\w+)|\{(?P<name>\w+)(?:(?P<operator>:?[-+?])(?P<word>[^}]*))?\})")


def _value_of(match: re.Match[str], variables: Mapping[str, str]) -> str:
    name, operator = match["bare"] or match["name"], match["operator"]
    value = variables.get(name)
    present = bool(value) if operator and operator.startswith(":") else value is not None
    if operator is None:
        return value or ""
    word = expand(match["word"], variables)
    if operator.endswith("-"):
        return (value or "") if present else word
    if operator.endswith("+"):
        return word if present else ""
    if not present:
        raise DockerfileError(f"{name}: {word or 'is not set'}")
    return value or ""


def _words(text: str) -> list[str]:
    """Split at spaces outside quotes; quotes stay."""
    return re.findall(r"(?:\\.|\"(?:\\.|[^\"\\])*\"|'[^']*'|[^\s\"'\\])+", text)


# --- interpretation


class _Build:
    def __init__(self, context: BuildContext, args: Mapping[str, str], target: str | None, platform: str) -> None:
        self._context = context
        self._given = dict(args)
        self._target = target
        operating_system, _, architecture = platform.partition("/")
        self._platform_args = {
            "BUILDPLATFORM": platform,
            "TARGETPLATFORM": platform,
            "TARGETOS": operating_system,
            "TARGETARCH": architecture.partition("/")[0],
            "TARGETVARIANT": architecture.partition("/")[2],
        }
        self._platform = platform
        #: ARGs before the first FROM, which only FROM sees until a stage declares them again.
        self._global_args: dict[str, str] = dict(self._platform_args)
        self._stage_args: dict[str, str] = {}
        #: By number, and by name in lower case.
        self.stages: dict[str, Image] = {}
        self._image: Image | None = None

    def run(self) -> Image:
        name = str(self._context.dockerfile)
        try:
            instructions = parse(self._context.dockerfile.read_text())
        except DockerfileError as error:
            raise DockerfileError(f"{name}:{error}") from None
        except (OSError, UnicodeDecodeError) as error:
            raise DockerfileError(f"cannot read {name}: {error}") from error
        stage = 0
        aliases: list[str] = []
        for instruction in instructions:
            if instruction.keyword == "FROM":
                if self._image is not None:
                    self._finish(stage, aliases)
                    stage += 1
                    if self._target is not None and self._target.lower() in self.stages:
                        return self.stages[self._target.lower()]
                aliases = []
            try:
                self._apply(instruction, aliases)
            except (DockerfileError, BuildContextError) as error:
                raise DockerfileError(f"{name}:{instruction.line}: {error}") from None
        if self._image is None:
            raise DockerfileError(f"{name}: no build stage: a FROM instruction is missing")
        self._finish(stage, aliases)
        if self._target is None:
            return self._image
        if self._target.lower() not in self.stages:
            raise DockerfileError(f"{name}: target stage {self._target!r} could not be found")
        return self.stages[self._target.lower()]

    def _finish(self, number: int, aliases: Sequence[str]) -> None:
        assert self._image is not None
        for name in (str(number), *aliases):
            self.stages[name] = self._image

    def _apply(self, instruction: Instruction, aliases: list[str]) -> None:
        keyword = instruction.keyword
        if keyword == "FROM":
            self._from(instruction, aliases)
        elif keyword == "ARG":
            self._arg(instruction)
        elif self._image is None:
            raise DockerfileError(f"no build stage in current context: {keyword} before the first FROM")
        else:
            getattr(self, f"_{keyword.lower()}")(self._image, instruction)

    @property
    def _variables(self) -> dict[str, str]:
        # ENV wins over ARG of the same name.
        return {**_BASE_ENVIRONMENT, **self._stage_args, **(self._image.env if self._image else {})}

    def _set(self, **values: Any) -> None:
        assert self._image is not None
        self._image = replace(self._image, **values)

    def _expanded(self, instruction: Instruction) -> str:
        return expand(instruction.rest, self._variables)

    # Stages and variables.

    def _from(self, instruction: Instruction, aliases: list[str]) -> None:
        _known_flags(instruction, ("platform",))
        words = [expand(word, self._global_args) for word in _words(instruction.rest)]
        if len(words) not in (1, 3) or (len(words) == 3 and words[1].upper() != "AS"):
            raise DockerfileError("FROM requires either one or three arguments")
        base = words[0]
        if not base:
            raise DockerfileError(f"base name ({instruction.rest}) should not be blank; give its build argument a value")
        if len(words) == 3:
            aliases.append(words[2].lower())
        self._stage_args = {}
        platform = expand(instruction.flags.get("platform", self._platform), self._global_args)
        earlier = self.stages.get(base.lower())
        self._image = earlier if earlier is not None else Image(base=base, platform=platform)

    def _arg(self, instruction: Instruction) -> None:
        before_from = self._image is None
        for word in _words(instruction.rest):
            name, given, default = word.partition("=")
            known = self._global_args if before_from else self._variables
            if name in self._given:
                value: str | None = self._given[name]
            elif given:
                value = expand(default, known)
            else:
                value = self._platform_args.get(name) if before_from else self._global_args.get(name)
            if value is not None:
                (self._global_args if before_from else self._stage_args)[name] = value

    def _pairs(self, instruction: Instruction) -> dict[str, str]:
        words = _words(instruction.rest)
        if not words:
            raise DockerfileError(f"{instruction.keyword} requires at least one argument")
        if "=" not in words[0]:
            # The old form: a name, and the rest of the line as its value.
            name, _, value = instruction.rest.partition(" ")
            if not value.strip():
                raise DockerfileError(f"{instruction.keyword} must have two arguments")
            return {expand(name, self._variables): expand(value.strip(), self._variables)}
        pairs = {}
        for word in words:
            name, equals, value = word.partition("=")
            if not equals:
                raise DockerfileError(f"Syntax error - can't find = in {word!r}. Must be of the form: name=value")
            pairs[expand(name, self._variables)] = expand(value, self._variables)
        return pairs

    def _env(self, image: Image, instruction: Instruction) -> None:
        self._set(env={**image.env, **self._pairs(instruction)})

    def _label(self, image: Image, instruction: Instruction) -> None:
        self._set(labels={**image.labels, **self._pairs(instruction)})

    def _maintainer(self, image: Image, instruction: Instruction) -> None:
        self._set(labels={**image.labels, "maintainer": instruction.rest})

    # What runs.

    def _command(self, image: Image, instruction: Instruction) -> tuple[str, ...]:
        words = instruction.json_words()
        return words if words is not None else (*image.shell, instruction.rest)

    def _entrypoint(self, image: Image, instruction: Instruction) -> None:
        # A new entrypoint forgets the base's command, which was meant for another.
        self._set(entrypoint=self._command(image, instruction), cmd=())

    def _cmd(self, image: Image, instruction: Instruction) -> None:
        self._set(cmd=self._command(image, instruction))

    def _shell(self, image: Image, instruction: Instruction) -> None:
        words = instruction.json_words()
        if not words:
            raise DockerfileError("SHELL requires the arguments to be in JSON form")
        self._set(shell=words)

    def _healthcheck(self, image: Image, instruction: Instruction) -> None:
        _known_flags(instruction, ("interval", "timeout", "start-period", "start-interval", "retries"))
        kind, _, command = instruction.rest.partition(" ")
        if kind.upper() == "NONE":
            self._set(healthcheck=("NONE",))
        elif kind.upper() == "CMD":
            inner = replace(instruction, rest=command.strip())
            words = inner.json_words()
            test = ("CMD", *words) if words is not None else ("CMD-SHELL", command.strip())
            options = (f"--{key}={value}" for key, value in sorted(instruction.flags.items()))
            self._set(healthcheck=(*options, *test))
        else:
            raise DockerfileError(f"Unknown type {kind!r} in HEALTHCHECK (try CMD)")

    def _run(self, image: Image, instruction: Instruction) -> None:
        raise DockerfileError(
            f"RUN cannot run here: base image {image.base!r} is not on this machine. Put what it makes into a file and COPY that, "
            "or build with a Docker daemon"
        )

    def _user(self, image: Image, instruction: Instruction) -> None:
        self._set(user=self._expanded(instruction))

    def _workdir(self, image: Image, instruction: Instruction) -> None:
        self._set(workdir=posixpath.normpath(posixpath.join(image.workdir, self._expanded(instruction))))

    def _stopsignal(self, image: Image, instruction: Instruction) -> None:
        self._set(stop_signal=self._expanded(instruction))

    def _expose(self, image: Image, instruction: Instruction) -> None:
        ports = []
        for word in self._expanded(instruction).split():
            if not re.fullmatch(r"\d+(-\d+)?(/(tcp|udp|sctp))?", word):
                raise DockerfileError(f"invalid containerPort: {word}")
            ports.append(word if "/" in word else f"{word}/tcp")
        self._set(exposed=tuple(dict.fromkeys([*image.exposed, *ports])))

    def _volume(self, image: Image, instruction: Instruction) -> None:
        words = instruction.json_words() or tuple(instruction.rest.split())
        volumes = [expand(word, self._variables) for word in words]
        self._set(volumes=tuple(dict.fromkeys([*image.volumes, *volumes])))

    def _onbuild(self, image: Image, instruction: Instruction) -> None:
        self._set(on_build=(*image.on_build, instruction.rest))

    # Files.

    def _copy(self, image: Image, instruction: Instruction) -> None:
        _known_flags(instruction, ("chmod", "chown", "from", "link"))
        if "from" in instruction.flags:
            source = expand(instruction.flags["from"], self._variables)
            stage = self.stages.get(source.lower())
            if stage is None:
                raise DockerfileError(f"COPY --from={source}: no earlier stage has this name, and other images are not on this machine")
            self._place(image, instruction, _StageFiles(stage, source))
        else:
            self._place(image, instruction, _ContextFiles(self._context))

    def _add(self, image: Image, instruction: Instruction) -> None:
        _known_flags(instruction, ("chmod", "chown", "link"))
        for source in self._copy_words(instruction)[:-1]:
            if re.match(r"(https?|ftp|git|ssh)://|git@", source):
                raise DockerfileError(f"ADD {source}: nothing is downloaded here; put the file into the build context")
            if source.endswith(_ARCHIVES):
                raise DockerfileError(f"ADD {source}: archives are not unpacked here; unpack it and use COPY")
        self._place(image, instruction, _ContextFiles(self._context))

    def _copy_words(self, instruction: Instruction) -> list[str]:
        words = list(instruction.json_words() or _words(instruction.rest))
        if len(words) < 2:
            raise DockerfileError(f"{instruction.keyword} requires at least two arguments: source and destination")
        return [expand(word, self._variables) for word in words]

    def _place(self, image: Image, instruction: Instruction, files: _Files) -> None:
        *sources, destination = self._copy_words(instruction)
        mode = _mode(expand(instruction.flags.get("chmod", ""), self._variables))
        owner = expand(instruction.flags.get("chown", ""), self._variables)
        found = [match for source in sources for match in files.find(source)]
        into_folder = destination.endswith("/") or destination in (".", "..")
        target = posixpath.normpath(posixpath.join(image.workdir, destination))
        if len(found) > 1 and not into_folder:
            raise DockerfileError(
                f"When using {instruction.keyword} with more than one source file, the destination must be a directory and "
                f"end with a /, and {destination!r} does not"
            )
        # --link copies without looking at what the base has there.
        linked = instruction.flags.get("link", "false") == "true"
        into_folder |= not linked and (target in _BASE_FOLDERS or _is_folder(target, image))
        placed = dict(image.files)
        for path, whole_folder in found:
            if whole_folder:
                for inner in files.below(path):
                    name = posixpath.join(target, posixpath.relpath(inner, path or "."))
                    placed[posixpath.normpath(name)] = files.read(inner, mode, owner)
            else:
                name = posixpath.join(target, posixpath.basename(path)) if into_folder else target
                placed[name] = files.read(path, mode, owner)
        self._set(files=placed)


def _known_flags(instruction: Instruction, known: Sequence[str]) -> None:
    for flag in instruction.flags:
        if flag not in known:
            raise DockerfileError(f"{instruction.keyword} --{flag} is not supported here; known are --{', --'.join(known)}")


def _mode(text: str) -> int | None:
    if not text:
        return None
    if not re.fullmatch("[0-7]{3,4}", text):
        raise DockerfileError(f"--chmod={text} is not an octal mode such as 0755")
    return int(text, 8)


def _is_folder(path: str, image: Image) -> bool:
    prefix = path.rstrip("/") + "/"
    return path == image.workdir or any(name.startswith(prefix) for name in image.files)


class _Files:
    """Where a COPY takes its files from; paths are relative to its root, without a leading slash."""

    def paths(self) -> Iterator[str]:
        raise NotImplementedError

    def read(self, path: str, mode: int | None, owner: str) -> PlacedFile:
        raise NotImplementedError

    def missing(self, source: str) -> str:
        raise NotImplementedError

    def find(self, source: str) -> list[tuple[str, bool]]:
        """(path, whether it is a folder whose content is meant) of everything that a source's pattern matches."""
        pattern = posixpath.normpath("/" + source).lstrip("/")
        if not pattern:
            return [("", True)]
        expression = re.compile(glob_expression(pattern))
        found: dict[str, bool] = {}
        for path in self.paths():
            if expression.fullmatch(path):
                found[path] = False
            for parent in map(str, PurePosixPath(path).parents):
                if parent != "." and expression.fullmatch(parent):
                    found[parent] = True
        if not found:
            raise DockerfileError(self.missing(source))
        return sorted(found.items())

    def below(self, folder: str) -> Iterator[str]:
        prefix = f"{folder}/" if folder else ""
        return (path for path in self.paths() if path.startswith(prefix))


class _ContextFiles(_Files):
    def __init__(self, context: BuildContext) -> None:
        self._context = context

    def paths(self) -> Iterator[str]:
        return map(str, self._context.files)

    def read(self, path: str, mode: int | None, owner: str) -> PlacedFile:
        full = self._context.root / path
        own_mode, content = read_entry(full)
        link = os.path.islink(full)
        return PlacedFile(content, own_mode if mode is None or link else mode, owner, link)

    def missing(self, source: str) -> str:
        root: Path = self._context.root
        plain = posixpath.normpath("/" + source).lstrip("/")
        why = "is kept out by .dockerignore" if (root / plain).exists() else "is not there"
        return f'"/{plain}": not found: it {why} in build context {str(root)!r}'


class _StageFiles(_Files):
    def __init__(self, stage: Image, name: str) -> None:
        self._stage = stage
        self._name = name

    def paths(self) -> Iterator[str]:
        return (path.lstrip("/") for path in self._stage.files)

    def read(self, path: str, mode: int | None, owner: str) -> PlacedFile:
        file = self._stage.files[f"/{path}"]
        return replace(file, mode=file.mode if mode is None or file.link else mode, owner=owner or file.owner)

    def missing(self, source: str) -> str:
        return f"{source!r}: not found among the files that stage {self._name!r} copied; its base image is not on this machine"
