"""All stand-in providers together, as the daemon starts them."""

from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import pytest
from pulumi.runtime.proto import provider_pb2

from sandbox.google.latencies import Clock
from sandbox.images.image_builder import ImageBuilder
from sandbox.providers.serve import Providers, serve
from sandbox.providers.wire import to_struct
from tests.unit.bootstrap_program import run_bootstrap
from tests.unit.program import Run, run_program
from tests.unit.provider_client import Client
from tests.unit.sandbox.helpers import install


def start(builder: ImageBuilder, tmp_path: Path, path: Path) -> Providers:
    environment = {"PATH": str(path), "HOME": str(tmp_path), "PULUMI_HOME": str(tmp_path / "pulumi")}
    # Nothing is asked of the cloud before a cluster is.
    return serve(cast(Any, None), builder, tmp_path, environment, Clock(1000.0))


@pytest.fixture
def providers(builder: ImageBuilder, tmp_path: Path) -> Iterator[Providers]:
    running = start(builder, tmp_path, tmp_path / "bin")
    yield running
    running.stop()


def test_each_package_has_a_port_and_reports_the_version_of_its_sdk(providers: Providers) -> None:
    ports = dict(part.split(":") for part in providers.debug_providers.split(","))
    assert list(ports) == ["gcp", "kubernetes", "docker"]
    for package, server in providers.servers.items():
        client = Client(server)
        try:
            assert str(server.port) == ports[package]
            assert client.version() == version(f"pulumi-{package}")
        finally:
            client.close()


def test_a_real_kubernetes_plugin_is_left_to_work(builder: ImageBuilder, tmp_path: Path) -> None:
    plugin = install(tmp_path / "bin" / "pulumi-resource-kubernetes", "#!/bin/sh\n")
    running = start(builder, tmp_path, plugin.parent)
    try:
        assert list(running.servers) == ["gcp", "docker"]
    finally:
        running.stop()


@pytest.mark.parametrize(
    "run", [run_program, lambda: run_program({"namespace": "serving"}, stack="prod"), run_bootstrap], ids=["dev", "prod", "bootstrap"]
)
def test_the_stand_ins_take_all_that_the_program_and_its_bootstrap_make(providers: Providers, run: Callable[[], Run]) -> None:
    clients = {package: Client(server) for package, server in providers.servers.items()}
    try:
        for resource in run().resources.values():
            kind, _, package = resource.type.rpartition(":")
            if kind == "pulumi:providers" and package in clients:
                request = provider_pb2.CheckRequest(urn=resource.urn, news=to_struct(resource.inputs))
                assert not clients[package].stub.CheckConfig(request).failures, resource.urn
            elif resource.type.partition(":")[0] in clients:
                assert clients[resource.type.partition(":")[0]].check(resource.urn, resource.inputs).failures == [], resource.urn
    finally:
        for client in clients.values():
            client.close()
