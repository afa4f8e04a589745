"""What can go wrong with the machine under a sandbox: each fault ends with a clear word and no orphan process, and the next `up` works.

A clear word says what happened, where more is written and what to do; a traceback is none. Left out: a machine that is switched
off, which is what a killed daemon and a killed engine are together, and what Pulumi itself makes of a killed engine (`kills`).
"""

from __future__ import annotations

import contextlib
import json
import os
import random
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
from trials.drills.results import Options, Result

#: Fast enough for a drill, slow enough that an `up` has a middle.
_SPEED = {"SANDBOX_SPEED": "200"}

#: No command of the sandbox may take longer, whatever has happened.
_HANG_SECONDS = 300.0

#: How long what a dead process has started may outlive it.
_ORPHAN_SECONDS = 10.0

PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")

#: One that everything needs, and one that only waits for pods do.
PROGRAMS_IN_UP = ("etcd", "kube-scheduler")


class Lost(Exception):
    """A fault did not end as it should; the message says how."""


@dataclass(frozen=True)
class Fault:
    event: str
    #: Returns the clear word, or how it recovered. Raises `Lost` and `CommandFailed`.
    happen: Callable[[Sandbox], str]
    #: Whether the sandbox is to be up before it.
    up: bool


class Skipped(Exception):
    """This machine does not allow it; the message says what it lacks."""


def run(options: Options) -> Iterator[Result]:
    faults = FAULTS
    if options.share < 1:
        chosen = set(random.Random(options.seed).sample(range(len(FAULTS)), options.some(len(FAULTS))))
        faults = tuple(fault for index, fault in enumerate(FAULTS) if index in chosen)
    with fresh_sandbox("drill-machine", _SPEED) as sandbox:
        for fault in faults:
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

    def __init__(self, sandbox: Sandbox, *arguments: str) -> None:
        self._output = sandbox.state.parent / f"{sandbox.state.name}-up.log"
        with self._output.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "sandbox", "up", *arguments],
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

    def text(self) -> str:
        return self._output.read_text(errors="replace")


def _word(text: str, *parts: str, status: int | None = None) -> str:
    """The line of a clear word. Raises `Lost` for a traceback, and where a part is missing."""
    if status == 0:
        raise Lost(f"it said that all is well: {text[-800:]}")
    if "Traceback" in text:
        raise Lost(f"a traceback: {text[-800:]}")
    for part in parts:
        if part not in text:
            raise Lost(f"nothing of {part!r}: {text[-1200:]}")
    if "sandbox: " not in text:
        raise Lost(f"no word of the sandbox's: {text[-800:]}")
    # The line that says what happened; paths are of this machine, and long.
    words = text[text.index("sandbox: ") :].splitlines()
    line = next((line for line in words if parts and parts[0] in line), words[0])
    # As do the date of a line of the daemon's log, and processes' numbers.
    line = re.sub(r"^\S+ \S+ ERROR \S+ ", "", line.removeprefix("sandbox: ").strip())
    said = re.sub(r" \(pid \d+\)", "", re.sub(r"/\S+/(?=[^/\s])", ".../", line))
    return said if len(said) < 240 else f"{said[:240]}..."


def _no_orphan(sandbox: Sandbox, but: Sequence[int] = ()) -> None:
    """Nothing of the sandbox runs any more, Pulumi and its language host included."""
    deadline = time.monotonic() + _ORPHAN_SECONDS
    while left := set(processes_with("SANDBOX_STATE", str(sandbox.state))) - {*but, os.getpid()}:
        if time.monotonic() > deadline:
            raise Lost(f"left over: {', '.join(map(_name_of, sorted(left)))}")
        time.sleep(0.1)


def _name_of(pid: int) -> str:
    return " ".join(command_line(pid))[:120] or str(pid)


def _works_again(sandbox: Sandbox) -> None:
    """The next `up`, which ends with an answered chat and a smoke test."""
    sandbox.command("up", timeout=_HANG_SECONDS)


def _failing(sandbox: Sandbox, *arguments: str) -> tuple[str, int]:
    result = sandbox.command(*arguments, check=False, timeout=_HANG_SECONDS)
    return result.stdout + result.stderr, result.returncode


