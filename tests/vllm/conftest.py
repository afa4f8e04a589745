"""The real server, installed once into the sandbox's cache, and the arguments that the Deployment gives each container."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sandbox.host.addresses import PodAddresses
from sandbox.host.paths import Paths
from sandbox.node_agent.network import PodNetwork
from sandbox.servers.model_server import ModelServer, make_scratch, real_vllm, remove_scratch, stand_in
from sandbox.servers.real.install import RealVllm
from tests.unit.program import run_program
from tests.vllm.servers import MODEL

_FOLDER = Path(__file__).parent


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Opt-in: it runs when it is asked for by its folder or its mark, not with everything else."""
    named = any(Path(each.split("::")[0]).resolve().is_relative_to(_FOLDER) for each in config.args)
    asked = named or "vllm" in config.option.markexpr
    for item in items:
        if item.path.is_relative_to(_FOLDER):
            item.add_marker(pytest.mark.vllm)
            if not asked:
                item.add_marker(pytest.mark.skip(reason="real vLLM is 6 GB to install; ask with `make test-vllm`"))


@pytest.fixture(scope="session")
def vllm(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServer]:
    """Installs what is missing (minutes and gigabytes, the first time)."""
    paths = replace(Paths.from_environment(), state=tmp_path_factory.mktemp("state"))
    reporter = pytestconfig.pluginmanager.get_plugin("terminalreporter")
    last = ""

    def report(text: str, fraction: float | None) -> None:
        nonlocal last
        if reporter is not None and text != last:
            reporter.write_line(text)
        last = text

    RealVllm(paths, report).ensure(MODEL)
    make_scratch(paths)
    yield real_vllm(paths)
    remove_scratch(paths)


@pytest.fixture(scope="session")
def standin() -> ModelServer:
    return stand_in()


@pytest.fixture(scope="session")
def deployed_arguments() -> dict[str, list[str]]:
    """Container's name -> its arguments, from the Deployment that the program makes of the dev settings."""
    deployment = run_program().only("kubernetes:apps/v1:Deployment").inputs
    return {each["name"]: each["args"] for each in deployment["spec"]["template"]["spec"]["containers"]}


@pytest.fixture(scope="session")
def pod_addresses() -> PodAddresses:
    return PodAddresses()


@pytest.fixture
def loopback(pod_addresses: PodAddresses) -> Iterator[str]:
    """A pod's address for one test; no sandbox on this machine has the same."""
    network = PodNetwork(pod_addresses)
    yield network.loopback
    network.release()
