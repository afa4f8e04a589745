"""The stand-in for vLLM, as a process that is spoken to over HTTP."""

from __future__ import annotations

import importlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.unit.sandbox.helpers import eventually

_PROJECT = Path(__file__).resolve().parents[3]
STANDIN = _PROJECT / "sandbox" / "servers" / "standin"
IMAGES = _PROJECT / "images"
MODEL = "Qwen/Qwen2-1.5B"

_SECONDS = 20.0


def environment(**variables: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(STANDIN),
        "ACCELERATOR": "tpu",
        "SANDBOX_SPEED": "100000",
        "STANDIN_TPU_STARTUP_SECONDS": "337",
        "STANDIN_GPU_STARTUP_SECONDS": "90",
        "SANDBOX_POD_NAME": "vllm-5d8f-x2x",
        "SANDBOX_NODE_NAME": "gke-v6e-1-abcd",
        "SANDBOX_NODE_POOL": "v6e-1",
        "SANDBOX_MACHINE_TYPE": "ct6e-standard-1t",
        "STANDIN_TOKEN_SECONDS": "0.001",
        **variables,
    }


class Server:
    """One stand-in process on a free port."""

    def __init__(self, *arguments: str, **variables: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "vllm.entrypoints.openai.api_server"),
                *("--host=127.0.0.1", f"--port={self.port}", f"--model={MODEL}", *arguments),
            ],
            env=environment(**variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def wait_until_ready(self) -> Server:
        eventually(lambda: self.healthy() or self.process.poll() is not None)
        assert self.process.poll() is None
        return self

    def healthy(self) -> bool:
        try:
            return self.get("/health").ok
        except requests.ConnectionError:
            return False

    def get(self, path: str, **options: Any) -> requests.Response:
        return requests.get(self.url + path, timeout=_SECONDS, **options)

    def post(self, path: str, body: object, **options: Any) -> requests.Response:
        return requests.post(self.url + path, json=body, timeout=_SECONDS, **options)

    def chat(self, text: str = "Hello", **fields: Any) -> requests.Response:
        stream = bool(fields.get("stream"))
        body = {"model": MODEL, "messages": [{"role": "user", "content": text}], **fields}
        return self.post("/v1/chat/completions", body, stream=stream)

    def metric(self, name: str, **labels: str) -> float:
        """The sum over the series of this name with these labels."""
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        lines = [line for line in self.get("/metrics").text.splitlines() if line.startswith(name + "{")]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if all(each in line for each in wanted))

    def in_background(self, **fields: Any) -> tuple[threading.Thread, list[requests.Response]]:
        answers: list[requests.Response] = []
        thread = threading.Thread(target=lambda: answers.append(self.chat(**fields)))
        thread.start()
        return thread, answers

    def end(self) -> str:
        """Kills it if it still runs; returns its log."""
        if self.process.poll() is None:
            self.process.kill()
        return self.process.communicate(timeout=_SECONDS)[0]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server("--max-model-len=8192", "--served-model-name", MODEL, "alias")
    yield server.wait_until_ready()
    server.end()


@pytest.fixture(scope="module")
def slow() -> Iterator[Server]:
    """10 ms a token, two sequences at once."""
    server = Server(STANDIN_MAX_NUM_SEQS="2", STANDIN_TOKEN_SECONDS="0.01")
    yield server.wait_until_ready()
    server.end()


@pytest.fixture
def start() -> Iterator[Callable[..., Server]]:
    started: list[Server] = []

    def run(*arguments: str, **variables: str) -> Server:
        started.append(Server(*arguments, **variables))
        return started[-1]

    yield run
    for each in started:
        each.end()


def events(response: requests.Response) -> list[Any]:
    """The data of server-sent events; the end mark as it is."""
    data = [line.removeprefix("data: ") for line in response.iter_lines(decode_unicode=True) if line]
    return [each if each == "[DONE]" else json.loads(each) for each in data]


# --- the command line