def _daemon(sandbox: Sandbox) -> int:
    return int(json.loads(sandbox.paths.daemon_record.read_text())["pid"])


def _kill_daemon(sandbox: Sandbox) -> int:
    pid = _daemon(sandbox)
    os.kill(pid, signal.SIGKILL)
    return pid


def _program(sandbox: Sandbox, name: str) -> int:
    for pid in sandbox.processes():
        if any(argument.endswith(f"/{name}") for argument in command_line(pid)[:1]):
            return pid
    raise Lost(f"no {name} runs")


def _cluster_dir(sandbox: Sandbox) -> Path | None:
    return next(sandbox.state.glob("clusters/*"), None)


def _cluster_file(sandbox: Sandbox, name: str) -> Path:
    folder = _cluster_dir(sandbox)
    if folder is None:
        raise Lost("there is no cluster")
    return folder / name


def _pods_come(sandbox: Sandbox) -> bool:
    """The cluster is up, and Pulumi makes what is in it."""
    return sandbox.paths.kubeconfig.exists()


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
    pid = _kill_daemon(sandbox)
    _no_orphan(sandbox)
    text, status = _failing(sandbox, "status")
    word = _word(text, f"daemon (pid {pid}) is gone", "daemon.log", "python -m sandbox up", status=status)
    _works_again(sandbox)
    return word


def _program_killed_at_rest(name: str) -> Callable[[Sandbox], str]:
    def happen(sandbox: Sandbox) -> str:
        os.kill(_program(sandbox, name), signal.SIGKILL)
        # At once: the daemon looks after its programs every second.
        text, status = _failing(sandbox, "scale", "2")
        _word(text, status=status)
        text, status = _failing(sandbox, "status")
        word = _word(text, f"{name} ended with status -9", f"logs/{name}.log", "python -m sandbox up", status=status)
        _no_orphan(sandbox)
        _works_again(sandbox)
        return word

    return happen


def _daemon_killed_under(up: _Up, sandbox: Sandbox) -> str:
    _kill_daemon(sandbox)
    word = _word(up.end(), "the sandbox's daemon", "is gone", "python -m sandbox up", status=up.process.returncode)
    _no_orphan(sandbox)
    _works_again(sandbox)
    return word


def _daemon_killed_in_up(sandbox: Sandbox) -> str:
    up = _Up(sandbox)
    up.until(lambda: _pods_come(sandbox), "the cluster was up")
    time.sleep(1.5)
    return _daemon_killed_under(up, sandbox)


def _daemon_killed_in_cluster_creation(sandbox: Sandbox) -> str:
    up = _Up(sandbox)
    up.until(lambda: _cluster_dir(sandbox), "the cluster was begun")
    return _daemon_killed_under(up, sandbox)


def _program_killed_in_up(name: str) -> Callable[[Sandbox], str]:
    def happen(sandbox: Sandbox) -> str:
        up = _Up(sandbox)
        up.until(lambda: _pods_come(sandbox), "the cluster was up")
        os.kill(_program(sandbox, name), signal.SIGKILL)
        word = _word(up.end(), f"{name} ended with status -9", "python -m sandbox up", status=up.process.returncode)
        _no_orphan(sandbox)
        _works_again(sandbox)
        return word

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
    text, status = _failing(sandbox, "status")
    word = _word(text, "is gone", "python -m sandbox up", status=status)
    _works_again(sandbox)
    return word


# --- commands that meet


def _interrupted(sandbox: Sandbox) -> str:
    up = _Up(sandbox)
    up.until(lambda: _pods_come(sandbox), "the cluster was up")
    # As a terminal does.
    os.killpg(up.process.pid, signal.SIGINT)
    word = _word(up.end(), "interrupted", "python -m sandbox up", status=up.process.returncode)
    _no_orphan(sandbox, but=sandbox.processes())
    _works_again(sandbox)
    return word


def _up_killed(sandbox: Sandbox) -> str:
    up = _Up(sandbox)
    up.until(lambda: _pods_come(sandbox), "the cluster was up")
    up.process.kill()
    up.end()
    deadline = time.monotonic() + 3 * _ORPHAN_SECONDS
    while engines := [pid for pid in sandbox.processes() if "pulumi up" in _name_of(pid)]:
        if time.monotonic() > deadline:
            raise Lost(f"Pulumi goes on: {', '.join(map(_name_of, engines))}")
        time.sleep(0.1)
    _works_again(sandbox)
    return "Pulumi is told to end with it; the next `up` goes on"


