"""A whole `up`, from nothing to the first answered chat, on the sandbox's clock.

Against (a) the critical path of the stack's own resource graph and (b) the walkthrough's commands in their order, both computed
from the table that the clock runs by. Measured from the start of `pulumi up` on an empty stack until it has ended and the service
has answered one chat (of one token, since tokens are not on the clock), whichever is later.

The sandbox's own start is left out, since Google is there before anybody begins; so is what `python -m sandbox up` does
afterwards (waiting until every replica is where it belongs, the smoke test).
"""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

import requests
import yaml

from components.settings.stack_files import PROJECT_NAME
from sandbox.cli.client import CommandFailed, Sandbox, fresh_sandbox
from sandbox.cli.stack_update import PARALLEL
from sandbox.host.addresses import LISTEN_ADDRESSES
from sandbox.host.paths import PROJECT_DIR
from sandbox.providers.docker import IMAGE
from trials.bench import walkthrough
from trials.bench.critical_path import Graph, Path, critical_path, longest_paths
from trials.bench.figures import Figure, Findings, Options
from trials.bench.stack_graph import Resource, StackGraph, stack_graph

#: Google's seconds in one of this machine's. What is real in an `up` (engine, program, control plane: some seconds of this machine's)
#: counts this many times; at 4 it is a few hundredths of the critical path's quarter of an hour, and a run takes 4 minutes.
SPEED = 4.0
_QUICK_SPEED = 20.0

#: A run takes 4 to 5 minutes and differed from the next by a thousandth, so two are enough to notice a slowdown of 30 %
#: (`bench.comparison`, whose margin for two samples is the widest).
_MOST_REPEATS = 2

#: Between two attempts to get an answer, in seconds of this machine's clock.
_ASK_SECONDS = 0.25
_GIVE_UP_SECONDS = 1800.0

#: How many paths the report names besides the critical one.
_OTHER_PATHS = 3

_ON_TIME_GOAL = 1.05
_FASTER_GOAL = 1.5


@dataclass(frozen=True, kw_only=True)
class Run:
    """One `up`; times are Google's seconds."""

    seconds: float
    #: Of the first answer, which may come before `pulumi up` has ended.
    answered_at: float
    #: Of the program's first resource: until then Python and the engine start.
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
    with fresh_sandbox("bench-up", {"SANDBOX_SPEED": f"{speed:g}"}) as sandbox:
        sandbox.command("up", "--prepare")
        environment = sandbox.shell_environment()
        asking = _Asking(_service_url(sandbox))
        began, began_date = time.monotonic(), time.time()
        asking.start()
        try:
            _pulumi_up(environment)
            ended = time.monotonic()
            answer = asking.wait()
        finally:
            asking.stop()
        resources = json.loads(sandbox.pulumi("stack", "export").stdout)["deployment"]["resources"]
        return Run(
            seconds=(max(ended, answer.at) - began) * speed,
            answered_at=(answer.at - began) * speed,
            first_resource_at=(_first_creation(resources) - began_date) * speed,
            pool=answer.pool,
            resources=resources,
        )


def _first_creation(resources: Sequence[Resource]) -> float:
    """Unix time of the first resource but the stack itself, which is there before the program runs."""
    return min(datetime.fromisoformat(each["created"]).timestamp() for each in resources if each.get("custom"))


def findings(runs: Sequence[Run], speed: float) -> Findings:
    """Ratios and their explanation; all runs are of one program, so the first one's graph is everyone's."""
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
    lines = [
        f"Critical path of `up`, {_minutes(path.seconds)} on Google's clock: {_shares(graph.activities, path)}.",
        *_others(graph.activities, path),
        *(_overhead(each, path) for each in runs),
        _where(graph, runs),
        f"By hand, {_minutes(by_hand)}: {_by_hand(pool, by_hand)}.",
        "By hand nobody types, pools come beside the builds (`--async`), builds one after the other, and the pod lands where it answers "
        "soonest.",
        _sensitivity(runs[0].resources, by_hand),
    ]
    return Findings(figures=figures, lines=lines)


# --- what the lines say


def _shares(graph: Graph, path: Path) -> str:
    steps = [graph[key] for key in path.keys if graph[key].seconds > 0]
    return ", ".join(f"{each.name} {each.seconds:.0f} s ({each.seconds / path.seconds:.0%})" for each in steps)


