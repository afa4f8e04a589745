"""What the end of a pod is configured to be; what the hook does is proven in tests/images/test_drain.py."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from components.catalog import shutdown
from components.catalog.vllm_releases import Release, needs_driver_580, release_of
from components.serving import drain


@pytest.mark.parametrize("grace_seconds", [None, 120, shutdown.MAX_GRACE_SECONDS])
@pytest.mark.parametrize("server_drains", [True, False])
@pytest.mark.parametrize("slow", [True, False])
def test_hook_and_server_together_end_within_the_grace_period(grace_seconds: int | None, server_drains: bool, slow: bool) -> None:
    grace_seconds = grace_seconds or shutdown.least_grace_seconds(slow=slow)
    wait = shutdown.settle_seconds(slow=slow)
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


def test_an_idle_pod_of_a_spot_node_outlives_its_idle_connections_and_still_ends_by_itself() -> None:
    hook = (Path(__file__).parents[3] / "images/fungibility-drain").read_text()
    (keep_alive,) = re.findall(r"^readonly KEEP_ALIVE=(\d+)$", hook, re.MULTILINE)
    # uvicorn's timeout_keep_alive; the kubelet's least time after a hook.
    assert 5 < int(keep_alive) <= 15 - shutdown.SETTLE_SECONDS - 2


@pytest.mark.parametrize(
    ("image", "release", "driver_580"),
    [
        ("docker.io/vllm/vllm-openai:v0.31.0", (0, 31), True),
        ("docker.io/vllm/vllm-openai:v0.31.0-cu129", (0, 31), False),
        ("docker.io/vllm/vllm-openai:v0.20.0@sha256:" + "0" * 64, (0, 20), True),
        ("localhost:5000/vllm:v0.9.2-cu128@sha256:" + "0" * 64, (0, 9), False),
        ("docker.io/vllm/vllm-tpu:2e33fe419186c65a18da6668972d61d7bbc31564", (0, 6), False),
        ("us-docker.pkg.dev/p/r/i@sha256:" + "0" * 64, None, False),
        ("localhost:5000/vllm:nightly", None, False),
    ],
)
def test_an_image_s_tag_tells_its_release_and_its_driver(image: str, release: Release | None, driver_580: bool) -> None:
    assert release_of(image) == release
    assert needs_driver_580(image) is driver_580
