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
from sandbox.cli.client import CommandFailed, Sandbox, fresh_sandbox, run_command
from sandbox.google.faults import APIS, CLOUD, FaultStore
from sandbox.providers.gcp_kinds import SERVICE
from trials.drills.inventory import cloud_inventory, difference
from trials.drills.results import Options, Result

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


@dataclass
class _Outcome:
    """One event's runs."""

    event: str
    tried: int = 0
    alone: int = 0
    second: int = 0
    given: int = 0
    words: list[str] = field(default_factory=list)
    #: Why runs were lost.
    lost: list[str] = field(default_factory=list)

    def result(self) -> Result:
        parts = []
        if self.alone:
            parts.append(f"{self.alone} by itself")
        if self.second:
            parts.append(f"{self.second} failed with a clear message and converged with the next run")
        if self.words:
            parts.append("said: " + " | ".join(dict.fromkeys(self.words)))
        parts += [f"lost: {each}" for each in self.lost]
        if self.given:
            parts.append(f"{self.given} faulty answers")
        return Result(event=self.event, tried=self.tried, survived=self.alone + self.second, recovery="; ".join(parts) or "nothing")


def run(options: Options) -> Iterator[Result]:
    """Yields a result an API, answer and mode. Raises `CommandFailed` when the sandbox itself does not work."""
    with fresh_sandbox("drill-answers", _VARIABLES) as sandbox:
        sandbox.command("up")
        drill = _Drill(sandbox, random.Random(options.seed))
        for name, event in options.sample(drill.events()):
            yield event(_Outcome(name)).result()


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

    def events(self) -> list[tuple[str, Callable[[_Outcome], _Outcome]]]:
        events: list[tuple[str, Callable[[_Outcome], _Outcome]]] = []
        faults = [(api, answer) for api in APIS for answer in _ANSWERS]
        for api, answer in faults:
            rate = ("--api", api, "--answer", answer, "--rate", str(_RATE))
            events.append((f"{api}: {answer}, 5 %, from nothing and destroyed", self._from_nothing(rate)))
        for api, answer in faults:
            # In the middle: an update of this size asks either API some dozens of times, but changes a few things only.
            after = "0" if answer == "409" else str(self._dice.randrange(12))
            burst = ("--api", api, "--answer", answer, "--burst", str(_BURST), "--after", after)
            events.append((f"{api}: {answer}, burst of {_BURST}, a changing update", self._changing(burst)))
        outage = ("--api", CLOUD, "--answer", "503", "--burst", str(_OUTAGE))
        events += [
            ("cloud: 503 for longer than the provider tries again, a changing update", self._changing(outage)),
            ("kubernetes: API server restarted, changing updates", self._restarts),
            ("kubernetes: API server restarted, an update from nothing", self._restart_from_nothing),
            ("credentials: access tokens that live 2 s", self._short_tokens),
            ("credentials: the registry's token expires before the push", self._expired_push),
            ("credentials: the login is revoked in the middle", self._revoked),
        ]
        return events

    # --- events

    def _from_nothing(self, fault: Sequence[str]) -> Callable[[_Outcome], _Outcome]:
        def event(outcome: _Outcome) -> _Outcome:
            self._need(there=False)
            self._tried(outcome, _UP, (*fault, "--seed", str(self._dice.randrange(1000))))
            self._tried(outcome, _DESTROY, (*fault, "--seed", str(self._dice.randrange(1000))))
            return outcome

        return event

    def _changing(self, fault: Sequence[str]) -> Callable[[_Outcome], _Outcome]:
        def event(outcome: _Outcome) -> _Outcome:
            self._need(there=True)
            self._change()
            self._tried(outcome, _UP, fault)
            return outcome

        return event

    def _restarts(self, outcome: _Outcome) -> _Outcome:
        self._need(there=True)
        for _ in range(3):
            self._change()
            seconds = self._dice.uniform(1.0, 8.0)
            self._tried(outcome, _UP, meanwhile=partial(self._restart, seconds))
        return outcome

    def _restart_from_nothing(self, outcome: _Outcome) -> _Outcome:
        self._need(there=False)
        self._tried(outcome, _UP, meanwhile=lambda: self._restart_when_there(self._dice.uniform(0.5, 4.0)))
        return outcome

    def _short_tokens(self, outcome: _Outcome) -> _Outcome:
        self._need(there=False)
        self._sandbox.command("login", "--lifetime", "2")
        try:
            self._tried(outcome, _UP)
            self._change()
            self._tried(outcome, _UP)
        finally:
            self._sandbox.command("login")
        return outcome

    def _expired_push(self, outcome: _Outcome) -> _Outcome:
        self._need(there=False)
        self._sandbox.command("login", "--lifetime", "0.01")
        self._tried(outcome, _UP, between=lambda: self._sandbox.command("login"))
        return outcome

    def _revoked(self, outcome: _Outcome) -> _Outcome:
        def revoke(seconds: float) -> None:
            time.sleep(seconds)
            self._sandbox.command("login", "--revoked")

        for seconds in (1.0, 6.0):
            self._need(there=False)
            self._tried(outcome, _UP, meanwhile=partial(revoke, seconds), between=lambda: self._sandbox.command("login"))
            # An update that was over before its login was has proven nothing, and wants the login back all the same.
            self._sandbox.command("login")
        return outcome

    # --- parts

    def _need(self, *, there: bool) -> None:
        """A stack that is up, or none, before an event."""
        if there != self._up:
            self._pulumi(*(_UP if there else _DESTROY), check=True)
            self._up = there

    def _tried(
        self,
        outcome: _Outcome,
        command: Sequence[str],
        fault: Sequence[str] = (),
        *,
        meanwhile: Callable[[], object] | None = None,
        between: Callable[[], object] | None = None,
    ) -> None:
        """One run with the fault, once more without it where it failed, and a look at what there is then."""
        before = len(self._faults.given())
        if fault:
            self._sandbox.command("faults", "set", *fault)
        beside = threading.Thread(target=meanwhile) if meanwhile else None
        if beside is not None:
            beside.start()
        try:
            first = self._pulumi(*command)
        finally:
            if beside is not None:
                beside.join()
            if fault:
                self._sandbox.command("faults", "clear")
        outcome.tried += 1
        self._up = command == _UP
        outcome.given += len(self._faults.given()) - before
        words = _error(first)
        if first.returncode != 0 and between is not None:
            between()
        if first.returncode != 0 and self._pulumi(*command).returncode != 0:
            # Everything that follows needs a stack that is as it should be.
            third = self._pulumi(*command)
            outcome.lost.append(f"the next run failed, too; the third {'failed' if third.returncode else 'converged'}: {words}")
            return
        if wrong := self._wrong(command):
            outcome.lost.append(wrong)
        elif first.returncode == 0:
            outcome.alone += 1
        elif _UNCLEAR.search(first.stdout + first.stderr) or not _CLEAR.search(first.stdout + first.stderr):
            outcome.lost.append(f"an unclear message: {words}")
        else:
            outcome.second += 1
            outcome.words.append(words)

    def _wrong(self, command: Sequence[str]) -> str:
        """What is not as it should be after a run that said it was; empty when all is."""
        there = self._inventory()
        if command == _DESTROY:
            return f"left behind: {', '.join(there)}" if there else ""
        if there != self._there:
            return difference(self._there, there)
        changes = self._preview()
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

    def _preview(self) -> dict[str, str]:
        return self._sandbox.preview(**self._changes)

    def _restart(self, after: float) -> None:
        time.sleep(after)
        self._sandbox.command("restart-api-server", "--away", "2")

    def _restart_when_there(self, after: float) -> None:
        """As soon as there is a cluster, and a little later."""
        deadline = time.monotonic() + 300
        while not self._sandbox.paths.kubeconfig.exists():
            if time.monotonic() > deadline:
                raise CommandFailed("no cluster came within 300 s")
            time.sleep(0.1)
        self._restart(after)


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
