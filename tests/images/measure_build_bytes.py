"""Measures what it costs in bytes to build one of the images next to a large base, by the ways there are to do it.

    python -m tests.images.measure_build_bytes [--megabytes 1024] [--layers 4]

Makes a base of random (so incompressible) bytes, puts it into local registries, and builds and pushes the GPU image next to
it, with every connection to a registry going through a proxy that counts. Two registries stand for Docker Hub and for one's
own; a base in the "same registry" stands for a copy of it there, such as a remote repository that is a pull-through cache.
A "new machine" has no cache of any kind, as a hosted CI runner.

Needs root, dockerd, the docker command with buildx, Debian's docker-registry, and disk of about six times the base.
`buildkitd` on PATH adds the rows of a BuildKit of its own; where it is missing they are left out.
Left out: times (loopback is not a network), TLS and authentication, and Artifact Registry itself: whether it mounts blobs
between repositories is its own to say; the standard that it implements has the call, and these rows use it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.images.image_docker import Docker, own_daemon
from tests.images.image_fakes import IMAGES

_DOCKERFILE = IMAGES / "gpu.Dockerfile"
_BASE = "mirror/base:1"
_IMAGE = "docker-repo/vllm-fungibility:GPU"


@dataclass
class Registry:
    """A registry behind a proxy that counts, and what went through it since the last reset, in bytes."""

    address: str
    pulled: int = 0
    pushed: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, pulled: int, pushed: int) -> None:
        with self._lock:
            self.pulled += pulled
            self.pushed += pushed

    def reset(self) -> None:
        with self._lock:
            self.pulled = self.pushed = 0


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def _wait_for_port(port: int) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _copy(source: socket.socket, sink: socket.socket, count: Callable[[int], None]) -> None:
    try:
        while data := source.recv(1 << 16):
            sink.sendall(data)
            count(len(data))
    except OSError:
        pass
    finally:
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue


def _serve_proxy(listening: socket.socket, port: int, registry: Registry) -> None:
    while True:
        try:
            client, _ = listening.accept()
        except OSError:
            return
        upstream = socket.create_connection(("127.0.0.1", port))
        for source, sink, count in (
            (client, upstream, lambda size: registry.count(0, size)),
            (upstream, client, lambda size: registry.count(size, 0)),
        ):
            threading.Thread(target=_copy, args=(source, sink, count), daemon=True).start()


@contextmanager
def _registry(folder: Path, seed: Path | None) -> Iterator[Registry]:
    """Runs a registry in a new folder, with what the seed folder holds if there is one; yields it, then removes it."""
    port = _free_port()
    if seed is None:
        folder.mkdir()
    else:
        # Blobs are written once and never changed, so links do; everything else in a registry is small.
        shutil.copytree(seed, folder, copy_function=lambda old, new: (os.link if old.endswith("/data") else shutil.copy)(old, new))
    settings = folder / "config.yml"
    settings.write_text(
        f"version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n"
        f"storage: {{filesystem: {{rootdirectory: {folder}/root}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}', relativeurls: true, secret: measured}}\n"
    )
    process = subprocess.Popen(["docker-registry", "serve", settings], stderr=subprocess.DEVNULL)
    try:
        _wait_for_port(port)
        with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
            registry = Registry(f"127.0.0.1:{listening.getsockname()[1]}")
            threading.Thread(target=_serve_proxy, args=(listening, port, registry), daemon=True).start()
            yield registry
    finally:
        process.terminate()
        process.wait()


@contextmanager
def _buildkitd() -> Iterator[str]:
    """A BuildKit of its own, without any cache; yields its address."""
    folder = Path(tempfile.mkdtemp(prefix="images-buildkit-"))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            ["buildkitd", f"--addr=unix://{folder}/socket", f"--root={folder}/root", "--containerd-worker=false"], stdout=log, stderr=log
        )
    try:
        deadline = time.monotonic() + 30
        while not (folder / "socket").exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"buildkitd did not start: {(folder / 'log').read_text()[-800:]}")
            time.sleep(0.1)
        yield f"unix://{folder}/socket"
    finally:
        process.terminate()
        process.wait(timeout=30)
        shutil.rmtree(folder, ignore_errors=True)


def _make_seed(folder: Path, command: str, megabytes: int, layers: int) -> Path:
    """Makes the base and returns the folder of a registry that holds it, and nothing else."""
    source = folder / "base"
    source.mkdir()
    lines = ["FROM scratch"]
    for layer in range(layers):
        with (source / f"layer{layer}").open("wb") as file:
            for _ in range(megabytes // layers):
                file.write(os.urandom(1 << 20))
        lines.append(f"COPY layer{layer} /opt/")
    (source / "Dockerfile").write_text("\n".join(lines) + "\n")
    seed = folder / "seed"
    with _registry(seed, None) as registry, own_daemon(command) as docker:
        name = f"{registry.address}/{_BASE}"
        docker.build(source / "Dockerfile", name, {}, context=source)
        docker.run("push", name, timeout=600)
    shutil.rmtree(source)
    return seed


def _changed_context(folder: Path) -> Path:
    """The build's context with an entrypoint that no earlier build had: the build after an edit."""
    context = folder / f"context-{time.monotonic_ns()}"
    shutil.copytree(IMAGES, context)
    with (context / "fungibility-entrypoint").open("a") as script:
        script.write(f"# {time.monotonic_ns()}\n")
    return context


