"""Whether pools are interchangeable, asked of pods behind an API server's proxy that answer alike, and of some that do not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from ops.findings import Finding
from ops.smoke.rungs import compared
from ops.smoke.serving_pools import UnknownPool, serving_pods
from tests.unit.misbehaving_server import MODEL, Reply, chat, later, says
from tests.unit.ops.test_smoke_serving_pools import PODS, api_server, of_stack, pod

_WELL: Mapping[str, Reply] = MappingProxyType({})


def models(name: str = MODEL, root: str = MODEL, length: int = 8192) -> Reply:
    return says({"data": [{"id": name, "root": root, "max_model_len": length}]})


def row(folder: Path, *, gpu: Mapping[str, Reply] = _WELL, tpu: Mapping[str, Reply] = _WELL) -> tuple[Finding, list[dict[str, Any]]]:
    """The row of a TPU's pod that answers well but for `tpu` and a GPU's but for `gpu`; and the requests for a completion."""
    with api_server(folder, pods=[pod("b", "node-2"), pod("a", "node-1"), pod("c", "node-1")]) as (server, kubeconfig):
        for name, changes in (("a", tpu), ("b", gpu)):
            replies = {"models": models(), "chat/completions": says(chat())} | {
                key.replace("_", "/"): each for key, each in changes.items()
            }
            server.replies |= {f"{PODS}/{name}:8000/proxy/v1/{path}": reply for path, reply in replies.items()}
        found = compared(of_stack(), serving_pods(of_stack(), kubeconfig), seconds=0.5)
        assert {headers["Authorization"] for path, headers, _ in server.seen if "/proxy/" in path} == {"Bearer a-token"}
        return found, [body for _, _, body in server.seen if body]


def test_pools_that_answer_alike_are_asked_the_same_long_request_once_each(tmp_path: Path) -> None:
    found, (first, second) = row(tmp_path)
    assert (found.status, found.value) == ("ok", "v6e-1, l4: the same served names, model, max_model_len, a request of 2048 words")
    assert first == second
    assert len(first["messages"][0]["content"].split()) == 2048


@pytest.mark.parametrize(
    ("gpu", "said"),
    [
        ({"models": models(length=4096)}, "max_model_len: 8192 on v6e-1, 4096 on l4"),
        ({"models": models(root="/weights/other")}, f"model: {MODEL} on v6e-1, /weights/other on l4"),
        ({"models": says({"data": [{"id": MODEL, "root": MODEL, "max_model_len": 8192}, {"id": "z"}]})}, ", z on l4"),
        ({"chat_completions": says({"error": "too long"}, 400)}, "a request of 2048 words: answered on v6e-1, HTTP 400 on l4"),
        ({"chat_completions": says({"error": "out of memory"}, 500)}, "a request of 2048 words: answered on v6e-1, HTTP 500 on l4"),
        ({"chat_completions": later(0.8, says(chat()))}, "a request of 2048 words: answered on v6e-1, timeout on l4"),
    ],
)  # fmt: skip
def test_each_difference_fails_with_the_pools_that_have_it(tmp_path: Path, gpu: dict[str, Reply], said: str) -> None:
    found, _ = row(tmp_path, gpu=gpu)
    assert found.status == "failed"
    assert said in found.value
    assert ";" not in found.value, "only what differs is named"
    assert "gpuServerArguments" in found.fix


def test_a_failed_request_fails_with_the_pod_what_it_said_and_where_to_look(tmp_path: Path) -> None:
    broken = {"chat_completions": says({"error": "out of memory"}, 500)}
    found, _ = row(tmp_path, gpu=broken)
    assert 'pod b: /chat/completions answers 500: {"error": "out of memory"}' in found.reason
    assert "kubectl logs" in found.fix
    both, _ = row(tmp_path, gpu=broken, tpu=broken)
    assert (both.status, both.value) == ("failed", "a request of 2048 words is not answered on v6e-1, l4")
    assert "pod a: " in both.reason
    assert "pod b: " in both.reason


def test_a_failed_request_is_not_hidden_by_a_pod_that_cannot_be_asked(tmp_path: Path) -> None:
    broken, locked = {"chat_completions": says({"error": "x"}, 500)}, {"models": says({"message": "forbidden"}, 403)}
    for found, pool in ((row(tmp_path, tpu=broken, gpu=locked)[0], "v6e-1"), (row(tmp_path, tpu=locked, gpu=broken)[0], "l4")):
        assert (found.status, found.value) == ("failed", f"a request of 2048 words is not answered on {pool}")


@pytest.mark.parametrize(
    ("gpu", "reason", "fix"),
    [
        ({"models": says({"error": "Unauthorized"}, 401)}, "pod b wants an API key", "port-forward pod/b"),
        ({"models": says({"message": "forbidden"}, 403)}, "API server's proxy: /models answers 403", "pods/proxy"),
        ({"models": says({"error": "gone"}, 503)}, "pod b cannot be asked", "kubectl logs"),
        ({"models": later(0.8, models())}, "has not begun to answer after 0.5 s", "kubectl logs"),
        ({"chat_completions": says({"message": "forbidden"}, 403)}, "API server's proxy: /chat/completions answers 403", "pods/proxy"),
    ],
)  # fmt: skip
def test_a_pod_that_cannot_be_asked_is_skipped_with_the_reason(tmp_path: Path, gpu: dict[str, Reply], reason: str, fix: str) -> None:
    found, _ = row(tmp_path, gpu=gpu)
    assert found.status == "skipped"
    assert reason in found.reason
    assert "a-token" not in found.reason
    assert fix in found.fix


def test_one_pool_none_and_no_cluster_are_skipped(tmp_path: Path) -> None:
    for pods, reason in (([pod("a", "node-1")], "pods serve on v6e-1 alone"), ([], "no pod is ready")):
        with api_server(tmp_path, pods=pods) as (_, kubeconfig):
            found = compared(of_stack(), serving_pods(of_stack(), kubeconfig), seconds=1)
        assert (found.status, found.reason) == ("skipped", f"nothing to compare: {reason}")
    assert compared(of_stack(), UnknownPool("no cluster access"), seconds=1).reason == "no cluster access"
