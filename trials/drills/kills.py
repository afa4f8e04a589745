"""The engine killed at random moments of `pulumi up` and of `pulumi destroy`, and the way back.

One cycle: `up` killed, recovery, the next command to its end, looked at; `destroy` killed, recovery, the next command to its end,
looked at. The next command is what was killed, and in one cycle of five the other one. Nothing but the commands of docs/operate.md
is used. Moments are random parts of an undisturbed run's time, one in each of as many equal parts as there are cycles. SIGKILL
goes to the engine alone; what it had started is left to itself. The yardstick is what an undisturbed `up` and `destroy` leave.
"""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import psutil

from components.settings.stack_files import PROJECT_NAME
from sandbox.cli.client import CommandFailed, Sandbox, fresh_sandbox, run_command
from sandbox.cli.stack import STACK
from sandbox.host.paths import PROJECT_DIR
from sandbox.host.processes import command_line
from trials.drills.inventory import cloud_inventory, difference, json_object, resource_name
from trials.results import Options, Result

CYCLES = 50
#: One cycle in so many goes on with the other command than the one that was killed.
TURN_EVERY = 5

_SPEED = "1000"
#: Until the autoscaler and the controllers have nothing to do any more.
_SETTLE_SECONDS = 60.0
#: Until a program sees that its engine is gone, and a language host, which asks every five minutes.
_PROGRAM_SECONDS = 20.0
_LANGUAGE_HOST_SECONDS = 360.0

_RUN = ("--stack", STACK, "--yes", "--skip-preview", "--non-interactive")

#: Kubernetes objects that a stack makes, and what controllers make of them.
_KINDS = (
    "computeclasses,deployments,replicasets,horizontalpodautoscalers,services,secrets,serviceaccounts,configmaps,"
    "poddisruptionbudgets,networkpolicies,podmonitorings,nodes,pods"
)


class Lost(Exception):
    """A kill that was not survived; the message says what differs or failed."""


@dataclass(frozen=True, kw_only=True)
class Kill:
    """`share`: of an undisturbed run's time; `phase`: what was being made or deleted."""

    command: str
    share: float
    phase: str
    #: What the recovery printed.
    recovery: str = ""
    lost: str = ""


@dataclass(kw_only=True)
class _Stack:
    """The stack on a sandbox, the yardstick, and the processes that killed engines left."""

    sandbox: Sandbox
    environment: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    yardstick: dict[str, dict[str, int]] = field(default_factory=dict)
    #: What killed engines had started and did not end with them: language hosts.
    hosts: list[psutil.Process] = field(default_factory=list)

    def begin(self) -> None:
        """From nothing to an empty stack, with everything measured on the way."""
        self.sandbox.command("down", check=False)
        self.sandbox.command("up")
        self.environment = self.sandbox.shell_environment()
        self.pulumi("destroy", *_RUN)
        self.yardstick["destroy"] = self.inventory()
        for command in ("up", "destroy"):
            started = time.monotonic()
            self.pulumi(command, *_RUN)
            self.seconds[command] = time.monotonic() - started
            if command == "up":
                self.yardstick["up"] = self.settled(None)

    def pulumi(self, *arguments: str) -> str:
        result = run_command(["pulumi", *arguments], self.environment, check=True, timeout=900)
        return result.stdout

    def recover(self) -> str:
        command = [sys.executable, "-m", "ops", "recovery", "--stack", STACK]
        return run_command(command, self.environment, check=True, timeout=900).stdout

    def finish(self, command: str) -> None:
        """Runs it to its end and looks. Raises `Lost` and `CommandFailed`."""
        self.pulumi(command, *_RUN)
        if command == "up":
            self.pulumi("preview", "--stack", STACK, "--expect-no-changes", "--non-interactive")
        found = self.settled(self.yardstick[command])
        if found != self.yardstick[command]:
            raise Lost(difference(self.yardstick[command], found))

    def settled(self, wanted: Mapping[str, int] | None) -> dict[str, int]:
        """The inventory as soon as it is `wanted`, or has been the same three times, or the patience is at its end."""
        deadline = time.monotonic() + _SETTLE_SECONDS
        last, same = self.inventory(), 0
        while last != wanted and (wanted is not None or same < 3) and time.monotonic() < deadline:
            time.sleep(1)
            now = self.inventory()
            last, same = now, same + 1 if now == last else 0
        return last

    def inventory(self) -> dict[str, int]:
        """How often there is what: in the cloud, in the cluster, in the state, among the processes."""
        found = cloud_inventory(self.sandbox.state)
        if list(self.sandbox.state.glob("clusters/*")):
            found.update(self._objects())
        backend = self.sandbox.paths.pulumi_backend / ".pulumi"
        # As `pulumi stack export` would say it.
        state = json_object(backend / "stacks" / PROJECT_NAME / f"{STACK}.json")["checkpoint"].get("latest") or {}
        found.update(f"state: {each['type']} {resource_name(each['urn'])}" for each in state.get("resources") or [])
        found["state: pending operations"] += len(state.get("pending_operations") or [])
        found["backend: locks"] += len(list((backend / "locks").rglob("*.json")))
        found["backend: half written"] += len(list((backend / "stacks").rglob("*.tmp")))
        for pid in self.sandbox.processes():
            found[f"process: {_program(pid)}"] += 1
        return +found

    def _objects(self) -> Iterator[str]:
        command = ["kubectl", "get", _KINDS, "--all-namespaces", "--output", "json"]
        result = run_command(command, self.environment, check=True, timeout=60)
        for each in json.loads(result.stdout)["items"]:
            metadata = each["metadata"]
            name = f"{metadata.get('namespace', '')}/{metadata['name']}"
            if each["kind"] == "Node":
                name = f"of {metadata['labels']['cloud.google.com/gke-nodepool']}"
            elif each["kind"] == "Pod":
                name = f"of {metadata.get('labels', {}).get('app', name)}"
            yield f"cluster: {each['kind']} {name}"


