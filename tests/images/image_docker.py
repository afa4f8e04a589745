"""A Docker that the container tests can build and run with: the reachable one, or a daemon of their own.

A daemon of its own has its data, socket and settings in a temporary folder, touches neither the machine's firewall nor
its network bridges, and is gone with its containers when the tests end. It needs root and Docker's packages.
Left out: pulling anything. The base image is made here, so the tests need no registry and no network.
"""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.images.image_fakes import IMAGES, missing_programs

PACKAGES = "docker.io docker-cli docker-buildx busybox-static"
"""Debian 13's packages. Debian 12's Docker 20.10 does not know `COPY --link`."""


class NoDocker(Exception):
    """Why the container tests cannot run on this machine, and what would change that."""


class Docker:
    """A Docker command line, bound to one daemon."""

    def __init__(self, command: str, host: str | None) -> None:
        self._command = command
        self._environment = os.environ | {"DOCKER_BUILDKIT": "1", "BUILDX_NO_DEFAULT_ATTESTATIONS": "1"}
        if host is not None:
            self._environment["DOCKER_HOST"] = host
        self.host = host or os.environ.get("DOCKER_HOST", "the default context")

    def try_run(self, *arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self._command, *arguments], check=False, env=self._environment, capture_output=True, text=True, timeout=timeout
        )

    def run(self, *arguments: str, timeout: float = 120) -> str:
        """Runs a docker command that must succeed; returns its output, both streams."""
        done = self.try_run(*arguments, timeout=timeout)
        if done.returncode != 0:
            raise AssertionError(f"docker {' '.join(arguments)} failed with {done.returncode}:\n{done.stdout}{done.stderr}")
        return (done.stdout + done.stderr).strip()

    def inspect(self, name: str) -> dict[str, Any]:
        described: list[dict[str, Any]] = json.loads(self.run("inspect", name))
        return described[0]

    def build(self, dockerfile: Path, tag: str, arguments: Mapping[str, str], *, context: Path = IMAGES) -> str:
        """Builds an image and returns the builder's plain log."""
        options = [part for name, value in arguments.items() for part in ("--build-arg", f"{name}={value}")]
        return self.run("build", "--progress=plain", "--file", str(dockerfile), "--tag", tag, *options, str(context))


def _start_daemon(folder: Path) -> subprocess.Popen[bytes]:
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            [
                "dockerd",
                f"--host=unix://{folder}/socket",
                f"--data-root={folder}/data",
                f"--exec-root={folder}/exec",
                f"--pidfile={folder}/pid",
                "--iptables=false",
                "--ip6tables=false",
                "--bridge=none",
            ],
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
        )


@contextmanager
def own_daemon(command: str) -> Iterator[Docker]:
    """Starts a daemon and yields it; ends it and removes all that it had."""
    # Not under pytest's folder: a socket's path may have 107 characters at most.
    folder = Path(tempfile.mkdtemp(prefix="images-docker-"))
    daemon = _start_daemon(folder)
    docker = Docker(command, f"unix://{folder}/socket")
    try:
        deadline = time.monotonic() + 60
        while docker.try_run("info").returncode != 0:
            if daemon.poll() is not None or time.monotonic() > deadline:
                raise NoDocker(f"dockerd did not start: {(folder / 'log').read_text()[-1500:]}")
            time.sleep(0.2)
        yield docker
        containers = docker.run("ps", "--all", "--quiet").split()
        if containers:
            docker.run("rm", "--force", *containers)
    finally:
        daemon.send_signal(signal.SIGTERM)
        try:
            daemon.wait(timeout=30)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()
        _unmount_all(folder)
        shutil.rmtree(folder, ignore_errors=True)


def _unmount_all(folder: Path) -> None:
    mounted = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for place in sorted((place for place in mounted if place.startswith(f"{folder}/")), reverse=True):
        subprocess.run(["umount", "--lazy", place], check=False, capture_output=True)


@contextmanager
def some_docker() -> Iterator[Docker]:
    """Yields a Docker that can build and run; raises NoDocker where there is none to be had."""
    install = f"install Debian's {PACKAGES}"
    if missing := missing_programs():
        raise NoDocker(f"the base image is made of this machine's programs, and {', '.join(missing)} is missing; {install}")
    command = shutil.which("docker")
    if command is None:
        raise NoDocker(f"there is no docker command; {install}")
    reachable = Docker(command, None)
    if reachable.try_run("buildx", "version").returncode != 0:
        raise NoDocker(f"{command} has no buildx plugin to build with; {install}")
    if reachable.try_run("info").returncode == 0:
        yield reachable
        return
    if shutil.which("dockerd") is None:
        raise NoDocker(f"no Docker daemon answers at {reachable.host} and there is no dockerd to start; {install}")
    if os.geteuid() != 0:
        raise NoDocker(f"no Docker daemon answers at {reachable.host}, and only root can start one; start Docker, or run as root")
    with own_daemon(command) as own:
        yield own
