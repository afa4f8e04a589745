"""A whole `up`, from nothing to the first answered chat, on the sandbox's clock.

Against (a) the critical path of the stack's own resource graph and (b) the walkthrough's commands in their order, both computed
from the table that the clock runs by. Measured from the start of `pulumi up` on an empty stack until it has ended and the service
has answered one chat (of one token, since tokens are not on the clock), whichever is later.

The sandbox's own start is left out, since Google exists before anyone begins; so is what `python -m sandbox up` does
afterwards (waiting until every replica is where it belongs, the smoke test).
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import datetime

import requests
import yaml

from components.settings.schema import defaults
from components.settings.stack_files import PROJECT_NAME
from sandbox.cli.client import CommandFailed, Sandbox, fresh_sandbox, run_command
from sandbox.cli.stack_update import PARALLEL
from sandbox.host.addresses import LISTEN_ADDRESSES
from sandbox.providers.docker import IMAGE
from trials.bench import walkthrough
from trials.bench.critical_path import Graph, Path, critical_path
from trials.bench.stack_graph import Resource, stack_graph
from trials.figures import Figure, Findings, Options

#: Google's seconds in one of this machine's. What is real in an `up` (engine, program, control plane: some seconds of this machine's)
#: counts this many times; at 4 it is a few hundredths of the critical path's quarter of an hour, and a run takes 4 minutes.
SPEED = 4.0
_QUICK_SPEED = 20.0

#: A run takes 4 to 5 minutes and differed from the next by a thousandth, so two are enough to notice a slowdown of 30 %
#: (`bench.comparison`, whose margin for two samples is the widest).
_MOST_REPEATS = 2

_UP = ("--yes", "--skip-preview", "--non-interactive", "--suppress-outputs")

#: Between two attempts to get an answer, in seconds of this machine's clock.
_ASK_SECONDS = 0.25
_GIVE_UP_SECONDS = 1800.0

_ON_TIME_GOAL = 1.05
_FASTER_GOAL = 1.5


@dataclass(frozen=True, kw_only=True)
class Run:
    """One `up`; times are Google's seconds."""

    seconds: float
    #: When the first answer came, which may be before `pulumi up` has ended.
    answered_at: float
    #: When the program's first resource began: until then Python and the engine start.
    first_resource_at: float
    #: The node pool of the pod that gave it.
    pool: str
    resources: Sequence[Resource]


def run(options: Options) -> Iterator[Findings]:
    """Raises `CommandFailed` and `ValueError` where there is no `up` to be measured."""
    speed = _QUICK_SPEED if options.quick else SPEED
    repeats = 1 if options.quick else min(options.repeats, _MOST_REPEATS)
    runs = [measure(speed) for _ in range(repeats)]
    yield findings(runs, speed)


def measure(speed: float) -> Run:
    with fresh_sandbox("bench-up", {"SANDBOX_SPEED": f"{speed:g}"}) as sandbox, ThreadPoolExecutor(1) as asking:
        sandbox.command("up", "--prepare")
        command, environment = ["pulumi", "up", PARALLEL, *_UP], sandbox.shell_environment()
        stop = threading.Event()
        began, began_date = time.monotonic(), time.time()
        answer = asking.submit(_first_answer, _service_url(sandbox), stop)
        try:
            run_command(command, environment, check=True, timeout=_GIVE_UP_SECONDS)
            ended = time.monotonic()
            wait([answer], _GIVE_UP_SECONDS)
        finally:
            stop.set()
        answered, pool = answer.result()
        resources = json.loads(sandbox.pulumi("stack", "export").stdout)["deployment"]["resources"]
        return Run(
            seconds=(max(ended, answered) - began) * speed,
            answered_at=(answered - began) * speed,
            first_resource_at=(_first_creation(resources) - began_date) * speed,
            pool=pool,
            resources=resources,
        )


def _first_creation(resources: Sequence[Resource]) -> float:
    """Unix time of the first resource but the stack itself, which is there before the program runs."""
    return min(datetime.fromisoformat(each["created"]).timestamp() for each in resources if each.get("custom"))


