"""Real vLLM in each container of the Deployment: the image's entrypoint, the Deployment's arguments, a pod's address."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from components.catalog.vllm_options import NO_VALUE, SEVERAL_VALUES
from sandbox.host.addresses import PodAddresses
from sandbox.node_agent.network import PodNetwork
from sandbox.servers.model_server import ModelServer
from tests.vllm.servers import MODEL, Server, metrics, run_python

_PARSER = """
import json
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser
parser = make_arg_parser(FlexibleArgumentParser())
def options(*nargs):
    return {each for action in parser._actions if action.nargs in nargs for each in action.option_strings}
"""

_PRINT_OPTIONS_OF_SEVERAL_VALUES = f"""{_PARSER}
print(json.dumps(sorted(options("+", "*"))))
"""

_PRINT_OPTIONS_WITHOUT_VALUE = f"""{_PARSER}
print(json.dumps(sorted(each for each in options(0) if not each.startswith("--no-") or "--" + each[5:] not in options(0))))
"""

#: What autoscaling and dashboards read.
METRICS = {
    "vllm:num_requests_waiting": "gauge",
    "vllm:num_requests_running": "gauge",
    "vllm:kv_cache_usage_perc": "gauge",
    "vllm:time_to_first_token_seconds": "histogram",
    "vllm:inter_token_latency_seconds": "histogram",
    "vllm:e2e_request_latency_seconds": "histogram",
    "vllm:generation_tokens_total": "counter",
    "vllm:prompt_tokens_total": "counter",
    "vllm:num_preemptions_total": "counter",
}

_CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "Why is the sky blue?"}], "max_tokens": 8}

_GiB = 2**30


@pytest.fixture(scope="module", params=["vllm-gpu", "vllm-tpu"])
def container(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def address(pod_addresses: PodAddresses) -> Iterator[str]:
    network = PodNetwork(pod_addresses)
    yield network.loopback
    network.release()


@pytest.fixture(scope="module")
def server(
    container: str, deployed_arguments: dict[str, list[str]], vllm: ModelServer, address: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp(container)
    server = Server(vllm, container.removeprefix("vllm-"), deployed_arguments[container], folder=folder, loopback=address)
    try:
        yield server.wait_until_healthy()
    finally:
        server.end()


def test_process_is_vllm_serve_with_the_deployment_s_arguments(
    server: Server, container: str, deployed_arguments: dict[str, list[str]]
) -> None:
    _, program, *given = server.command_line
    assert os.path.basename(program) == "vllm"
    assert given == ["serve", MODEL, *(each for each in deployed_arguments[container] if each != f"--model={MODEL}")]


def test_options_that_take_several_values_are_those_of_its_parser(vllm: ModelServer) -> None:
    found = run_python(vllm, _PRINT_OPTIONS_OF_SEVERAL_VALUES)
    assert set(found) == SEVERAL_VALUES, f"components/catalog/vllm_options.py is out of date; vLLM has: {' '.join(found)}"


def test_options_that_take_no_value_are_those_of_its_parser(vllm: ModelServer) -> None:
    found = run_python(vllm, _PRINT_OPTIONS_WITHOUT_VALUE)
    assert set(found) == NO_VALUE, f"components/catalog/vllm_options.py is out of date; vLLM has: {' '.join(found)}"


def test_it_is_vllm_itself(server: Server) -> None:
    assert server.get("/version").json()["version"].startswith("0.32.0")
    assert not [name for name in server.get("/metrics").headers if name.lower().startswith("x-sandbox")]


def test_listens_only_on_its_pod_s_address(server: Server, address: str) -> None:
    assert address in server.listening_addresses()
    assert "0.0.0.0" not in server.listening_addresses()


def test_every_rung_s_model_has_the_name_and_the_context_that_the_settings_give(server: Server) -> None:
    (model,) = server.get("/v1/models").json()["data"]
    assert (model["id"], model["max_model_len"]) == (MODEL, 8192)


def test_chat_is_answered(server: Server) -> None:
    answer = server.post("/v1/chat/completions", {**_CHAT, "ignore_eos": True}).json()
    assert answer["usage"]["completion_tokens"] == 8
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["choices"][0]["message"]["role"] == "assistant"


def test_chat_without_a_limit_ends_by_itself(server: Server) -> None:
    body = {key: value for key, value in _CHAT.items() if key != "max_tokens"}
    assert server.post("/v1/chat/completions", body).json()["usage"]["completion_tokens"] <= 64


def test_streamed_chat_is_the_plain_one_in_pieces(server: Server) -> None:
    body = {**_CHAT, "temperature": 0, "ignore_eos": True}
    whole = server.post("/v1/chat/completions", body).json()["choices"][0]["message"]["content"]
    lines = [line for line in server.post("/v1/chat/completions", {**body, "stream": True}).text.split("\n\n") if line]
    assert lines[-1] == "data: [DONE]"
    events = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
    assert "".join(event["choices"][0]["delta"].get("content") or "" for event in events) == whole


def test_metrics_have_the_names_that_autoscaling_and_dashboards_use(server: Server) -> None:
    server.post("/v1/chat/completions", _CHAT)
    text = server.get("/metrics").text
    families = metrics(text)
    assert {name: families.get(name) for name in METRICS} == METRICS
    assert f'vllm:num_requests_running{{engine="0",model_name="{MODEL}"}} 0.0' in text


def test_memory_matches_the_documentation(server: Server, record_property: Callable[[str, object], None]) -> None:
    used = server.memory_bytes()
    record_property("memory_gib", round(used / _GiB, 2))
    record_property("start_seconds", round(server.start_seconds, 1))
    print(f"{used / _GiB:.2f} GiB, healthy after {server.start_seconds:.0f} s")
    assert used < 4 * _GiB


def test_sigterm_ends_it_and_leaves_nothing(server: Server) -> None:
    code, seconds = server.terminate()
    assert code == 0, server.last_words()
    assert seconds < 30
    assert server.processes_left(within=10) == []


def test_unknown_flag_ends_it_with_status_2(
    vllm: ModelServer, loopback: str, tmp_path: Path, deployed_arguments: dict[str, list[str]]
) -> None:
    arguments = [*deployed_arguments["vllm-gpu"], "--no-such-flag"]
    server = Server(vllm, "gpu", arguments, folder=tmp_path, loopback=loopback)
    try:
        assert server.wait() == 2
        assert "--no-such-flag" in server.last_words()
    finally:
        server.end()
