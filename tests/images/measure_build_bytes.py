"""Measures what it costs in bytes to build one of the images next to a large base, by the ways there are to do it.

    python -m tests.images.measure_build_bytes [--megabytes 1024] [--layers 4]

Makes a base of random (so incompressible) bytes, puts it into local registries, and lets a Docker without any cache build
and push the GPU image next to it, with every connection to a registry going through a proxy that counts. Two registries
stand for Docker Hub and for one's own; a base `in the same registry` stands for a mirror of the base there, such as a remote
repository that is a pull-through cache.

Needs root, dockerd, the docker command with buildx and Debian's docker-registry; `buildkitd` on PATH adds the rows of a
BuildKit of its own, and is left out of the table where it is missing. Takes disk of about six times the base.
Left out: times (loopback is no network), TLS and authentication, Artifact Registry itself (whether it mounts blobs between
repositories is its own to say; the standard that it implements has the call, and these rows use it).
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
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.images.image_docker import Docker, own_daemon
from tests.images.image_fakes import IMAGES

_DOCKERFILE = IMAGES / "gpu.Dockerfile"


@dataclass
class Registry:
    """A registry, and the counting proxy that everything but the preparation goes through."""

    direct: str
    counted: str
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
def _registry(folder: Path) -> Iterator[Registry]:
    port = _free_port()
    folder.mkdir()
    settings = folder / "config.yml"
    settings.write_text(
        f"version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n"
        f"storage: {{filesystem: {{rootdirectory: {folder}/data}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}', relativeurls: true, secret: measured}}\n"
    )
    process = subprocess.Popen(["docker-registry", "serve", settings], stderr=subprocess.DEVNULL)
    try:
        _wait_for_port(port)
        with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
            registry = Registry(f"127.0.0.1:{port}", f"127.0.0.1:{listening.getsockname()[1]}")
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
            ["buildkitd", f"--addr=unix://{folder}/socket", f"--root={folder}/root", "--containerd-worker=false"],
            stdout=log,
            stderr=log,
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


def _make_base(folder: Path, registries: list[Registry], megabytes: int, layers: int, command: str) -> None:
    folder.mkdir()
    lines = ["FROM scratch"]
    for layer in range(layers):
        with (folder / f"layer{layer}").open("wb") as file:
            for _ in range(megabytes // layers):
                file.write(os.urandom(1 << 20))
        lines.append(f"COPY layer{layer} /opt/")
    (folder / "Dockerfile").write_text("\n".join(lines) + "\n")
    with own_daemon(command) as maker:
        maker.build(folder / "Dockerfile", "base", {}, context=folder)
        for registry in registries:
            maker.run("tag", "base", f"{registry.direct}/mirror/base:1")
            maker.run("push", f"{registry.direct}/mirror/base:1", timeout=600)
    shutil.rmtree(folder)


def _changed_context(folder: Path) -> Path:
    """The build's context with a changed entrypoint: the build after an edit."""
    context = folder / f"context{time.monotonic_ns()}"
    shutil.copytree(IMAGES, context)
    with (context / "fungibility-entrypoint").open("a") as script:
        script.write(f"# {time.monotonic_ns()}\n")
    return context


def _build_and_push(docker: Docker, base: Registry, target: Registry, context: Path) -> None:
    """As pulumi_docker's Image does: the daemon builds, then pushes."""
    tag = f"{target.counted}/ours/vllm-fungibility:GPU"
    docker.build(_DOCKERFILE, tag, {"BASE_IMAGE": f"{base.counted}/mirror/base:1"}, context=context)
    docker.run("push", tag, timeout=600)


def _build_to_registry(docker: Docker, builder: str, base: Registry, target: Registry, context: Path) -> None:
    """As BuildKit does alone: the builder pushes, and no daemon ever has the image."""
    docker.run(
        *("buildx", "build", "--builder", builder, "--file", str(_DOCKERFILE)),
        *("--build-arg", f"BASE_IMAGE={base.counted}/mirror/base:1"),
        *("--output", f"type=image,name={target.counted}/ours/vllm-fungibility:GPU,push=true,registry.insecure=true"),
        str(context),
        timeout=600,
    )


@dataclass(frozen=True)
class Row:
    way: str
    base: str
    run: str
    pulled: int
    pushed: int


def _measure(folder: Path, command: str, megabytes: int, layers: int) -> Iterator[Row]:
    with ExitStack() as stack:
        spaces = {
            name: (stack.enter_context(_registry(folder / f"hub-{name}")), stack.enter_context(_registry(folder / name)))
            for name in ("daemon", "snapshotter", "buildkit")
        }
        _make_base(
            folder / "base", [registry for pair in spaces.values() for registry in pair], megabytes, layers, command
        )

        def rows(way: str, place: str, base: Registry, target: Registry, build: Callable[[Path], None]) -> Iterator[Row]:
            for run in ("first", "after an edit"):
                base.reset()
                target.reset()
                build(_changed_context(folder))
                pulled = base.pulled + (target.pulled if target is not base else 0)
                pushed = base.pushed + (target.pushed if target is not base else 0)
                yield Row(way, place, run, pulled, pushed)

        for name, way, features in (
            ("daemon", "daemon builds, then pushes", {}),
            ("snapshotter", "the same, containerd image store", {"containerd-snapshotter": True}),
        ):
            hub, ours = spaces[name]
            # The other registry last: after it, the own registry has the base's layers from an earlier push.
            for place, base in (("same registry", ours), ("other registry", hub)):
                if base is hub:
                    ours = stack.enter_context(_registry(folder / f"empty-{name}"))
                with own_daemon(command, features) as docker:

                    def build(
                        context: Path, docker: Docker = docker, base: Registry = base, ours: Registry = ours
                    ) -> None:
                        _build_and_push(docker, base, ours, context)

                    yield from rows(way, place, base, ours, build)
            with own_daemon(command, features) as docker:
                yield from (
                    row
                    for row in rows(
                        way,
                        "other registry, own one has its layers",
                        hub,
                        ours,
                        lambda context, docker=docker, hub=hub, ours=ours: _build_and_push(docker, hub, ours, context),
                    )
                    if row.run == "first"
                )

        if shutil.which("buildkitd") is None:
            return
        hub, ours = spaces["buildkit"]
        for place, base in (("same registry", ours), ("other registry", hub)):
            if base is hub:
                ours = stack.enter_context(_registry(folder / "empty-buildkit"))
            with _buildkitd() as address:
                docker = Docker(command, None)
                builder = f"measure-{os.getpid()}-{time.monotonic_ns()}"
                docker.run("buildx", "create", "--name", builder, "--driver", "remote", address)
                try:

                    def build_alone(
                        context: Path, builder: str = builder, base: Registry = base, ours: Registry = ours
                    ) -> None:
                        _build_to_registry(docker, builder, base, ours, context)

                    yield from rows("BuildKit builds and pushes", place, base, ours, build_alone)
                finally:
                    docker.run("buildx", "rm", "--keep-daemon", builder)


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
            print(f"| {row.way} | {row.base} | {row.run} | {row.pulled:,} | {row.pushed:,} |", flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
