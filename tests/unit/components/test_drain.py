"""What the end of a pod is configured to be; what the hook does is proven in tests/images/test_drain.py."""

from __future__ import annotations

from typing import Any

import pytest

from components.catalog import shutdown
from components.serving import drain


@pytest.mark.parametrize("grace_seconds", [None, 120, shutdown.MAX_GRACE_SECONDS])
@pytest.mark.parametrize("server_drains", [True, False])
@pytest.mark.parametrize("local_traffic", [True, False])
def test_hook_and_server_together_end_within_the_grace_period(grace_seconds: int | None, server_drains: bool, local_traffic: bool) -> None:
    grace_seconds = grace_seconds or shutdown.least_grace_seconds(local_traffic=local_traffic)
    wait = shutdown.settle_seconds(local_traffic=local_traffic)
    ending: Any = {"grace_seconds": grace_seconds, "settle_seconds": wait}
    command = drain.lifecycle(**ending)["pre_stop"]["exec_"]["command"]
    middleware, *timeout = drain.server_arguments(**ending, server_drains=server_drains)
    settle, limit = (int(each) for each in command[1:])
    assert 0 < settle < limit < grace_seconds
    assert middleware == "--middleware=fungibility_drain.CloseWhileDraining"
    assert bool(timeout) == server_drains
    for argument in timeout:
        assert 0 < settle + int(argument.removeprefix("--shutdown-timeout=")) < grace_seconds


def test_requests_still_have_time_after_the_pod_has_left_the_load_balancer_of_a_spot_node() -> None:
    assert shutdown.SETTLE_SECONDS <= 15 / 3


@pytest.mark.parametrize(
    ("image", "known"),
    [
        ("docker.io/vllm/vllm-openai:v0.31.0", True),
        ("docker.io/vllm/vllm-openai:v0.18.0", True),
        ("docker.io/vllm/vllm-openai:v0.17.9", False),
        ("docker.io/vllm/vllm-openai:v0.9.2-cu128@sha256:" + "0" * 64, False),
        ("docker.io/vllm/vllm-openai:v1.0.0", True),
        ("docker.io/vllm/vllm-tpu:2e33fe419186c65a18da6668972d61d7bbc31564", None),
        ("us-docker.pkg.dev/p/r/i@sha256:" + "0" * 64, None),
        ("localhost:5000/vllm:nightly", None),
    ],
)
def test_a_release_tells_whether_its_server_drains(image: str, known: bool | None) -> None:
    assert shutdown.knows_shutdown_timeout(image) is known