def _others(graph: Graph, path: Path) -> Iterator[str]:
    for other in islice(longest_paths(graph), 1, 1 + _OTHER_PATHS):
        steps = ", ".join(graph[key].name for key in other.keys if graph[key].seconds > 0)
        yield f"Next-longest path, {path.seconds - other.seconds:.0f} s of slack: {steps}."


def _overhead(run: Run, path: Path) -> str:
    first = run.first_resource_at / path.seconds
    rest = run.seconds / path.seconds - 1 - first
    return f"Over the path: {first:.1%} of it until the program's first resource, {rest:.1%} from there to the end."


def _where(graph: StackGraph, runs: Sequence[Run]) -> str:
    """The pod's pool by the table, and where pods really were."""
    seen = ", ".join(f"{each.pool} after {_minutes(each.answered_at)}" for each in runs)
    return f"The first answer comes from {graph.pool} by the table; measured: {seen}."


def _by_hand(pool: str, answered: float) -> str:
    plan = [each for each in walkthrough.schedule() if each.prompt > each.begin]
    waits = [f"{each.command.text} {each.prompt - each.begin:.0f} s" for each in plan]
    return ", ".join([*waits, f"pull and server's start on {pool} {answered - plan[-1].prompt:.0f} s"])


def _sensitivity(resources: Sequence[Resource], by_hand: float) -> str:
    """What the comparison is when the guess behind it is wrong: a machine that cannot build two images at once."""
    in_turn = critical_path(stack_graph(builds_in_turn(resources)).activities).seconds
    prebuilt = stack_graph(without_builds(resources)).activities
    path = critical_path(prebuilt)
    return (
        "Assumed: whoever runs `up` builds two images at once, each as fast as Cloud Build does one. "
        f"If they took turns the critical path would be {_minutes(in_turn)} (by hand {by_hand / in_turn:.2f} times as long); "
        f"with images of another stack (`imagesFrom`) it is {_minutes(path.seconds)}: {_shares(prebuilt, path)}."
    )


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


def without_builds(resources: Sequence[Resource]) -> list[Resource]:
    """The same stack with images that are there; what waits for them waits for nothing of theirs."""
    images = {each["urn"] for each in resources if each["type"] == IMAGE}
    return [
        {**each, "dependencies": [urn for urn in each.get("dependencies") or [] if urn not in images]}
        for each in resources
        if each["urn"] not in images
    ]


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} min"


# --- the measurement


def _pulumi_up(environment: Mapping[str, str]) -> None:
    result = subprocess.run(
        ["pulumi", "up", PARALLEL, "--yes", "--skip-preview", "--non-interactive", "--suppress-outputs"],
        cwd=PROJECT_DIR,
        env=dict(environment),
        capture_output=True,
        text=True,
        timeout=_GIVE_UP_SECONDS,
    )
    if result.returncode != 0:
        raise CommandFailed(f"`pulumi up` ended with {result.returncode}\n{result.stdout}\n{result.stderr}")


def _service_url(sandbox: Sandbox) -> str:
    """Known before there is a service: the sandbox's first load balancer has the first address, and the port is a setting."""
    config = yaml.safe_load(sandbox.stack_config.read_text())["config"]
    return f"http://{LISTEN_ADDRESSES[0]}:{config[f'{PROJECT_NAME}:servicePort']}/v1"


@dataclass(frozen=True, kw_only=True)
class _Answer:
    at: float
    pool: str


class _Asking:
    """Asks again and again until the service answers a chat."""

    def __init__(self, service_url: str) -> None:
        self._url = f"{service_url}/chat/completions"
        self._stopping = threading.Event()
        self._answered = threading.Event()
        self._answer: _Answer | None = None
        self._thread = threading.Thread(target=self._run, name="asks for a chat", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wait(self) -> _Answer:
        """Raises `CommandFailed` when nothing has answered for long."""
        self._answered.wait(_GIVE_UP_SECONDS)
        if self._answer is None:
            raise CommandFailed(f"{self._url} answered no chat within {_GIVE_UP_SECONDS:.0f} s of `pulumi up`'s end")
        return self._answer

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        body = {"model": "Qwen/Qwen2-1.5B", "messages": [{"role": "user", "content": "ping"}], "max_tokens": 1}
        while not self._stopping.wait(_ASK_SECONDS):
            try:
                response = requests.post(self._url, json=body, timeout=10)
            except requests.RequestException:
                continue
            if response.ok and response.json().get("choices"):
                self._answer = _Answer(at=time.monotonic(), pool=response.headers.get("x-sandbox-pool", ""))
                self._answered.set()
                return
