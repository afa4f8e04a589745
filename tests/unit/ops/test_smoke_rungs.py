"""Whether pools are interchangeable, asked of pods that answer alike, and of some that do not."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from ops.findings import Finding
from ops.smoke.rungs import compared
from ops.smoke.serving_pools import UnknownPool, serving_pods
from tests.unit.misbehaving_server import MODEL, Reply, chat, later, says, serving
from tests.unit.ops.test_smoke_serving_pools import api_server, kubectl_that_forwards, of_stack, pod

_WELL: Mapping[str, Reply] = MappingProxyType({})


def models(name: str = MODEL, root: str = MODEL, length: int = 8192) -> Reply:
    return says({"data": [{"id": name, "root": root, "max_model_len": length}]})


def row(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *, gpu: Mapping[str, Reply] | None = _WELL, tpu: Mapping[str, Reply] = _WELL
) -> tuple[Finding, list[dict[str, Any]]]:
    """The row of a TPU's pod that answers well but for `tpu` and a GPU's but for `gpu`, which is not reached if that is None; and the
    requests for a completion.
    """
    with ExitStack() as stack:
        changes = {"a": tpu} if gpu is None else {"a": tpu, "b": gpu}
        pods = {name: stack.enter_context(serving(**{"models": models(), **replies})) for name, replies in changes.items()}
        kubectl_that_forwards(folder, monkeypatch, {name: server.server_port for name, server in pods.items()})
        there = [pod("b", "node-2"), pod("a", "node-1"), pod("c", "node-1")]
        _, kubeconfig = stack.enter_context(api_server(folder, pods=there))
        found = compared(of_stack(), serving_pods(of_stack(), kubeconfig), seconds=0.5, key="a-key")
        seen = [request for server in pods.values() for request in server.seen]
    assert {headers["Authorization"] for _, headers, _ in seen} == {"Bearer a-key"}
    return found, [body for _, _, body in seen if body]


def test_pools_that_answer_alike_are_asked_the_same_long_request_once_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, (first, second) = row(tmp_path, monkeypatch)
    assert (found.status, found.value) == ("ok", "v6e-1, l4: the same served names, model, max_model_len, a request of 2048 words")
    assert first == second
    assert len(first["messages"][0]["content"].split()) == 2048


@pytest.mark.parametrize(
    ("gpu", "said"),
    [
        ({"models": models(length=4096)}, "max_model_len: 8192 on v6e-1, 4096 on l4"),
        ({"models": models(root="/weights/other")}, f"model: {MODEL} on v6e-1, /weights/other on l4"),
        ({"models": says({"data": [{"id": MODEL, "root": MODEL, "max_model_len": 8192}, {"id": "z"}]})}, ", z on l4"),
        ({"chat": says({"error": "too long"}, 400)}, "a request of 2048 words: answered on v6e-1, HTTP 400 on l4"),
        ({"chat": says({"error": "out of memory"}, 500)}, "a request of 2048 words: answered on v6e-1, HTTP 500 on l4"),
        ({"chat": later(0.8, says(chat()))}, "a request of 2048 words: answered on v6e-1, timeout on l4"),
    ],
)  # fmt: skip
def test_each_difference_fails_with_the_pools_that_have_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpu: dict[str, Reply], said: str
) -> None:
    found, _ = row(tmp_path, monkeypatch, gpu=gpu)
    assert found.status == "failed"
    assert said in found.value
    assert ";" not in found.value, "only what differs is named"
    assert "gpuServerArguments" in found.fix


def test_a_failed_request_fails_with_the_pod_what_it_said_and_where_to_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = {"chat": says({"error": "out of memory"}, 500)}
    found, _ = row(tmp_path, monkeypatch, gpu=broken)
    assert 'pod b: /chat/completions answers 500: {"error": "out of memory"}' in found.reason
    assert "kubectl logs" in found.fix
    both, _ = row(tmp_path, monkeypatch, gpu=broken, tpu=broken)
    assert (both.status, both.value) == ("failed", "not answered on v6e-1, l4")
    assert "pod a: " in both.reason
    assert "pod b: " in both.reason
    silent, _ = row(tmp_path, monkeypatch, gpu={"models": later(0.8, models())})
    assert (silent.status, silent.value) == ("failed", "not answered on l4")
    refused, _ = row(tmp_path, monkeypatch, gpu={"models": says({"error": "Unauthorized"}, 401)})
    assert "refuses the API key" in refused.reason
    # Not hidden by a pod that is not reached.
    alone, _ = row(tmp_path, monkeypatch, tpu=broken, gpu=None)
    assert (alone.status, alone.value) == ("failed", "not answered on v6e-1")


def test_a_pod_that_is_not_reached_is_skipped_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, _ = row(tmp_path, monkeypatch, gpu=None)
    assert (found.status, found.reason) == ("skipped", "pod b cannot be reached by `kubectl port-forward`: error: forbidden")
    assert "pods/portforward" in found.fix


def test_one_pool_none_and_no_cluster_are_skipped(tmp_path: Path) -> None:
    for pods, reason in (([pod("a", "node-1")], "pods serve on v6e-1 alone"), ([], "no pod is ready")):
        with api_server(tmp_path, pods=pods) as (_, kubeconfig):
            found = compared(of_stack(), serving_pods(of_stack(), kubeconfig), seconds=1)
        assert (found.status, found.reason) == ("skipped", f"nothing to compare: {reason}")
    assert compared(of_stack(), UnknownPool("no cluster access"), seconds=1).reason == "no cluster access"