def run(options: Options) -> Iterator[Result]:
    rng = random.Random(options.seed)
    cycles = options.some(CYCLES)
    shares = {command: _shares(rng, cycles) for command in ("up", "destroy")}
    kills: list[Kill] = []
    with fresh_sandbox("kills", {"SANDBOX_SPEED": _SPEED}) as sandbox:
        stack = _Stack(sandbox=sandbox)
        stack.begin()
        for cycle in range(cycles):
            turns = cycle % TURN_EVERY == TURN_EVERY - 1
            for command, other in (("up", "destroy"), ("destroy", "up")):
                kill = _kill_and_recover(stack, command, shares[command][cycle], other if turns else command)
                kills.append(kill)
                print(_line(cycle, kill), file=sys.stderr, flush=True)
                if kill.lost:
                    # What came of it stays to be looked at until here.
                    stack.begin()
                    if command == "up":
                        stack.finish("up")
        yield from _results(kills)
        yield _ended_hosts(stack)


def _kill_and_recover(stack: _Stack, command: str, share: float, following: str) -> Kill:
    """Begins and ends where a cycle's half does: from an empty stack to a whole one, or back."""
    phase = recovery = ""
    try:
        phase = _killed(stack, command, share)
        recovery = stack.recover()
        stack.finish(following)
        if following != command:
            stack.finish(command)
    except (CommandFailed, Lost) as error:
        return Kill(command=command, share=share, phase=phase or "not known", recovery=recovery, lost=str(error).strip())
    return Kill(command=command, share=share, phase=phase, recovery=recovery)


