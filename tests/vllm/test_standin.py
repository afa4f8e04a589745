"""The stand-in held against real vLLM: routes, shapes of answers, refusals, flags and metrics.

What differs is in `differences.py` with the reason; a difference that is not there fails, and so does one that is there
and has gone.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sandbox.host.addresses import PodAddresses
from sandbox.node_agent.network import PodNetwork
from sandbox.servers.model_server import ModelServer
from tests.vllm import differences as known
from tests.vllm.exchanges import ALL, AUTHORISED, KEY, SUCCESSES
from tests.vllm.servers import Server, metrics, run_python
from tests.vllm.shapes import differences, shape_of

_ROUTE = re.compile(r"Route: (\S+), Methods: (.*)$", re.MULTILINE)

_PRINT_FLAGS = """
import json
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser
parser = make_arg_parser(FlexibleArgumentParser())
print(json.dumps(sorted(each for action in parser._actions for each in action.option_strings)))
"""

_PRINT_STAND_IN_FLAGS = """
import json
from vllm.standin.flags import parser
print(json.dumps(sorted(each for action in parser()._actions for each in action.option_strings)))
"""


@dataclass(frozen=True)
class Both:
    real: Server
    standin: Server


@pytest.fixture(scope="module")
def both(
    vllm: ModelServer,
    standin: ModelServer,
    deployed_arguments: dict[str, list[str]],
    pod_addresses: PodAddresses,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Both]:
    """As the GPU container has them, with an API key."""
    networks, servers = [], []
    try:
        for model_server in (vllm, standin):
            network = PodNetwork(pod_addresses)
            networks.append(network)
            arguments = [*deployed_arguments["vllm-gpu"], f"--api-key={KEY}"]
            folder = tmp_path_factory.mktemp(model_server.name)
            servers.append(Server(model_server, "gpu", arguments, folder=folder, loopback=network.loopback))
        real, other = (server.wait_until_healthy() for server in servers)
        yield Both(real, other)
    finally:
        for server in servers:
            server.end()
        for network in networks:
            network.release()


@pytest.mark.parametrize("name", ALL)
def test_answers_have_the_same_shape(both: Both, name: str) -> None:
    real, standin = shape_of(ALL[name](both.real)), shape_of(ALL[name](both.standin))
    assert real["status"] == (200 if name in SUCCESSES else real["status"])
    assert differences(real, standin) == sorted(known.ANSWERS.get(name, {}))


def test_listed_answers_are_those_of_exchanges() -> None:
    assert set(known.ANSWERS) <= set(ALL)


def test_routes_are_the_same(both: Both) -> None:
    real, standin = _routes(both.real), _routes(both.standin)
    assert standin <= real
    assert real - standin == set(known.ROUTES)


def test_metrics_are_the_same(both: Both) -> None:
    real, standin = (metrics(server.get("/metrics", headers=AUTHORISED).text) for server in (both.real, both.standin))
    assert {name: kind for name, kind in standin.items() if real.get(name) != kind} == {}
    assert set(real) - set(standin) == set(known.METRICS)


def test_labels_of_shared_metrics_are_the_same(both: Both) -> None:
    real, standin = (_labels(server.get("/metrics", headers=AUTHORISED).text) for server in (both.real, both.standin))
    assert {name: labels for name, labels in standin.items() if labels != real.get(name)} == {}


def test_flags_are_the_same(vllm: ModelServer, standin: ModelServer) -> None:
    real, other = set(run_python(vllm, _PRINT_FLAGS)), set(run_python(standin, _PRINT_STAND_IN_FLAGS))
    assert real - other == set(known.FLAGS_OF_VLLM_ALONE)
    assert other <= real


def test_unknown_flag_is_refused_as_vllm_refuses_it(
    standin: ModelServer, loopback: str, tmp_path: Path, deployed_arguments: dict[str, list[str]]
) -> None:
    """The real one's refusal is checked with the real server."""
    arguments = [*deployed_arguments["vllm-gpu"], "--no-such-flag"]
    server = Server(standin, "gpu", arguments, folder=tmp_path, loopback=loopback)
    try:
        assert server.wait() == 2
        assert "--no-such-flag" in server.last_words()
    finally:
        server.end()


def test_both_end_on_sigterm_with_the_same_status(both: Both) -> None:
    """The last test of the module: it ends both."""
    assert both.real.terminate()[0] == both.standin.terminate()[0] == 0


def _routes(server: Server) -> set[str]:
    """`METHOD PATH`, as the server logs them when it starts."""
    return {f"{method.strip()} {path}" for path, methods in _ROUTE.findall(server.log.read_text()) for method in methods.split(",")}


def _labels(text: str) -> dict[str, frozenset[str]]:
    """Name of a sample of vLLM's -> its labels."""
    return {name: frozenset(re.findall(r'(\w+)="', labels)) for name, labels in re.findall(r"^(vllm:\w+)\{([^}]*)\}", text, re.MULTILINE)}
