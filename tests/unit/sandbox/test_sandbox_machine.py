"""What the sandbox says and does when its own machine fails: files cut short, ports taken, disks full, two commands at once, Ctrl-C."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sandbox import __main__ as command
from sandbox.cli import lifecycle
from sandbox.cli.arguments import no_arguments
from sandbox.cli.commands import up
from sandbox.cli.lifecycle import Crashed
from sandbox.control_plane.control_plane import ControlPlane, ControlPlaneError
from sandbox.google.access_tokens import AccessTokens
from sandbox.google.faults import FaultStore
from sandbox.google.latencies import Clock
from sandbox.google.records import Records
from sandbox.host import command_lock, disk_space, ports, supervised
from sandbox.host.paths import Paths
from sandbox.host.processes import Spawner, process_start, processes_with
from sandbox.host.state_files import StateError, read_object, write_object, write_text
from sandbox.providers.unfinished import Unfinished

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that this process listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def record(**changes: object) -> dict[str, object]:
    """The record of a daemon that lives as long as this process."""
    known = {"pid": os.getpid(), "started": process_start(os.getpid()), "debug_providers": "gcp:1", "speed": 1.0, "server": "stand-in"}
    return {**known, **changes}


# --- files


@pytest.mark.parametrize("text", ["", '{"pid": 12', "[]", "\x80"])
def test_file_that_was_cut_short_is_named_with_the_way_out(tmp_path: Path, text: str) -> None:
    path = tmp_path / "pools.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(StateError, match=r"pools.json cannot be used .*`python -m sandbox down` clears the state away"):
        read_object(path)


def test_records_that_were_cut_short_are_reported_before_an_update_needs_them(tmp_path: Path) -> None:
    (tmp_path / "cloud.json").write_text('{"Account": {')
    with pytest.raises(StateError, match="cloud.json cannot be used"):
        Records(tmp_path / "cloud.json").check()


def test_file_stays_as_it_was_on_a_full_disk(tmp_path: Path) -> None:
    path = tmp_path / "trust.pem"
    write_text(path, "whole")
    # Every write to it fails as on a full disk.
    (tmp_path / "trust.pem.new").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device"):
        write_text(path, "half")
    assert path.read_text() == "whole"


def test_private_file_is_private_from_its_beginning_and_another_goes_by_the_umask(tmp_path: Path) -> None:
    write_text(tmp_path / "private", "", mode=0o600)
    write_text(tmp_path / "public", "")
    (tmp_path / "usual").write_text("")
    modes = [(tmp_path / name).stat().st_mode & 0o777 for name in ("private", "public", "usual")]
    assert modes == [0o600, modes[2], modes[2]]


@pytest.mark.parametrize("known", [{"pid": 1, "port": 2}, {}])
def test_record_of_another_version_does_not_end_in_a_traceback(paths: Paths, known: dict[str, object]) -> None:
    paths.daemon_record.write_text(json.dumps(known))
    with pytest.raises(StateError, match=r"daemon.json cannot be used .* another version's"):
        lifecycle.running(paths)


def test_daemon_that_stops_by_itself_says_why(paths: Paths) -> None:
    write_object(paths.daemon_record, record(pid=2**22 + 1, ending="etcd ended with status -9; its log: etcd.log"))
    with pytest.raises(Crashed, match="it stopped, since etcd ended with status -9; its log: etcd.log"):
        lifecycle.running(paths)


def test_failure_that_another_reports_is_explained_by_a_daemon_that_is_gone(paths: Paths) -> None:
    write_object(paths.daemon_record, record(started="0"))
    assert f"daemon (pid {os.getpid()}) is gone" in lifecycle.explain_failure(paths)


def test_creation_that_a_killed_daemon_was_at_is_taken_back_by_the_next(tmp_path: Path) -> None:
    records, unfinished = Records(tmp_path / "cloud.json"), Unfinished(tmp_path / "unfinished.json")
    records.create("Account", "a", {"x": 1}, owner="urn:made")
    with unfinished.creating("urn:cut", {}):
        records.create("Account", "b", {}, owner="urn:cut")
        # What the next daemon finds after a SIGKILL here.
        left = (tmp_path / "unfinished.json").read_text()
    (tmp_path / "unfinished.json").write_text(left)
    Unfinished(tmp_path / "unfinished.json").take_back(records, tmp_path / "kubeconfig")
    assert records.get("Account", "a") == {"x": 1}
    assert records.get("Account", "b") is None
    assert not (tmp_path / "unfinished.json").exists()


def test_creation_that_ended_leaves_nothing_to_take_back(tmp_path: Path) -> None:
    unfinished = Unfinished(tmp_path / "unfinished.json")
    with pytest.raises(RuntimeError), unfinished.creating("urn", {"kind": "Secret", "metadata": {"name": "n"}}):
        raise RuntimeError
    assert read_object(tmp_path / "unfinished.json") == {}


# --- ports


def test_a_taken_port_is_reported_with_its_owner(taken: int) -> None:
    assert not ports.is_free(taken)
    assert ports.listener(taken) == (os.getpid(), Path("/proc/self/comm").read_text().strip())
    assert f"(pid {os.getpid()})" in ports.taken_by(taken)


def _control_plane(folder: Path) -> ControlPlane:
    tools = folder / "tools"
    return ControlPlane(
        state_dir=folder / "cluster",
        tools=tools,
        token="t",
        environment={},
        spawner=Spawner(),
        clock=Clock(1.0),
        access_tokens=AccessTokens(folder),
        faults=FaultStore(folder),
    )


def test_cluster_that_has_been_up_reports_who_has_its_port(tmp_path: Path, taken: int) -> None:
    (tmp_path / "cluster").mkdir()
    write_object(tmp_path / "cluster" / "ports.json", {"api_server": taken, "etcd": 1, "etcd_peer": 2, "front": 3})
    with pytest.raises(ControlPlaneError, match=rf"port {taken} \(api server\) is taken by .*end that program"):
        _control_plane(tmp_path).start()


def test_new_cluster_takes_other_ports_when_its_own_are_lost(tmp_path: Path, taken: int) -> None:
    cluster = _control_plane(tmp_path)
    write_object(tmp_path / "cluster" / "ports.json", {"api_server": taken, "etcd": 1, "etcd_peer": 2, "front": 3})
    cluster.ports = type(cluster.ports)(api_server=taken, etcd=1, etcd_peer=2, front=3)
    with pytest.raises(FileNotFoundError):
        # It gets as far as starting etcd, which is not there.
        cluster.start()
    assert taken not in read_object(tmp_path / "cluster" / "ports.json").values()


# --- disks


def test_too_little_disk_space_is_reported_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(disk_space.NoRoom, match=r"the state needs 10+ MB, and the file system of .*new has \d+ MB left"):
        disk_space.require(tmp_path / "new", 10**9, "the state")
    assert not (tmp_path / "new").exists()


def test_full_disk_is_named_after_a_failure(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    assert disk_space.full(paths) == ""
    monkeypatch.setattr(lifecycle, "_NOTICE_SECONDS", 0.0)
    monkeypatch.setattr(disk_space, "free_mb", lambda path: 3)
    assert f"The file system of {paths.state} is full (3 MB left)" in lifecycle.explain_failure(paths)


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (OSError(28, "No space left on device", "/state/daemon.json"), "No space left on device: /state/daemon.json"),
        (KeyboardInterrupt(), "interrupted. What was made so far stays"),
        (StateError("pools.json cannot be used"), "pools.json cannot be used"),
    ],
)
def test_every_failed_command_ends_with_a_message_and_no_traceback(
    error: BaseException, word: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], paths: Paths
) -> None:
    def fail(*_: object) -> int:
        raise error

    monkeypatch.setitem(up.COMMANDS, "up", (no_arguments, fail))
    monkeypatch.setattr(lifecycle, "explain_failure", lambda paths: "")
    assert command.main(["up"]) != 0
    assert word in capsys.readouterr().err


# --- commands that meet


def test_second_up_of_one_state_folder_names_the_first(paths: Paths) -> None:
    with lifecycle.exclusive(paths):
        script = (
            "from sandbox.cli import lifecycle; from sandbox.host.paths import Paths\n"
            "with lifecycle.exclusive(Paths.from_environment()): pass"
        )
        second = subprocess.run(
            [sys.executable, "-c", script], env={**os.environ, "SANDBOX_STATE": str(paths.state)}, cwd=ROOT, capture_output=True, text=True
        )
        assert command_lock.holder(paths) == os.getpid()
    assert f"another `python -m sandbox up` (pid {os.getpid()}) is under way on {paths.state}" in second.stderr
    assert command_lock.holder(paths) is None
    with lifecycle.exclusive(paths):
        pass


def test_down_ends_an_up_that_is_under_way(paths: Paths) -> None:
    script = (
        "import time; from sandbox.cli import lifecycle; from sandbox.host.paths import Paths\n"
        "with lifecycle.exclusive(Paths.from_environment()): print('held', flush=True); time.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], env={**os.environ, "SANDBOX_STATE": str(paths.state)}, cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as up:
        assert up.stdout is not None
        up.stdout.readline()
        told: list[str] = []
        lifecycle.stop(paths, told.append)
        assert up.wait() == -signal.SIGTERM
    assert f"(pid {up.pid})" in told[0]
    assert not paths.state.exists()


# --- a long command under watch


def _supervised(script: str, trouble: Callable[[], str | None] = lambda: None) -> tuple[list[str], int]:
    told: list[str] = []
    status = supervised.run(["/bin/sh", "-c", script], cwd=ROOT, environment=dict(os.environ), trouble=trouble, say=told.append)
    return told, status


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Also has an interruption heard by what a test starts, which would inherit that a shell's background job ignores it."""
    monkeypatch.setattr(supervised, "_LOOK_SECONDS", 0.05)
    monkeypatch.setattr(supervised, "_PATIENCE_SECONDS", 0.5)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_command_without_prospect_is_asked_to_end_and_then_made_to(tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    script = f"trap 'touch {asked}' INT; while :; do sleep 0.05; done"
    with pytest.raises(supervised.Troubled, match="the daemon is gone"):
        _supervised(script, lambda: "the daemon is gone")
    assert asked.exists()


def test_one_interruption_lets_the_command_end_in_order_and_leaves_no_process(tmp_path: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path; from sandbox.host import supervised\n"
        f"supervised.run(['/bin/sh', '-c', 'trap \"touch {tmp_path}/ended; exit 0\" INT; setsid sleep 600 & touch {tmp_path}/ready; "
        "while :; do sleep 0.05; done'], cwd=Path('/'), environment=dict(os.environ), trouble=lambda: None, "
        "say=lambda text: print(text, flush=True))"
    )
    environment = {**os.environ, "TEST_RUN": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", script], env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True) as up:
        while not (tmp_path / "ready").exists():
            time.sleep(0.01)
        up.send_signal(signal.SIGINT)
        output, _ = up.communicate(timeout=60)
    assert "Ctrl-C again ends it at once" in output
    assert (tmp_path / "ended").exists()
    assert processes_with("TEST_RUN", str(tmp_path)) == []