@pytest.fixture(scope="module")
def modules() -> Iterator[Any]:
    """The stand-in's package, which is found only by those who look for it."""
    sys.path.insert(0, str(STANDIN))
    yield lambda name: importlib.import_module(f"vllm.standin.{name}")
    sys.path.remove(str(STANDIN))


@pytest.fixture
def parse(modules: Any) -> Callable[..., dict[str, Any]]:
    return lambda *arguments: vars(modules("flags").parser().parse_args(list(arguments)))


@pytest.mark.parametrize(
    ("arguments", "name", "value"),
    [
        (("--max_model_len", "8K"), "max_model_len", 8192),
        (("-tp", "2"), "tensor_parallel_size", 2),
        (("--no-enable-prefix-caching",), "enable_prefix_caching", False),
        (("--served-model-name", "a", "b"), "served_model_name", ["a", "b"]),
        (("--compilation-config.level", "3"), "compilation_config", {"level": "3"}),
        (('--kv-transfer-config={"kv_role": "kv_both"}',), "kv_transfer_config", {"kv_role": "kv_both"}),
    ],
)
def test_vllms_spellings_are_understood(parse: Callable[..., dict[str, Any]], arguments: tuple[str, ...], name: str, value: object) -> None:
    assert parse(*arguments)[name] == value


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--max-model-length=8192x",), "unrecognized arguments: --max-model-length=8192x"),
        (("--dtype=bf16",), "argument --dtype: invalid choice: 'bf16'"),
    ],
)
def test_what_vllm_does_not_know_is_refused(
    parse: Callable[..., dict[str, Any]], capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: str
) -> None:
    with pytest.raises(SystemExit) as end:
        parse(*arguments)
    assert end.value.code == 2
    assert words in capsys.readouterr().err


# --- start and end


def test_it_listens_only_when_the_start_up_is_over_and_says_what_it_is(start: Callable[..., Server]) -> None:
    # 337 s of a TPU in about 0.7 s, of which the process counts those before this one goes on.
    begun = time.monotonic()
    server = start("--api-key", "s3cret", SANDBOX_SPEED="500").wait_until_ready()
    assert time.monotonic() - begun > 0.6
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(_SECONDS) == 0
    log = server.end()
    assert re.search(r"INFO .* vLLM API server version \S+ \(sandbox stand-in\)", log)
    assert "Available routes are:" in log
    assert "Route: /v1/chat/completions, Methods: POST" in log
    assert "Application startup complete." in log
    assert f"Starting vLLM server on http://127.0.0.1:{server.port}" in log
    assert "s3cret" not in log


def test_sigterm_during_the_start_up_ends_it_at_once(start: Callable[..., Server]) -> None:
    server = start(SANDBOX_SPEED="1")
    assert server.process.stdout is not None
    while "start-up time" not in server.process.stdout.readline():
        pass
    server.process.terminate()
    assert server.process.wait(_SECONDS) == -signal.SIGTERM


def test_after_sigterm_requests_under_way_finish_and_new_ones_get_500_on_connections_that_stay_open(start: Callable[..., Server]) -> None:
    server = start("--shutdown-timeout=30", STANDIN_TOKEN_SECONDS="0.01").wait_until_ready()
    thread, answers = server.in_background(max_tokens=200, ignore_eos=True)
    eventually(lambda: server.metric("vllm:num_requests_running"))
    with requests.Session() as pooled:
        assert pooled.post(f"{server.url}/v1/completions", json={"prompt": ".", "max_tokens": 1}, timeout=_SECONDS).status_code == 200
        server.process.terminate()
        time.sleep(0.3)
        refused = pooled.post(f"{server.url}/v1/completions", json={"prompt": ".", "max_tokens": 1}, timeout=_SECONDS)
        assert refused.status_code == refused.json()["error"]["code"] == 500
        assert "connection" not in refused.headers
        assert server.healthy()
    thread.join()
    assert answers[0].json()["usage"]["completion_tokens"] == 200
    assert server.process.wait(_SECONDS) == 0


# --- generation