def findings(runs: Sequence[Run], speed: float) -> Findings:
    """Ratios and their explanation; all runs are of one program, so the first one's graph is that of all."""
    graph = stack_graph(runs[0].resources)
    path = critical_path(graph.activities)
    pool, by_hand = walkthrough.answered()
    took = [each.seconds for each in runs]
    figures = [
        Figure(
            name="`up`, against its critical path",
            samples=[each / path.seconds for each in took],
            unit="x",
            goal=_ON_TIME_GOAL,
            note=f"critical path {_minutes(path.seconds)}, clock {speed:g} times as fast",
        ),
        Figure(
            name="the walkthrough's commands, against `up`",
            samples=[by_hand / each for each in took],
            unit="x",
            goal=_FASTER_GOAL,
            higher_is_better=True,
            note=f"by hand {_minutes(by_hand)}, from the same table",
        ),
    ]
    seen = ", ".join(f"{each.pool} after {_minutes(each.answered_at)}" for each in runs)
    in_turn = critical_path(stack_graph(builds_in_turn(runs[0].resources)).activities).seconds
    lines = [
        f"Critical path of `up`, {_minutes(path.seconds)} on Google's clock: {_shares(graph.activities, path)}.",
        *(f"The program's first resource began after {each.first_resource_at / path.seconds:.1%} of the critical path." for each in runs),
        f"The first answer comes from {graph.pool} by the table; measured: {seen}.",
        f"By hand, {_minutes(by_hand)}: {_by_hand(pool, by_hand)}.",
        "By hand: nobody needs time to type, pools are made beside the builds (`--async`), builds run one after the other, and the pod "
        "lands where it answers soonest.",
        "Assumed: the machine that runs `up` builds two images at once, each as fast as Cloud Build builds one. If they took turns the "
        f"critical path would be {_minutes(in_turn)} (by hand {by_hand / in_turn:.2f} times as long).",
    ]
    return Findings(figures=figures, lines=lines)


def _shares(graph: Graph, path: Path) -> str:
    steps = [graph[key] for key in path.keys if graph[key].seconds > 0]
    return ", ".join(f"{each.name} {each.seconds:.0f} s ({each.seconds / path.seconds:.0%})" for each in steps)


def _by_hand(pool: str, answered: float) -> str:
    plan = [each for each in walkthrough.schedule() if each.prompt > each.begin]
    waits = [f"{each.command.text} {each.prompt - each.begin:.0f} s" for each in plan]
    return ", ".join([*waits, f"pull and server's start on {pool} {answered - plan[-1].prompt:.0f} s"])


def builds_in_turn(resources: Sequence[Resource]) -> list[Resource]:
    """The same stack with each image waiting for the one before it."""
    result: list[Resource] = []
    before: list[str] = []
    for each in resources:
        if each["type"] == IMAGE:
            each = {**each, "dependencies": [*(each.get("dependencies") or []), *before]}
            before = [each["urn"]]
        result.append(each)
    return result


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} min"


# --- the measurement


def _service_url(sandbox: Sandbox) -> str:
    """Known before there is a service: the sandbox's first load balancer has the first address, and the port is a setting."""
    config = yaml.safe_load(sandbox.stack_config.read_text())["config"]
    return f"http://{LISTEN_ADDRESSES[0]}:{config[f'{PROJECT_NAME}:servicePort']}/v1"


def _first_answer(service_url: str, stop: threading.Event) -> tuple[float, str]:
    """Asks again and again; when (monotonic) a chat was answered, and by which pool. Raises `CommandFailed` when it is stopped before."""
    body = {"model": defaults()["model"], "messages": [{"role": "user", "content": "ping"}], "max_tokens": 1}
    while not stop.wait(_ASK_SECONDS):
        try:
            response = requests.post(f"{service_url}/chat/completions", json=body, timeout=10)
        except requests.RequestException:
            continue
        if response.ok and response.json().get("choices"):
            return time.monotonic(), response.headers.get("x-sandbox-pool", "")
    raise CommandFailed(f"{service_url} answered no chat within {_GIVE_UP_SECONDS:.0f} s of `pulumi up`'s end")
