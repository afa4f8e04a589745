"""The drill of faulty answers: updates from nothing, changing ones and destroys, while the cloud's or the cluster's API misbehaves.

An update survives when it comes to its end by itself, or when it fails with a clear message and converges when it is run once more; either
way the preview after it is empty, and nothing is there twice or left behind. What comes by itself and what needs the second run
is the real providers' doing (`sandbox.providers.google_requests`, `kubernetes_client`), and the recovery says which it was.

Left out: answers that are lost after the request was carried out. No second run finds what they made: docs/operate.md says what to do.
"""

from __future__ import annotations

import random
import re
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import yaml

from components.settings.stack_files import PROJECT_NAME
from sandbox.cli.client import Sandbox, fresh_sandbox, run_command
from sandbox.google.faults import APIS, CLOUD, FaultStore
from sandbox.providers.gcp_kinds import SERVICE
from trials.drills.events import wait_until
from trials.drills.inventory import cloud_inventory, difference
from trials.results import Options, Result

#: How fast the cloud's clock runs: waiting for Google's machines is not what is drilled.
_VARIABLES = {"SANDBOX_SPEED": "300"}

_ANSWERS = ("409", "429", "500", "503", "slow", "dropped")
_RATE = 0.05

#: A burst that is about as long as a bad minute, and one that outlasts the providers' patience.
_BURST = 15
_OUTAGE = 3000

#: What a message has to have to be clear: the status or the breakage, or whose credential it is.
_CLEAR = re.compile(
    r"Error [45]\d\d|[Cc]onnection (?:reset|aborted|refused)|connection to the API server broke|EOF|etcdserver|apiserver not ready|"
    r"too many requests|toomanyrequests|received unexpected HTTP status|object has been modified|deadline exceeded|"
    r"invalid_grant|getting credentials|access token|Unauthorized|asked for the client to provide credentials"
)
_UNCLEAR = re.compile(r"a defect of the provider|panic:|AssertionError|KeyError|AttributeError")

_UP = ("up", "--yes", "--skip-preview", "--non-interactive", "--refresh")
_DESTROY = ("destroy", "--yes", "--skip-preview", "--non-interactive")


@dataclass(frozen=True, kw_only=True)
class _Step:
    """One run of pulumi while something is wrong."""

    #: Whether the stack has to be up before it.
    there: bool
    command: Sequence[str] = _UP
    #: Whether settings change with it.
    change: bool = False
    #: Arguments of `faults set`.
    fault: Sequence[str] = ()
    #: Arguments of `login` before it.
    login: Sequence[str] = ()
    #: Happens beside it.
    meanwhile: Callable[[], object] = lambda: None


@dataclass
class _Outcome:
    """One event's runs."""

    tried: int = 0
    alone: int = 0
    given: int = 0
    #: Messages of runs that failed, and converged when they were run once more.
    messages: list[str] = field(default_factory=list)
    #: Why runs were lost.
    lost: list[str] = field(default_factory=list)

    def result(self, event: str) -> Result:
        parts = []
        if self.alone:
            parts.append(f"{self.alone} by itself")
        if self.messages:
            parts.append(f"{len(self.messages)} failed with a clear message and converged with the next run")
            parts.append("said: " + " | ".join(dict.fromkeys(self.messages)))
        parts += [f"lost: {each}" for each in self.lost]
        if self.given:
            parts.append(f"{self.given} faulty answers")
        return Result(event=event, tried=self.tried, survived=self.alone + len(self.messages), recovery="; ".join(parts) or "nothing")


def run(options: Options) -> Iterator[Result]:
    """Yields a result for each event. Raises `CommandFailed` when the sandbox itself does not work."""
    with fresh_sandbox("drill-answers", _VARIABLES) as sandbox:
        sandbox.command("up")
        drill = _Drill(sandbox, random.Random(options.seed))
        for name, steps in options.sample(drill.events()):
            outcome = _Outcome()
            for step in steps:
                drill.take(step, outcome)
            yield outcome.result(name)