def _down_in_up(sandbox: Sandbox) -> str:
    up = _Up(sandbox)
    up.until(lambda: _pods_come(sandbox), "the cluster was up")
    down = sandbox.command("down", timeout=_HANG_SECONDS)
    if "under way" not in down.stdout:
        raise Lost(f"`down` says nothing of the `up` that it ends: {down.stdout}")
    word = _word(up.end(), "told to end", status=up.process.returncode)
    _no_orphan(sandbox)
    if sandbox.state.exists():
        raise Lost("`down` left the state")
    _works_again(sandbox)
    return word


def _second_up(sandbox: Sandbox) -> str:
    first = _Up(sandbox)
    first.until(lambda: command_lock.holder(sandbox.paths) == first.process.pid, "it had its state folder")
    text, status = _failing(sandbox, "up")
    word = _word(text, f"(pid {first.process.pid}) is under way", "python -m sandbox down", status=status)
    end = first.end()
    if first.process.returncode != 0:
        raise Lost(f"the first `up` failed: {end[-800:]}")
    return word


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
    return "both up at once, scaled and answering; the one's `down` left the other alone"


# --- ports


def _cluster_port_taken(name: str) -> Callable[[Sandbox], str]:
    def happen(sandbox: Sandbox) -> str:
        port = json.loads(_cluster_file(sandbox, "ports.json").read_text())[name]
        _kill_daemon(sandbox)
        _no_orphan(sandbox)
        with _taken(port):
            text, status = _failing(sandbox, "up")
            word = _word(text, f"port {port}", f"(pid {os.getpid()})", "end that program", status=status)
            _no_orphan(sandbox)
        _works_again(sandbox)
        return word

    return happen


def _cluster_port_lost(sandbox: Sandbox) -> str:
    """Somebody takes the port in the second between choice and use."""
    up = _Up(sandbox)
    up.until(lambda: (folder := _cluster_dir(sandbox)) and (folder / "ports.json").exists(), "its ports were chosen")
    port = json.loads(_cluster_file(sandbox, "ports.json").read_text())["api_server"]
    with _taken(port):
        text = up.end()
    if up.process.returncode != 0:
        raise Lost(f"it did not take another port: {text[-800:]}")
    if json.loads(_cluster_file(sandbox, "ports.json").read_text())["api_server"] == port:
        raise Lost("the drill came too late: the API server had its port")
    return "the cluster took other ports by itself"


def _service_port(sandbox: Sandbox) -> int:
    return int(yaml.safe_load(sandbox.stack_config.read_text())["config"][f"{PROJECT_NAME}:servicePort"])


def _service_port_taken(sandbox: Sandbox) -> str:
    port = _service_port(sandbox)
    _kill_daemon(sandbox)
    _no_orphan(sandbox)
    with _taken(port, LISTEN_ADDRESSES[0]):
        text, status = _failing(sandbox, "up")
        word = _word(text, f"port {port} of the Service", f"(pid {os.getpid()})", "--port", status=status)
    _works_again(sandbox)
    return word


def _service_port_lost(sandbox: Sandbox) -> str:
    up = _Up(sandbox)
    up.until(lambda: _pods_come(sandbox), "the cluster was up")
    port = _service_port(sandbox)
    with _taken(port, LISTEN_ADDRESSES[0]):
        word = _word(up.end(), f"port {port} of {LISTEN_ADDRESSES[0]} is taken", "--port", status=up.process.returncode)
    _works_again(sandbox)
    return word


def _provider_ports_taken(sandbox: Sandbox) -> str:
    record = json.loads(sandbox.paths.daemon_record.read_text())
    ports = [int(each.partition(":")[2]) for each in record["debug_providers"].split(",")]
    _kill_daemon(sandbox)
    _no_orphan(sandbox)
    with contextlib.ExitStack() as stack:
        for port in ports:
            stack.enter_context(_taken(port))
        _works_again(sandbox)
    return "the providers took other ports by themselves"


# --- the state folder