def _killed(stack: _Stack, command: str, share: float) -> str:
    """Starts the command, kills its engine, and says in which phase. Raises `Lost`."""
    printed = stack.sandbox.state.parent / "kills-output.txt"
    while True:
        with printed.open("w") as output:
            process = subprocess.Popen(
                ["pulumi", command, *_RUN], cwd=PROJECT_DIR, env=stack.environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
            try:
                process.wait(timeout=share * stack.seconds[command])
            except subprocess.TimeoutExpired:
                break
        # It was quicker than the one that was measured: once more, earlier.
        stack.pulumi("destroy" if command == "up" else "up", *_RUN)
        share *= 0.9
    children = psutil.Process(process.pid).children(recursive=True)
    programs = [each for each in children if "pulumi-language-python-exec" in " ".join(command_line(each.pid))]
    process.kill()
    process.wait()
    _, left = psutil.wait_procs(programs, timeout=_PROGRAM_SECONDS)
    if left:
        raise Lost(f"the program runs on {_PROGRAM_SECONDS:.0f} s after its engine was killed ({left})")
    stack.hosts += [each for each in children if each.is_running()]
    return _phase(printed.read_text(errors="replace"), command)


#: What a resource's type begins with -> what is said of it; the first that fits.
_PHASES = (
    ("gcp:container:Cluster", "the cluster"),
    ("gcp:container:NodePool", "a node pool"),
    ("kubernetes:", "a Kubernetes object"),
    ("docker:", "an image"),
    ("gcp:monitoring:", "a dashboard or an alert policy"),
    ("gcp:", "an API, an account, a right or the repository"),
)
_EVENT = re.compile(r"^ [+\-~] +(?P<type>\S+) (?P<name>\S+) (?P<state>creating|created|deleting|deleted)\b", re.MULTILINE)


def _phase(printed: str, command: str) -> str:
    """By what was under way; of several things, that which takes longest."""
    running: dict[tuple[str, str], None] = {}
    seen = False
    for event in _EVENT.finditer(printed):
        resource = event["type"], event["name"]
        if event["state"].endswith("ing"):
            running[resource] = None
        else:
            running.pop(resource, None)
        # The stack itself and components begin at once, and end last.
        seen = seen or event["type"].startswith(("gcp:", "docker:", "kubernetes:"))
    for prefix, what in _PHASES:
        if any(type_token.startswith(prefix) for type_token, _ in running):
            return what
    return "between two resources" if seen else "before the first resource"


def _results(kills: list[Kill]) -> Iterator[Result]:
    for command, doing in (("up", "made"), ("destroy", "deleted")):
        for phase in dict.fromkeys([*(what for _, what in _PHASES), *(each.phase for each in kills)]):
            tried = [each for each in kills if (each.command, each.phase) == (command, phase)]
            if not tried:
                continue
            lost = [each.lost for each in tried if each.lost]
            resource = phase in dict(_PHASES).values()
            yield Result(
                event=f"{command} killed while {phase} was {doing}" if resource else f"{command} killed {phase}",
                tried=len(tried),
                survived=len(tried) - len(lost),
                recovery="; ".join(_short(each) for each in lost) or _way_back(command, tried),
            )


def _way_back(command: str, kills: list[Kill]) -> str:
    """The same for all of them, and how often the recovery had something to do beside the lock."""
    said = [line for each in kills for line in each.recovery.splitlines()]
    done = {
        "resources found and taken into the state": sum("in the state now" in line for line in said),
        "deletions finished meanwhile": sum(line.startswith("is deleted") for line in said),
        "times the backend was half written": sum("half written" in line for line in said),
    }
    found = ", ".join(f"{count} {what}" for what, count in done.items() if count)
    return f"`python -m ops recovery`{f' ({found})' if found else ''}, then `pulumi {command}`"


def _ended_hosts(stack: _Stack) -> Result:
    _, left = psutil.wait_procs(stack.hosts, timeout=_LANGUAGE_HOST_SECONDS)
    return Result(
        event="language hosts of killed engines",
        tried=len(stack.hosts),
        survived=len(stack.hosts) - len(left),
        recovery=f"{left} run on" if left else "end by themselves, since they ask every five minutes whether the engine lives",
    )


def _shares(rng: random.Random, count: int) -> list[float]:
    shares = [(part + rng.random()) / count for part in range(count)]
    rng.shuffle(shares)
    return shares


def _line(cycle: int, kill: Kill) -> str:
    result = f"LOST: {_short(kill.lost)}" if kill.lost else "survived"
    return f"  {cycle + 1}: {kill.command} killed at {kill.share:.0%}, {kill.phase}: {result}"


def _short(text: str) -> str:
    lines = [each.strip() for each in text.splitlines() if each.strip()]
    errors = [each for each in lines if "error" in each.lower()] or lines
    return " ".join(errors[:3])[:300]


def _program(pid: int) -> str:
    # Some programs put their whole title into the first argument.
    return os.path.basename(" ".join(command_line(pid)).partition(" ")[0]) or "unknown"