class _Drill:
    def __init__(self, sandbox: Sandbox, dice: random.Random) -> None:
        self._sandbox = sandbox
        self._dice = dice
        self._faults = FaultStore(sandbox.paths.state)
        self._changes: dict[str, Any] = {}
        self._count = 0
        self._environment = sandbox.shell_environment()
        self._there = self._inventory()
        self._up = True

    def events(self) -> list[tuple[str, list[_Step]]]:
        events: list[tuple[str, list[_Step]]] = []
        faults = [(api, answer) for api in APIS for answer in _ANSWERS]
        for api, answer in faults:
            rate = ("--api", api, "--answer", answer, "--rate", str(_RATE), "--seed", str(self._dice.randrange(1000)))
            steps = [_Step(there=False, fault=rate), _Step(there=True, command=_DESTROY, fault=rate)]
            events.append((f"{api}: {answer}, 5 %, from nothing and destroyed", steps))
        for api, answer in faults:
            # In the middle: an update of this size asks either API some dozens of times, but changes a few things only.
            after = "0" if answer == "409" else str(self._dice.randrange(12))
            burst = ("--api", api, "--answer", answer, "--burst", str(_BURST), "--after", after)
            events.append((f"{api}: {answer}, burst of {_BURST}, a changing update", [_Step(there=True, change=True, fault=burst)]))
        outage = ("--api", CLOUD, "--answer", "503", "--burst", str(_OUTAGE))
        restarts = [partial(self._restart, self._dice.uniform(1.0, 8.0)) for _ in range(3)]
        short, expired = ("--lifetime", "2"), ("--lifetime", "0.01")
        return [
            *events,
            ("cloud: 503 for longer than the provider tries again, a changing update", [_Step(there=True, change=True, fault=outage)]),
            ("kubernetes: API server restarted, changing updates", [_Step(there=True, change=True, meanwhile=each) for each in restarts]),
            ("kubernetes: API server restarted, an update from nothing", [_Step(there=False, meanwhile=self._restart_when_there)]),
            ("credentials: access tokens that live 2 s", [_Step(there=False, login=short), _Step(there=True, change=True, login=short)]),
            ("credentials: the registry's token expires before the push", [_Step(there=False, login=expired)]),
            (
                "credentials: the login is revoked in the middle",
                [_Step(there=False, meanwhile=partial(self._revoke, seconds)) for seconds in (1.0, 6.0)],
            ),
        ]

    def take(self, step: _Step, outcome: _Outcome) -> None:
        """One run with what is wrong, once more without it where it failed, and a look at what there is then."""
        if step.there != self._up:
            self._pulumi(*(_UP if step.there else _DESTROY), check=True)
        if step.change:
            self._change()
        before = len(self._faults.given())
        if step.login:
            self._sandbox.command("login", *step.login)
        if step.fault:
            self._sandbox.command("faults", "set", *step.fault)
        beside = threading.Thread(target=step.meanwhile)
        beside.start()
        try:
            first = self._pulumi(*step.command)
        finally:
            beside.join()
            self._sandbox.command("faults", "clear")
            self._sandbox.command("login")
        outcome.tried += 1
        self._up = step.command == _UP
        outcome.given += len(self._faults.given()) - before
        said = _error(first)
        if first.returncode != 0 and self._pulumi(*step.command).returncode != 0:
            # Everything that follows needs a stack that is as it should be.
            third = self._pulumi(*step.command)
            outcome.lost.append(f"the next run failed, too; the third {'failed' if third.returncode else 'converged'}: {said}")
        elif wrong := self._wrong(step.command):
            outcome.lost.append(wrong)
        elif first.returncode == 0:
            outcome.alone += 1
        elif _UNCLEAR.search(first.stdout + first.stderr) or not _CLEAR.search(first.stdout + first.stderr):
            outcome.lost.append(f"an unclear message: {said}")
        else:
            outcome.messages.append(said)

    def _wrong(self, command: Sequence[str]) -> str:
        """What is not as it should be after a run that said it was; empty when all is."""
        there = self._inventory()
        if command == _DESTROY:
            return f"left behind: {', '.join(there)}" if there else ""
        if there != self._there:
            return difference(self._there, there)
        changes = self._sandbox.preview(**self._changes)
        return f"the next preview is not empty: {changes}" if changes else ""

    def _inventory(self) -> dict[str, int]:
        """How often there is what in the cloud, and which objects of the program are in the cluster."""
        state = self._sandbox.paths.state
        there = cloud_inventory(state)
        # An API that a stack switched on stays on.
        found = {name: count for name, count in there.items() if not name.startswith(f"cloud: {SERVICE} ")}
        if any(state.glob("clusters/*/pools/*.json")):
            kubeconfig = ["--kubeconfig", str(self._sandbox.paths.own_kubeconfig)]
            listed = run_command(
                ["kubectl", *kubeconfig, "get", "deployments,services,secrets,computeclasses,poddisruptionbudgets", "-o", "name"],
                self._environment,
                check=True,
                timeout=60,
            )
            # A Secret that Pulumi named carries a number.
            found |= Counter(f"cluster: {re.sub(r'-[0-9a-f]{8}$', '', name)}" for name in listed.stdout.split())
        return found

    def _change(self) -> None:
        """Other settings of resources on both sides, none of which rolls the pods."""
        self._count += 1
        document = yaml.safe_load(self._sandbox.stack_config.read_text())
        pools = document["config"][f"{PROJECT_NAME}:acceleratorPools"]
        pools[-1]["maxNodeCount"] = 2 + self._count % 2
        self._changes = {
            "acceleratorPools": pools,
            "pendingAlertMinutes": 15 + self._count,
            "waitingAlertRequests": 20 + self._count,
            "consolidationDelayMinutes": 10 + self._count,
            "loadBalancerSourceRanges": [f"10.0.0.{self._count}/32"],
        }

    def _pulumi(self, *arguments: str, check: bool = False) -> subprocess.CompletedProcess[str]:
        return self._sandbox.pulumi(*arguments, check=check, overrides=self._changes or None)

    def _restart(self, after: float) -> None:
        time.sleep(after)
        self._sandbox.command("restart-api-server", "--away", "2")

    def _restart_when_there(self) -> None:
        """As soon as there is a cluster, and a little later."""
        wait_until(self._sandbox.paths.kubeconfig.exists, 300, "a cluster")
        self._restart(1.0)

    def _revoke(self, after: float) -> None:
        time.sleep(after)
        self._sandbox.command("login", "--revoked")


def _error(result: subprocess.CompletedProcess[str]) -> str:
    """The first line of pulumi's diagnostics that says something; empty when it succeeded."""
    if result.returncode == 0:
        return ""
    lines = [line.strip() for line in (result.stdout + result.stderr).splitlines()]
    telling = [line for line in lines if _CLEAR.search(line)] or [line for line in lines if "error:" in line] or lines[-1:]
    text = re.sub(r"^(.*\berror: |\* |\d+ errors? occurred:)+", "", telling[0])
    found = _CLEAR.search(text)
    # Long ones begin with what they are about, and end with what to do.
    start = max(0, found.start() - 80) if found and len(text) > 160 else 0
    return ("... " if start else "") + text[start : start + 160] + ("..." if len(text) > start + 160 else "")
