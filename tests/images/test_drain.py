"""The drain hook against roles that real entrypoints write, and servers with requests under way, idle, busy, silent or gone."""

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.images.image_fakes import DRAIN, EngineServer, metrics

#: For so long an idle server is waited for: longer than vLLM keeps an idle connection.
_KEEP_ALIVE = 6


@pytest.fixture
def server() -> Iterator[EngineServer]:
    with EngineServer() as found:
        yield found


@pytest.fixture
def drain(tmp_path: Path) -> Callable[..., tuple[int, float, str]]:
    """Runs the hook in a container whose entrypoint has written a role; gives exit code, seconds, and what it said."""

    def run(*arguments: str, role: str | None = "serving", port: int = 1) -> tuple[int, float, str]:
        if role is not None:
            (tmp_path / "role.gpu").write_text(f"role={role}\nport={port}\n")
        started = time.monotonic()
        done = subprocess.run(
            [DRAIN, *arguments],
            check=False,
            env={"PATH": os.environ["PATH"], "ACCELERATOR": "gpu", "FUNGIBILITY_RUN_DIR": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=30,
        )
        return done.returncode, time.monotonic() - started, done.stderr

    return run


@pytest.mark.parametrize("role", ["idle", "waiting", None])
def test_a_container_that_does_not_serve_has_nothing_to_wait_for(drain: Callable[..., tuple[int, float, str]], role: str | None) -> None:
    code, seconds, _ = drain("10", "20", role=role)
    assert code == 0
    assert seconds < 2


@pytest.mark.parametrize(
    ("arguments", "said", "least", "below"),
    [
        pytest.param(
            ("1", "20"), metrics(running=0, waiting=0), 1 + _KEEP_ALIVE, 4 + _KEEP_ALIVE, id="idle: its idle connections are closed"
        ),
        pytest.param(("1", "4"), metrics(running=0, waiting=0), 3, 1 + _KEEP_ALIVE, id="idle: the limit comes first"),
        pytest.param(("0", "2"), metrics(running=1, waiting=0), 1, 5, id="a long request: the limit comes first"),
        pytest.param(("0", "25"), "python_info 1.0", 0, 8, id="no such metrics"),
        pytest.param(("0", "25"), None, 0, 2, id="gone"),
    ],
)
def test_a_server_is_waited_for_until_its_connections_are_over_or_the_limit(
    drain: Callable[..., tuple[int, float, str]], server: EngineServer, arguments: tuple[str, str], said: str | None, least: int, below: int
) -> None:
    server.metrics = lambda: str(said)
    code, seconds, _ = drain(*arguments, port=1 if said is None else server.port)
    assert code == 0
    assert least <= seconds < below


@pytest.mark.parametrize("counts", [(2, 0), (0, 1)], ids=["running", "waiting"])
def test_requests_under_way_are_waited_for(
    drain: Callable[..., tuple[int, float, str]], server: EngineServer, counts: tuple[int, int]
) -> None:
    until = time.monotonic() + 3
    running, waiting = counts
    server.metrics = lambda: metrics(running=running, waiting=waiting) if time.monotonic() < until else metrics(running=0, waiting=0)
    code, seconds, _ = drain("0", "20", port=server.port)
    assert code == 0
    assert 3 + _KEEP_ALIVE <= seconds < 7 + _KEEP_ALIVE


def test_a_pause_between_two_requests_does_not_end_the_drain(drain: Callable[..., tuple[int, float, str]], server: EngineServer) -> None:
    server.metrics = lambda: metrics(running=len(server.asked) % 2, waiting=0)
    code, seconds, _ = drain("0", str(_KEEP_ALIVE + 3), port=server.port)
    assert code == 0
    # Whole seconds, the first of which may be shorter.
    assert seconds >= _KEEP_ALIVE + 2


def test_a_server_that_is_slow_to_answer_is_busy_and_is_waited_for(
    drain: Callable[..., tuple[int, float, str]], server: EngineServer
) -> None:
    def slow() -> str:
        time.sleep(3)
        return metrics(running=1, waiting=0)

    server.metrics = slow
    code, seconds, _ = drain("0", "14", port=server.port)
    assert code == 0
    # Five answers that did not come in time are over by then.
    assert 13 <= seconds < 18


def test_an_answer_that_does_not_come_in_time_ends_the_quiet(drain: Callable[..., tuple[int, float, str]], server: EngineServer) -> None:
    until = time.monotonic() + 4

    def slow_after_the_first() -> str:
        if len(server.asked) > 1 and time.monotonic() < until:
            time.sleep(3)
        return metrics(running=0, waiting=0)

    server.metrics = slow_after_the_first
    code, seconds, _ = drain("0", "20", port=server.port)
    assert code == 0
    assert seconds >= 3.5 + _KEEP_ALIVE


def test_the_server_is_notified_before_the_settle_time(drain: Callable[..., tuple[int, float, str]], tmp_path: Path) -> None:
    hook = threading.Thread(target=drain, args=("2", "2"))
    hook.start()
    time.sleep(1)
    assert (tmp_path / "draining.gpu").exists()
    hook.join()


def test_a_container_that_idles_tells_its_server_nothing(drain: Callable[..., tuple[int, float, str]], tmp_path: Path) -> None:
    drain("0", "0", role="idle")
    assert not (tmp_path / "draining.gpu").exists()


@pytest.mark.parametrize("arguments", [("5",), ("five", "9"), ("5", "-1"), ("1", "2", "3")])
def test_wrong_arguments_are_refused_with_what_is_wanted(drain: Callable[..., tuple[int, float, str]], arguments: tuple[str, ...]) -> None:
    code, _, said = drain(*arguments)
    assert code == 64
    assert "give seconds to wait" in said