def _cut(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def _record_cut(sandbox: Sandbox) -> str:
    _cut(sandbox.paths.daemon_record)
    text, status = _failing(sandbox, "status")
    word = _word(text, "daemon.json cannot be used", "python -m sandbox down", status=status)
    _works_again(sandbox)
    return word


def _record_of_another_version(sandbox: Sandbox) -> str:
    known = json.loads(sandbox.paths.daemon_record.read_text())
    sandbox.paths.daemon_record.write_text(json.dumps({"pid": known["pid"], "port": 1234}))
    text, status = _failing(sandbox, "status")
    word = _word(text, "daemon.json cannot be used", "another version", status=status)
    _works_again(sandbox)
    return word


def _state_file_cut(name: str, *, of_cluster: bool) -> Callable[[Sandbox], str]:
    def happen(sandbox: Sandbox) -> str:
        path = _cluster_file(sandbox, name) if of_cluster else sandbox.state / name
        _kill_daemon(sandbox)
        _no_orphan(sandbox)
        whole = path.read_bytes()
        _cut(path)
        text, status = _failing(sandbox, "up")
        word = _word(text, f"{name} cannot be used", "python -m sandbox down", status=status)
        path.write_bytes(whole)
        _works_again(sandbox)
        return word

    return happen


def _stale_state_cleared(sandbox: Sandbox) -> str:
    """As the message about a file that cannot be used says: `down`, then `up`."""
    _kill_daemon(sandbox)
    for path in (sandbox.paths.daemon_record, _cluster_file(sandbox, "cluster.json"), sandbox.stack_config):
        _cut(path)
    sandbox.command("down", timeout=_HANG_SECONDS)
    _no_orphan(sandbox)
    _works_again(sandbox)
    return "`down` clears away what it cannot read, and `up` begins anew"


# --- disks


@contextlib.contextmanager
def _small_disk(folder: Path, megabytes: int) -> Iterator[None]:
    """A file system of its own at a folder: sparse, so that it takes no more than is written. Raises `Skipped`."""
    if os.geteuid() != 0:
        raise Skipped("a small file system can be mounted by root alone")
    if shutil.which("mkfs.ext4") is None:
        raise Skipped("there is no mkfs.ext4")
    image = folder.with_suffix(".img")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with image.open("wb") as file:
        file.truncate(megabytes * 2**20)
    try:
        _root_command("mkfs.ext4", "-q", "-m", "0", str(image))
        _root_command("mount", "-o", "loop", str(image), str(folder))
        try:
            yield
        finally:
            _root_command("umount", "--lazy", str(folder))
    finally:
        image.unlink()
        shutil.rmtree(folder, ignore_errors=True)


def _root_command(*command: str) -> None:
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if result.returncode != 0:
        raise Skipped(f"`{command[0]}` failed: {result.stderr.strip()}")


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


def _on_small_disk(megabytes: int) -> contextlib.AbstractContextManager[Sandbox]:
    @contextlib.contextmanager
    def make() -> Iterator[Sandbox]:
        folder = PROJECT_DIR / ".sandbox" / "drill-disk"
        with _small_disk(folder, megabytes), fresh_sandbox("drill-disk/state", _SPEED) as sandbox:
            yield sandbox

    return make()


def _disk_full_at_start(sandbox: Sandbox) -> str:
    with _on_small_disk(200) as small:
        text, status = _failing(small, "up")
        word = _word(text, "needs 300 MB", "MB left", "SANDBOX_STATE", status=status)
        _no_orphan(small)
        return word


def _disk_full_in_up(sandbox: Sandbox) -> str:
    with _on_small_disk(1000) as small:
        up = _Up(small)
        up.until(lambda: _pods_come(small), "the cluster was up")
        with _filled(small.state.parent):
            word = _word(up.end(), "is full", "make room", status=up.process.returncode)
            # etcd may not have noticed yet; what runs is the sandbox's, and no orphan.
            small.command("status", check=False, timeout=_HANG_SECONDS)
        _works_again(small)
        small.command("down", timeout=_HANG_SECONDS)
        _no_orphan(small)
        return word


def _disk_full_at_rest(sandbox: Sandbox) -> str:
    with _on_small_disk(1000) as small:
        small.command("up", timeout=_HANG_SECONDS)
        with _filled(small.state.parent):
            text, status = _failing(small, "up")
            word = _word(text, "is full", "make room", status=status) if status else "it goes on serving"
        _works_again(small)
        small.command("down", timeout=_HANG_SECONDS)
        _no_orphan(small)
        return word


def _disk_full_while_building(sandbox: Sandbox) -> str:
    folder = PROJECT_DIR / ".sandbox" / "drill-cache"
    with (
        _small_disk(folder, 8000),
        fresh_sandbox("drill-machine-tools", {**_SPEED, "SANDBOX_CACHE": str(folder)}) as bare,
    ):
        up = _Up(bare)
        up.until(lambda: "building" in up.text(), "building began (all tools are on this machine)")
        up.until(lambda: any(folder.glob("go*/*")), "a module was fetched")
        with _filled(folder):
            word = _word(up.end(), "is full", "make room", status=up.process.returncode)
        _no_orphan(bare)
        return word


def _no_room_to_build(sandbox: Sandbox) -> str:
    folder = PROJECT_DIR / ".sandbox" / "drill-cache"
    with (
        _small_disk(folder, 100),
        fresh_sandbox("drill-machine-tools", {**_SPEED, "SANDBOX_CACHE": str(folder)}) as bare,
    ):
        text, status = _failing(bare, "up")
        word = _word(text, "building", "MB left", "SANDBOX_CACHE", status=status)
        _no_orphan(bare)
        return word


FAULTS: tuple[Fault, ...] = (
    Fault("daemon killed at rest", _daemon_killed_at_rest, up=True),
    *(Fault(f"{name} killed at rest", _program_killed_at_rest(name), up=True) for name in PROGRAMS),
    Fault("second `up` of one state folder", _second_up, up=True),
    Fault("API server's port taken while it was down", _cluster_port_taken("api_server"), up=True),
    Fault("etcd's port taken while it was down", _cluster_port_taken("etcd"), up=True),
    Fault("Service's port taken while it was down", _service_port_taken, up=True),
    Fault("providers' ports taken while they were down", _provider_ports_taken, up=True),
    Fault("daemon.json cut in half", _record_cut, up=True),
    Fault("daemon.json of another version", _record_of_another_version, up=True),
    Fault("a pool's record cut in half", _state_file_cut("pools/v6e-1.json", of_cluster=True), up=True),
    Fault("cluster.json cut in half", _state_file_cut("cluster.json", of_cluster=True), up=True),
    Fault("ports.json cut in half", _state_file_cut("ports.json", of_cluster=True), up=True),
    Fault("cloud.json cut in half", _state_file_cut("cloud.json", of_cluster=False), up=True),
    Fault("Pulumi.sandbox.yaml cut in half", _state_file_cut("Pulumi.sandbox.yaml", of_cluster=False), up=True),
    Fault("daemon killed in the middle of `destroy`", _daemon_killed_in_destroy, up=True),
    Fault("a state folder that nobody can read, cleared away", _stale_state_cleared, up=True),
    Fault("daemon killed in the middle of `up`", _daemon_killed_in_up, up=False),
    Fault("daemon killed while the cluster is made", _daemon_killed_in_cluster_creation, up=False),
    *(Fault(f"{name} killed in the middle of `up`", _program_killed_in_up(name), up=False) for name in PROGRAMS_IN_UP),
    Fault("Ctrl-C in the middle of `up`", _interrupted, up=False),
    Fault("`up` killed in the middle", _up_killed, up=False),
    Fault("`down` in the middle of another's `up`", _down_in_up, up=False),
    Fault("API server's port taken between choice and use", _cluster_port_lost, up=False),
    Fault("Service's port taken between choice and use", _service_port_lost, up=False),
    Fault("disk of the state full at the start", _disk_full_at_start, up=False),
    Fault("disk of the state full in the middle of `up`", _disk_full_in_up, up=False),
    Fault("disk of the state full at rest", _disk_full_at_rest, up=False),
    Fault("too little room to build the tools", _no_room_to_build, up=False),
    Fault("disk of the cache full in the middle of building a tool", _disk_full_while_building, up=False),
    Fault("two sandboxes at once", _two_sandboxes, up=False),
)