def test_a_chat_says_that_a_stand_in_answers_and_where(server: Server) -> None:
    response = server.chat("What is a TPU?")
    answer = response.json()
    text = answer["choices"][0]["message"]["content"]
    for word in ("stand-in", "What is a TPU?", "vllm-5d8f-x2x", "gke-v6e-1-abcd", "v6e-1", "ct6e-standard-1t"):
        assert word in text
    assert answer["object"] == "chat.completion"
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["model"] == MODEL
    assert "vllm-5d8f-x2x" in answer["system_fingerprint"]
    assert response.headers["x-sandbox-pod"] == "vllm-5d8f-x2x"
    assert response.headers["x-sandbox-node"] == "gke-v6e-1-abcd"
    assert response.headers["x-sandbox-pool"] == "v6e-1"
    usage = answer["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_a_stream_makes_the_same_text_and_ends_with_the_usage_if_asked(server: Server) -> None:
    whole = server.chat().json()
    response = server.chat(stream=True, stream_options={"include_usage": True})
    assert response.headers["content-type"].startswith("text/event-stream")
    *chunks, last, end = events(response)
    assert end == "[DONE]"
    assert last["choices"] == []
    # The details are the whole answer's alone, as with vLLM.
    assert last["usage"].items() < whole["usage"].items()
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    text = "".join(each["choices"][0]["delta"]["content"] for each in chunks)
    assert text == whole["choices"][0]["message"]["content"]
    assert len({each["id"] for each in chunks}) == 1
    assert len(chunks) > 10, "token by token"


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_the_limit_of_tokens_cuts_the_answer(server: Server, name: str) -> None:
    limit: dict[str, Any] = {name: 5}
    answer = server.chat(**limit).json()
    assert answer["usage"]["completion_tokens"] == 5
    assert answer["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize(
    ("fields", "status", "words", "param"),
    [
        ({"model": "gpt-4"}, 404, "The model `gpt-4` does not exist.", "model"),
        ({"messages": None}, 400, "Field required", "body.messages"),
        ({"max_tokens": "many"}, 400, "valid integer", "body.max_tokens"),
        ({"max_tokens": 9000}, 400, "cannot be greater than max_model_len=8192", "max_tokens"),
        ({"stream_options": {"include_usage": True}}, 400, "only be defined when `stream=True`", "stream_options"),
        ({"messages": [{"role": "user", "content": "x" * 40_000}]}, 400, "maximum context length", "input_tokens"),
    ],
)
def test_bad_requests_are_refused_as_vllm_does(server: Server, fields: dict[str, Any], status: int, words: str, param: str | None) -> None:
    response = server.chat(**fields)
    error = response.json()["error"]
    assert response.status_code == error["code"] == status
    assert words in error["message"]
    assert error["param"] == param


# --- load


def test_requests_beyond_the_batch_wait_and_are_counted(slow: Server) -> None:
    server = slow
    queued_before = server.metric("vllm:request_queue_time_seconds_sum")
    running = [server.in_background(max_tokens=40, ignore_eos=True) for _ in range(5)]
    eventually(lambda: server.metric("vllm:num_requests_waiting") == 3)
    assert server.metric("vllm:num_requests_running", model_name=MODEL, engine="0") == 2
    assert 0 < server.metric("vllm:kv_cache_usage_perc") < 1
    for thread, answers in running:
        thread.join()
        assert answers[0].status_code == 200
    assert server.metric("vllm:num_requests_waiting") == server.metric("vllm:num_requests_running") == 0
    assert server.metric("vllm:request_queue_time_seconds_sum") - queued_before > 0.4


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_ends_its_generation(slow: Server, stream: bool) -> None:
    server = slow
    aborted_before = server.metric("vllm:request_success_total", finished_reason="abort")
    body = json.dumps({"prompt": "x", "max_tokens": 5000, "ignore_eos": True, "stream": stream}).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(head.encode() + body)
        eventually(lambda: server.metric("vllm:num_requests_running"))
    eventually(lambda: not server.metric("vllm:num_requests_running"))
    assert server.metric("vllm:request_success_total", finished_reason="abort") - aborted_before == 1


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_a_process_stays_small(server: Server) -> None:
    server.chat()
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None
    assert int(found[1]) < 40_000
