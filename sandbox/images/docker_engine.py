"""A Docker daemon that the sandbox can build with, by its own command line.

Left out: starting a daemon (it is the machine's, and needs root), and everything but building and handing over images.
What is built leaves the daemon's list of images again; its build cache keeps the layers, and so an equal build is the
same image, to the digest.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

#: Docker's own Dockerfile frontend knows `COPY --link` from here on.
MINIMUM_VERSION = 23

_ANSWER_SECONDS = 5.0
_BUILD_SECONDS = 900.0


class DockerError(Exception):
    """A docker command failed; the message has the end of what it said."""


class NoDocker(Exception):
    """Why there is no daemon to build with, in words for the user."""


class DockerEngine:
    """Made by `find`."""

    def __init__(self, command: str, environment: Mapping[str, str], version: str) -> None:
        self._command = command
        self._environment = dict(environment)
        self.version = version

    @classmethod
    def find(cls, environment: Mapping[str, str], state_dir: Path) -> DockerEngine:
        """The daemon of DOCKER_HOST, of the current context, or of the default socket.

        `state_dir`: where buildx may write. Raises `NoDocker`, after some seconds at most.
        """
        command = shutil.which("docker", path=environment.get("PATH"))
        if command is None:
            raise NoDocker("there is no docker command")
        own = {
            **environment,
            "DOCKER_BUILDKIT": "1",
            # One manifest, and nothing in it that differs from build to build.
            "BUILDX_NO_DEFAULT_ATTESTATIONS": "1",
            "BUILDX_CONFIG": str(state_dir / "buildx"),
        }
        engine = cls(command, own, "")
        try:
            engine.version = engine._run("version", "--format", "{{.Server.Version}}", seconds=_ANSWER_SECONDS).strip()
            engine._run("buildx", "version", seconds=_ANSWER_SECONDS)
        except DockerError as error:
            raise NoDocker(str(error)) from error
        major = engine.version.partition(".")[0]
        if not major.isdigit() or int(major) < MINIMUM_VERSION:
            raise NoDocker(f"the Docker daemon is version {engine.version}, older than {MINIMUM_VERSION}")
        return engine

    def build(
        self, *, context: Path, dockerfile: Path, tag: str, platform: str, args: Mapping[str, str], base: tuple[str, str] | None = None
    ) -> str:
        """Builds an image by BuildKit and returns the builder's log. Raises `DockerError`.

        `base`: an image reference, and what a FROM of it means instead, such as `docker-image://NAME`.
        """
        options: list[str] = ["--platform", platform, "--tag", tag, "--file", str(dockerfile)]
        for name in args:
            # The value comes from the environment: a command line can be read by every user of the machine.
            options += ["--build-arg", name]
        if base:
            options += ["--build-context", "=".join(base)]
        return self._run(
            "buildx", "build", "--builder", "default", "--progress", "plain", *options, str(context), seconds=_BUILD_SECONDS, more=args
        )

    def push(self, tag: str) -> None:
        """To the registry that the tag names. Raises `NoDocker`: a daemon in a virtual machine does not reach this machine's loopback."""
        try:
            self._run("push", "--quiet", tag, seconds=_BUILD_SECONDS)
        except DockerError as error:
            raise NoDocker(f"the daemon cannot push to {tag}: {(str(error).splitlines() or [''])[-1]}") from error

    def remove(self, tags: Sequence[str]) -> None:
        """Takes names out of the daemon's list of images, those that are there."""
        for tag in tags:
            with suppress(DockerError):
                self._run("image", "rm", tag, seconds=60)

    def _run(self, *arguments: str, seconds: float, more: Mapping[str, str] | None = None) -> str:
        try:
            done = subprocess.run(
                [self._command, *arguments],
                env={**self._environment, **(more or {})},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=seconds,
            )
        except subprocess.TimeoutExpired as error:
            raise DockerError(f"docker {arguments[0]} did not end within {seconds:g} s") from error
        if done.returncode != 0:
            said = (done.stderr or done.stdout).strip().splitlines()[-20:]
            raise DockerError("\n".join(said) or f"docker {arguments[0]} ended with {done.returncode}")
        return done.stdout if arguments[0] == "version" else done.stdout + done.stderr
