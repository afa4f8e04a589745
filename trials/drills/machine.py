"""Faults of the machine under a sandbox: each ends with a clear message and no orphan process, and the next `up` works.

A clear message says what happened, where more is written and what to do; it is not a traceback. Left out: a machine that is switched
off, which is a killed daemon and a killed engine at once, and what Pulumi makes of a killed engine (`kills`).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from components.settings.stack_files import PROJECT_NAME
from sandbox.cli.client import CommandFailed, Sandbox, fresh_sandbox
from sandbox.host import command_lock
from sandbox.host.addresses import LISTEN_ADDRESSES
from sandbox.host.paths import PROJECT_DIR
from sandbox.host.processes import command_line, processes_with
from trials.results import Options, Result

#: Fast enough for a drill, slow enough that an `up` has a middle.
_SPEED = {"SANDBOX_SPEED": "200"}

#: No command of the sandbox may take longer, whatever has happened.
_HANG_SECONDS = 300.0

#: How long what a dead process has started may outlive it.
_ORPHAN_SECONDS = 10.0

PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager")

#: One that everything needs, and one that only waits for pods do.
PROGRAMS_IN_UP = ("etcd", "kube-scheduler")


class Lost(Exception):
    """A fault did not end as it should; the message says how."""


@dataclass(frozen=True)
class Fault:
    event: str
    #: Returns the clear message, or how it recovered. Raises `Lost` and `CommandFailed`.
    happen: Callable[[Sandbox], str]
    #: Whether the sandbox is to be up before it.
    up: bool


class Skipped(Exception):
    """This machine does not allow it; the message says what it lacks."""


def run(options: Options) -> Iterator[Result]:
    with fresh_sandbox("drill-machine", _SPEED) as sandbox:
        for fault in options.sample(FAULTS):
            yield tried(sandbox, fault)


def tried(sandbox: Sandbox, fault: Fault) -> Result:
    try:
        if fault.up != _is_up(sandbox):
            sandbox.command("up" if fault.up else "down", timeout=_HANG_SECONDS)
        recovery, survived = fault.happen(sandbox), 1
    except Skipped as skipped:
        return Result(event=fault.event, tried=0, survived=0, recovery=f"skipped: {skipped}")
    except (Lost, CommandFailed, OSError) as error:
        recovery, survived = str(error)[-2000:], 0
    except subprocess.TimeoutExpired as error:
        recovery, survived = f"{error.cmd} was not over after {error.timeout:.0f} s", 0
    if not survived:
        # What `down` would take away, of the fault that was lost last.
        with contextlib.suppress(OSError):
            shutil.copy(sandbox.paths.daemon_log, sandbox.state.parent / f"{sandbox.state.name}-lost.log")
        # The next fault is not to suffer from this one.
        sandbox.command("down", check=False)
    return Result(event=fault.event, tried=1, survived=survived, recovery=recovery)


def _is_up(sandbox: Sandbox) -> bool:
    """A fault that was survived ends with an `up`."""
    return sandbox.command("status", check=False, timeout=_HANG_SECONDS).returncode == 0


# --- what all have in common


class _Up:
    """`python -m sandbox up` in the background, in a process group of its own as in a terminal."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._output = sandbox.state.parent / f"{sandbox.state.name}-up.log"
        with self._output.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "sandbox", "up"],
                cwd=PROJECT_DIR,
                env=sandbox.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                process_group=0,
                # A drill that runs in the background may have been started with it ignored, which children inherit.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Waits for the middle of it. Raises `Lost` when it is over before."""
        deadline = time.monotonic() + _HANG_SECONDS
        while not condition():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise Lost(f"`up` was over before {what}: {self.text()[-800:]}")
            time.sleep(0.001)

    def end(self) -> str:
        """All that it printed. Raises `Lost` when it hangs."""
        try:
            self.process.wait(_HANG_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise Lost(f"`up` was not over after {_HANG_SECONDS:.0f} s: {self.text()[-800:]}") from None
        return self.text()

    def message(self, *parts: str) -> str:
        """The clear message with which it failed."""
        return _message(self.end(), *parts, status=self.process.returncode)

    def text(self) -> str:
        return self._output.read_text(errors="replace")


def _up_with_a_cluster(sandbox: Sandbox) -> _Up:
    """An `up` whose cluster is there, and in which Pulumi makes what is in it."""
    up = _Up(sandbox)
    up.until(sandbox.paths.kubeconfig.exists, "the cluster was up")
    return up


def _message(text: str, *parts: str, status: int) -> str:
    """The line of a clear message that has all `parts`. Raises `Lost` for a traceback, for success, and where a part is missing."""
    wrong = [part for part in parts if part not in text]
    if status == 0 or "Traceback" in text or wrong or "sandbox: " not in text:
        raise Lost(f"exit status {status}, without {wrong or 'a clear message'}: {text[-1200:]}")
    # The line that says what happened; paths are of this machine, and long.
    lines = text[text.index("sandbox: ") :].splitlines()
    line = next((line for line in lines if parts and parts[0] in line), lines[0])
    # As do the date of a line of the daemon's log, and processes' numbers.
    line = re.sub(r"^\S+ \S+ ERROR \S+ ", "", line.removeprefix("sandbox: ").strip())
    said = re.sub(r" \(pid \d+\)", "", re.sub(r"/\S+/(?=[^/\s])", ".../", line))
    return said if len(said) < 240 else f"{said[:240]}..."


def _failing(sandbox: Sandbox, command: str, *parts: str) -> str:
    """The clear message with which a command of the sandbox fails."""
    result = sandbox.command(*command.split(), check=False, timeout=_HANG_SECONDS)
    return _message(result.stdout + result.stderr, *parts, status=result.returncode)


def _no_orphan(sandbox: Sandbox, but: Sequence[int] = ()) -> None:
    """Nothing of the sandbox runs any more, Pulumi and its language host included."""
    deadline = time.monotonic() + _ORPHAN_SECONDS
    while left := set(processes_with("SANDBOX_STATE", str(sandbox.state))) - {*but, os.getpid()}:
        if time.monotonic() > deadline:
            raise Lost(f"left over: {', '.join(map(_name_of, sorted(left)))}")
        time.sleep(0.1)


def _name_of(pid: int) -> str:
    return " ".join(command_line(pid))[:120] or str(pid)


def _works_again(sandbox: Sandbox, message: str) -> str:
    """The next `up`, which ends with an answered chat and a smoke test, works; returns the message."""
    sandbox.command("up", timeout=_HANG_SECONDS)
    return message


def _ended(sandbox: Sandbox, message: str) -> str:
    """Nothing is left over, and the next `up` works; returns the message."""
    _no_orphan(sandbox)
    return _works_again(sandbox, message)


def _kill_daemon(sandbox: Sandbox) -> None:
    os.kill(int(json.loads(sandbox.paths.daemon_record.read_text())["pid"]), signal.SIGKILL)


def _daemon_down(sandbox: Sandbox) -> None:
    _kill_daemon(sandbox)
    _no_orphan(sandbox)


def _kill_program(sandbox: Sandbox, name: str) -> None:
    found = [pid for pid in sandbox.processes() if any(argument.endswith(f"/{name}") for argument in command_line(pid)[:1])]
    if not found:
        raise Lost(f"no {name} runs")
    os.kill(found[0], signal.SIGKILL)


def _cluster_file(sandbox: Sandbox, name: str) -> Path:
    """Raises `Lost` without a cluster."""
    for folder in sandbox.state.glob("clusters/*"):
        return folder / name
    raise Lost("there is no cluster")


def _api_server_port(sandbox: Sandbox) -> int:
    return int(json.loads(_cluster_file(sandbox, "ports.json").read_text())["api_server"])


def _service_port(sandbox: Sandbox) -> int:
    return int(yaml.safe_load(sandbox.stack_config.read_text())["config"][f"{PROJECT_NAME}:servicePort"])


@contextlib.contextmanager
def _taken(port: int, host: str = "127.0.0.1") -> Iterator[None]:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        deadline = time.monotonic() + _ORPHAN_SECONDS
        while True:
            try:
                listener.bind((host, port))
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        listener.listen()
        yield


# --- the daemon and its programs


def _daemon_killed_at_rest(sandbox: Sandbox) -> str:
    _daemon_down(sandbox)
    return _works_again(sandbox, _failing(sandbox, "status", "is gone", "daemon.log", "python -m sandbox up"))


def _program_killed_at_rest(name: str) -> Callable[[Sandbox], str]:
    def happen(sandbox: Sandbox) -> str:
        _kill_program(sandbox, name)
        # At once: the daemon looks after its programs every second.
        _failing(sandbox, "scale 2")
        return _ended(sandbox, _failing(sandbox, "status", f"{name} ended with status -9", f"logs/{name}.log", "python -m sandbox up"))

    return happen


def _daemon_killed_in_up(sandbox: Sandbox) -> str:
    up = _up_with_a_cluster(sandbox)
    time.sleep(1.5)
    _kill_daemon(sandbox)
    return _ended(sandbox, up.message("the sandbox's daemon", "is gone", "python -m sandbox up"))


def _daemon_killed_in_cluster_creation(sandbox: Sandbox) -> str:
    up = _Up(sandbox)
    up.until(lambda: list(sandbox.state.glob("clusters/*")), "the cluster was begun")
    _kill_daemon(sandbox)
    return _ended(sandbox, up.message("the sandbox's daemon", "is gone", "python -m sandbox up"))


def _program_killed_in_up(name: str) -> Callable[[Sandbox], str]:
    def happen(sandbox: Sandbox) -> str:
        up = _up_with_a_cluster(sandbox)
        _kill_program(sandbox, name)
        return _ended(sandbox, up.message(f"{name} ended with status -9", "python -m sandbox up"))

    return happen


def _daemon_killed_in_destroy(sandbox: Sandbox) -> str:
    with subprocess.Popen(
        ["pulumi", "destroy", "--yes", "--non-interactive"],
        cwd=PROJECT_DIR,
        env=sandbox.shell_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as destroy:
        assert destroy.stdout is not None
        for line in destroy.stdout:
            if "deleted" in line:
                break
        _kill_daemon(sandbox)
        destroy.communicate(timeout=_HANG_SECONDS)
    _no_orphan(sandbox)
    return _works_again(sandbox, _failing(sandbox, "status", "is gone", "python -m sandbox up"))


# --- commands that meet


def _interrupted(sandbox: Sandbox) -> str:
    up = _up_with_a_cluster(sandbox)
    # As a terminal does.
    os.killpg(up.process.pid, signal.SIGINT)
    message = up.message("interrupted", "python -m sandbox up")
    _no_orphan(sandbox, but=sandbox.processes())
    return _works_again(sandbox, message)


def _up_killed(sandbox: Sandbox) -> str:
    up = _up_with_a_cluster(sandbox)
    up.process.kill()
    up.end()
    deadline = time.monotonic() + 3 * _ORPHAN_SECONDS
    while engines := [pid for pid in sandbox.processes() if "pulumi up" in _name_of(pid)]:
        if time.monotonic() > deadline:
            raise Lost(f"Pulumi goes on: {', '.join(map(_name_of, engines))}")
        time.sleep(0.1)
    return _works_again(sandbox, "Pulumi is told to end with it; the next `up` goes on")


def _down_in_up(sandbox: Sandbox) -> str:
    up = _up_with_a_cluster(sandbox)
    down = sandbox.command("down", timeout=_HANG_SECONDS)
    if "under way" not in down.stdout:
        raise Lost(f"`down` says nothing of the `up` that it ends: {down.stdout}")
    message = up.message("told to end")
    if sandbox.state.exists():
        raise Lost("`down` left the state")
    return _ended(sandbox, message)


def _second_up(sandbox: Sandbox) -> str:
    first = _Up(sandbox)
    first.until(lambda: command_lock.holder(sandbox.paths) == first.process.pid, "it had its state folder")
    message = _failing(sandbox, "up", f"(pid {first.process.pid}) is under way", "python -m sandbox down")
    end = first.end()
    if first.process.returncode != 0:
        raise Lost(f"the first `up` failed: {end[-800:]}")
    return message


def _two_sandboxes(sandbox: Sandbox) -> str:
    with fresh_sandbox("drill-machine-other", _SPEED) as other:
        ups = [_Up(sandbox), _Up(other)]
        for up in ups:
            text = up.end()
            if up.process.returncode != 0:
                raise Lost(f"one of two parallel `up` failed: {text[-800:]}")
        for each in (sandbox, other):
            each.command("scale", "2", timeout=_HANG_SECONDS)
            each.command("chat", "Who are you?", timeout=60)
        other.command("down", timeout=_HANG_SECONDS)
        _no_orphan(other)
        sandbox.command("chat", "And you?", timeout=60)
        ready = [pod for pod in sandbox.status()["pods"] if pod["ready"]]
        if len(ready) != 2:
            raise Lost(f"{len(ready)} of 2 pods are ready after the other's `down`")
    return "both up at once, scaled and answering; `down` of the one left the other alone"


# --- ports


def _api_server_port_taken(sandbox: Sandbox) -> str:
    port = _api_server_port(sandbox)
    _daemon_down(sandbox)
    with _taken(port):
        message = _failing(sandbox, "up", f"port {port}", f"(pid {os.getpid()})", "end that program")
    return _ended(sandbox, message)


def _api_server_port_lost(sandbox: Sandbox) -> str:
    """Another program takes the port in the second between choice and use."""
    up = _Up(sandbox)
    up.until(lambda: list(sandbox.state.glob("clusters/*/ports.json")), "its ports were chosen")
    port = _api_server_port(sandbox)
    with _taken(port):
        text = up.end()
    if up.process.returncode != 0:
        raise Lost(f"it did not take another port: {text[-800:]}")
    if _api_server_port(sandbox) == port:
        raise Lost("the drill came too late: the API server had its port")
    return "the cluster took other ports by itself"


def _service_port_taken(sandbox: Sandbox) -> str:
    port = _service_port(sandbox)
    _daemon_down(sandbox)
    with _taken(port, LISTEN_ADDRESSES[0]):
        message = _failing(sandbox, "up", f"port {port} of the Service", f"(pid {os.getpid()})", "--port")
    return _works_again(sandbox, message)


def _service_port_lost(sandbox: Sandbox) -> str:
    up = _up_with_a_cluster(sandbox)
    port = _service_port(sandbox)
    with _taken(port, LISTEN_ADDRESSES[0]):
        message = up.message(f"port {port} of {LISTEN_ADDRESSES[0]} is taken", "--port")
    return _works_again(sandbox, message)


def _provider_ports_taken(sandbox: Sandbox) -> str:
    record = json.loads(sandbox.paths.daemon_record.read_text())
    ports = [int(each.partition(":")[2]) for each in record["debug_providers"].split(",")]
    _daemon_down(sandbox)
    with contextlib.ExitStack() as stack:
        for port in ports:
            stack.enter_context(_taken(port))
        return _works_again(sandbox, "the providers took other ports by themselves")


# --- the state folder


def _cut(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def _record_cut(sandbox: Sandbox) -> str:
    _cut(sandbox.paths.daemon_record)
    return _works_again(sandbox, _failing(sandbox, "status", "daemon.json cannot be used", "python -m sandbox down"))


def _state_file_cut(name: str, *, of_cluster: bool) -> Callable[[Sandbox], str]:
    def happen(sandbox: Sandbox) -> str:
        path = _cluster_file(sandbox, name) if of_cluster else sandbox.state / name
        _daemon_down(sandbox)
        whole = path.read_bytes()
        _cut(path)
        message = _failing(sandbox, "up", f"{name} cannot be used", "python -m sandbox down")
        path.write_bytes(whole)
        return _works_again(sandbox, message)

    return happen


def _stale_state_cleared(sandbox: Sandbox) -> str:
    """As the message about a file that cannot be used says: `down`, then `up`."""
    _kill_daemon(sandbox)
    for path in (sandbox.paths.daemon_record, _cluster_file(sandbox, "cluster.json"), sandbox.stack_config):
        _cut(path)
    sandbox.command("down", timeout=_HANG_SECONDS)
    return _ended(sandbox, "`down` clears away what it cannot read, and `up` begins anew")


# --- disks


@contextlib.contextmanager
def _small_disk(folder: Path, megabytes: int) -> Iterator[None]:
    """A file system of its own at a folder: sparse, so that it takes no more than is written. Raises `Skipped`."""
    if os.geteuid() != 0 or shutil.which("mkfs.ext4") is None:
        raise Skipped("only root can mount a small file system, and mkfs.ext4 has to be there")
    image = folder.with_suffix(".img")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with image.open("wb") as file:
        file.truncate(megabytes * 2**20)
    try:
        for command in (["mkfs.ext4", "-q", "-m", "0", str(image)], ["mount", "-o", "loop", str(image), str(folder)]):
            result = subprocess.run(command, capture_output=True, text=True, timeout=60)
            if result.returncode != 0:
                raise Skipped(f"`{command[0]}` failed: {result.stderr.strip()}")
        try:
            yield
        finally:
            subprocess.run(["umount", "--lazy", str(folder)], check=True, timeout=60)
    finally:
        image.unlink()
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _filled(folder: Path) -> Iterator[None]:
    """Nothing is left on the file system of a folder."""
    filler = folder / "filler"
    try:
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(folder).free)
        with contextlib.suppress(OSError), filler.open("ab", buffering=0) as file:
            while file.write(b"\0" * 4096):
                pass
        yield
    finally:
        filler.unlink()


@contextlib.contextmanager
def _on_small_disk(megabytes: int) -> Iterator[Sandbox]:
    folder = PROJECT_DIR / ".sandbox" / "drill-disk"
    with _small_disk(folder, megabytes), fresh_sandbox("drill-disk/state", _SPEED) as sandbox:
        yield sandbox


def _disk_full_at_start(_: Sandbox) -> str:
    with _on_small_disk(200) as small:
        message = _failing(small, "up", "needs 300 MB", "MB left", "SANDBOX_STATE")
        _no_orphan(small)
        return message


def _disk_full_in_up(_: Sandbox) -> str:
    with _on_small_disk(1000) as small:
        up = _up_with_a_cluster(small)
        with _filled(small.state.parent):
            message = up.message("is full", "make room")
            # etcd may not have noticed yet; what runs is the sandbox's, and no orphan.
            small.command("status", check=False, timeout=_HANG_SECONDS)
        _works_again(small, message)
        small.command("down", timeout=_HANG_SECONDS)
        _no_orphan(small)
        return message


def _disk_full_while_building(_: Sandbox) -> str:
    folder = PROJECT_DIR / ".sandbox" / "drill-cache"
    variables = {**_SPEED, "SANDBOX_CACHE": str(folder)}
    with _small_disk(folder, 8000), fresh_sandbox("drill-machine-tools", variables) as bare:
        up = _Up(bare)
        up.until(lambda: any(folder.glob("go*/*")), "a module was fetched")
        with _filled(folder):
            message = up.message("is full", "make room")
        _no_orphan(bare)
        return message


FAULTS: tuple[Fault, ...] = (
    Fault("daemon killed at rest", _daemon_killed_at_rest, up=True),
    *(Fault(f"{name} killed at rest", _program_killed_at_rest(name), up=True) for name in PROGRAMS),
    Fault("second `up` of one state folder", _second_up, up=True),
    Fault("API server's port taken while it was down", _api_server_port_taken, up=True),
    Fault("Service's port taken while it was down", _service_port_taken, up=True),
    Fault("providers' ports taken while they were down", _provider_ports_taken, up=True),
    Fault("daemon.json cut in half", _record_cut, up=True),
    Fault("a pool's record cut in half", _state_file_cut("pools/v6e-1.json", of_cluster=True), up=True),
    Fault("cloud.json cut in half", _state_file_cut("cloud.json", of_cluster=False), up=True),
    Fault("Pulumi.sandbox.yaml cut in half", _state_file_cut("Pulumi.sandbox.yaml", of_cluster=False), up=True),
    Fault("daemon killed in the middle of `destroy`", _daemon_killed_in_destroy, up=True),
    Fault("a state folder that cannot be read, cleared away", _stale_state_cleared, up=True),
    Fault("daemon killed in the middle of `up`", _daemon_killed_in_up, up=False),
    Fault("daemon killed while the cluster is made", _daemon_killed_in_cluster_creation, up=False),
    *(Fault(f"{name} killed in the middle of `up`", _program_killed_in_up(name), up=False) for name in PROGRAMS_IN_UP),
    Fault("Ctrl-C in the middle of `up`", _interrupted, up=False),
    Fault("`up` killed in the middle", _up_killed, up=False),
    Fault("`down` in the middle of another's `up`", _down_in_up, up=False),
    Fault("API server's port taken between choice and use", _api_server_port_lost, up=False),
    Fault("Service's port taken between choice and use", _service_port_lost, up=False),
    Fault("disk of the state full at the start", _disk_full_at_start, up=False),
    Fault("disk of the state full in the middle of `up`", _disk_full_in_up, up=False),
    Fault("disk of the cache full in the middle of building a tool", _disk_full_while_building, up=False),
    Fault("two sandboxes at once", _two_sandboxes, up=False),
)