Build = Callable[[Registry, Registry, Path], None]
"""Builds the image next to the first registry's base, from a context, and has it in the second registry."""


@contextmanager
def _daemon(command: str, features: Mapping[str, bool]) -> Iterator[Build]:
    """As pulumi_docker's Image does: the daemon builds, then pushes."""
    with own_daemon(command, features) as docker:

        def build(base: Registry, target: Registry, context: Path) -> None:
            tag = f"{target.address}/{_IMAGE}"
            docker.build(_DOCKERFILE, tag, {"BASE_IMAGE": f"{base.address}/{_BASE}"}, context=context)
            docker.run("push", tag, timeout=600)

        yield build


@contextmanager
def _builder(command: str) -> Iterator[Build]:
    """As BuildKit does alone: the builder pushes, and no daemon ever has the image."""
    with _buildkitd() as address:
        docker = Docker(command, None)
        name = f"measure-{time.monotonic_ns()}"
        docker.run("buildx", "create", "--name", name, "--driver", "remote", address)

        def build(base: Registry, target: Registry, context: Path) -> None:
            docker.run(
                *("buildx", "build", "--builder", name, "--file", str(_DOCKERFILE)),
                *("--build-arg", f"BASE_IMAGE={base.address}/{_BASE}"),
                *("--output", f"type=image,name={target.address}/{_IMAGE},push=true,registry.insecure=true"),
                str(context),
                timeout=600,
            )

        yield build


@dataclass(frozen=True)
class Row:
    way: str
    base: str
    build: str
    pulled: int
    pushed: int


def _measure(folder: Path, command: str, megabytes: int, layers: int) -> Iterator[Row]:
    seed = _make_seed(folder, command, megabytes, layers)
    ways: dict[str, Callable[[], AbstractContextManager[Build]]] = {
        "daemon builds, then pushes": lambda: _daemon(command, {}),
        "the same, containerd image store": lambda: _daemon(command, {"containerd-snapshotter": True}),
    }
    if shutil.which("buildkitd") is not None:
        ways["BuildKit builds and pushes"] = lambda: _builder(command)
    for way, start in ways.items():
        for place in ("other registry", "same registry"):
            run = folder / f"run-{time.monotonic_ns()}"
            run.mkdir()
            own = seed if place == "same registry" else None
            with _registry(run / "hub", seed) as hub, _registry(run / "ours", own) as ours:
                for machine in (["first of all", "same machine, after an edit"], ["new machine, after an edit"]):
                    with start() as build:
                        for name in machine:
                            for registry in (hub, ours):
                                registry.reset()
                            build(hub if place == "other registry" else ours, ours, _changed_context(run))
                            yield Row(way, place, name, hub.pulled + ours.pulled, hub.pushed + ours.pushed)
            shutil.rmtree(run)


def main() -> None:
    parser = argparse.ArgumentParser(description="Bytes that a build of the images pulls and pushes, by way to build it.")
    parser.add_argument("--megabytes", type=int, default=1024, help="size of the base (MiB)")
    parser.add_argument("--layers", type=int, default=4, help="layers of the base")
    arguments = parser.parse_args()
    command = shutil.which("docker")
    if command is None:
        parser.error("there is no docker command")
    folder = Path(tempfile.mkdtemp(prefix="images-measure-"))
    # Where buildx notes its builders: nothing is written to the user's home.
    os.environ["BUILDX_CONFIG"] = str(folder / "buildx")
    try:
        print(f"base of {arguments.megabytes} MiB in {arguments.layers} layers\n")
        print("| way | where the base is | build | pulled, bytes | pushed, bytes |\n|---|---|---|---:|---:|")
        for row in _measure(folder, command, arguments.megabytes, arguments.layers):
            print(f"| {row.way} | {row.base} | {row.build} | {row.pulled:,} | {row.pushed:,} |", flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
