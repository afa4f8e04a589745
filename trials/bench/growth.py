"""Growth: what previews and updates take with ever more accelerator pools, and what other stacks in the backend cost.

The real engine and program run on a sandbox. `_PROGRAM` lifts the program's limit of ten pools, and the sandbox's ComputeClass gets room
for more than 100 rules. All pools but the first are at 0 nodes, so that the stack grows and not the cluster. Figures are ratios within the
run. What one more pool takes among many is set against what it takes among few: 1 where growth is linear, 3.9 where it is quadratic (of
3, 100 and 300 pools).

Left out: Google's own time for 300 pools (its quotas, and operations of one cluster that wait for each other).
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from components.settings.stack_files import PROJECT_NAME
from sandbox.cli.client import Sandbox, fresh_sandbox, run_command
from sandbox.cli.stack import STACK
from sandbox.host.paths import PROJECT_DIR
from trials.figures import Curve, Figure, Findings, Options

#: Each size larger than the one before; the first and the last two tell whether growth is linear.
POOLS, QUICK_POOLS = (3, 10, 100, 300), (3, 6, 12, 24)
STACKS, QUICK_STACKS = (1, 10, 50), (1, 4, 10)

#: One more pool among many against one more among few: between linear growth (1) and quadratic (3.9).
LINEAR_GOAL = 2.0

#: A preview takes seconds before the first pool, so a hundred times the pools have to take far less than a hundred times as long.
MANY_POOLS_GOAL = 10.0

#: The preview of one stack should not notice other stacks at all; the rest is for noise.
UNSEEN_GOAL = 1.2

_SECONDS = 3600.0

#: The program, with room for more pools than it allows a team.
_PROGRAM = """
import runpy
from components.settings import accelerator_pool
accelerator_pool.MAX_POOLS = {pools}
runpy.run_path({project!r} + "/__main__.py")
"""


@dataclass
class Samples:
    """Seconds of one thing by size, equally many for each size."""

    by_size: dict[int, list[float]] = field(default_factory=dict)

    @classmethod
    def of(cls, sizes: Sequence[int], repeats: int, measure: Callable[[int], float]) -> Samples:
        """Measures the sizes in turn, so that other load on the machine affects all of them."""
        samples = cls()
        for _ in range(repeats):
            for size in sizes:
                samples.add(size, measure(size))
        return samples

    def add(self, size: int, seconds: float) -> None:
        self.by_size.setdefault(size, []).append(seconds)

    def ratios(self) -> list[float]:
        """The largest size against the smallest."""
        pairs = zip(self.by_size[max(self.by_size)], self.by_size[min(self.by_size)], strict=True)
        return [large / small for large, small in pairs]

    @property
    def compared(self) -> tuple[int, int, int]:
        """Sizes: the smallest, and the two largest."""
        sizes = sorted(self.by_size)
        return sizes[0], sizes[-2], sizes[-1]

    def one_more(self) -> float | None:
        """What one more takes between the two largest sizes, against what it takes from the smallest size to the second largest.

        Uses the quickest sample of each size, since other load on the machine only adds time. None where the smaller of the two
        differences is within the noise, so that a ratio of it would mean nothing.
        """
        few, some, many = self.compared
        low, middle, high = (min(self.by_size[size]) for size in (few, some, many))
        noise = sum((max(self.by_size[size]) - min(self.by_size[size])) / 2 for size in (few, some))
        if middle - low <= noise:
            return None
        return ((high - middle) / (many - some)) / ((middle - low) / (some - few))

    def curve(self) -> list[tuple[float, float, float]]:
        """Against the median of the smallest size."""
        base = statistics.median(self.by_size[min(self.by_size)])
        return [
            (float(size), statistics.median(each) / base, (max(each) - min(each)) / 2 / base) for size, each in sorted(self.by_size.items())
        ]


def run(options: Options) -> Iterator[Findings]:
    pools, stacks = (QUICK_POOLS, QUICK_STACKS) if options.quick else (POOLS, STACKS)
    repeats = 1 if options.quick else options.repeats
    with fresh_sandbox("bench-growth") as sandbox:
        sandbox.command("up")
        yield of_stacks(sandbox, stacks, repeats)
        lift_rule_limit(sandbox, max(pools))
        project = copy_of_project(sandbox.state / "project-of-pools")
        (project / "__main__.py").unlink()
        (project / "__main__.py").write_text(_PROGRAM.format(project=str(PROJECT_DIR), pools=max(pools)))
        yield of_pools(Stack(sandbox, project), pools, repeats)


# --- stacks


def write_stack_files(folder: Path, count: int) -> None:
    """dev's and prod's settings in turn, as those of `count` other stacks."""
    texts = [(PROJECT_DIR / f"Pulumi.{name}.yaml").read_text() for name in ("dev", "prod")]
    for index in range(count):
        (folder / f"Pulumi.{_environment_name(index)}.yaml").write_text(texts[index % 2])


def _environment_name(index: int) -> str:
    return f"env-{index:03d}"


class Stack:
    """The sandbox's stack as `pulumi` finds it from a project's folder, each command with the seconds that it took."""

    def __init__(self, sandbox: Sandbox, project: Path) -> None:
        self._project = project
        self._file = sandbox.state / "Pulumi.bench.yaml"
        self._variables = {**sandbox.shell_environment(), "PULUMI_OPTION_CONFIG_FILE": str(self._file)}
        self._document: dict[str, Any] = yaml.safe_load(sandbox.stack_config.read_text())

    def preview(self, **settings: Any) -> float:
        """A preview that has to find nothing to change. Raises `CommandFailed` when it does."""
        return self._timed(settings, "preview", "--expect-no-changes")

    def update(self, **settings: Any) -> float:
        return self._timed(settings, "up", "--yes", "--skip-preview")

    def pools(self, count: int, *, last_maximum: int = 1) -> list[dict[str, Any]]:
        """The stack's own first pool, and GPU pools without nodes below it."""
        first = self._document["config"][f"{PROJECT_NAME}:acceleratorPools"][0]
        return [dict(first), *(gpu_pool(index, last_maximum if index == count - 1 else 1) for index in range(1, count))]

    def _timed(self, settings: Mapping[str, Any], *command: str) -> float:
        changed = {f"{PROJECT_NAME}:{key}": value for key, value in settings.items()}
        document = {**self._document, "config": self._document["config"] | changed}
        self._file.write_text(yaml.safe_dump(document))
        started = time.monotonic()
        run_command(
            ["pulumi", *command, "--stack", STACK, "--non-interactive", "--suppress-outputs"],
            self._variables,
            check=True,
            timeout=_SECONDS,
            cwd=self._project,
        )
        return time.monotonic() - started


def of_stacks(sandbox: Sandbox, sizes: Sequence[int], repeats: int) -> Findings:
    """Previews of one stack beside ever more stack files in its project and stacks in its backend."""
    project = copy_of_project(sandbox.state / "project")
    stack = Stack(sandbox, project)
    # The first one after an update fills caches for all the others.
    stack.preview()

    def preview(size: int) -> float:
        # Beside the stack itself.
        _neighbours(sandbox, project, size - 1)
        return stack.preview()

    samples = Samples.of(sizes, repeats, preview)
    _neighbours(sandbox, project, 0)
    few, *_, many = sizes
    return Findings(
        figures=[
            _against_few(
                f"preview of one of {many} stacks of a backend, of {few} being 1",
                samples,
                UNSEEN_GOAL,
                "as many stack files in the project",
            )
        ],
        curves=[
            Curve(
                name="Preview of one stack beside others in project and backend",
                x_label="stacks",
                y_label=f"times as long as with {few}",
                series={"preview, nothing to change": samples.curve()},
            )
        ],
    )


def copy_of_project(folder: Path) -> Path:
    """A project whose stack files are the bench's own; the program in it is this one, by symbolic links."""
    folder.mkdir(parents=True)
    for entry in PROJECT_DIR.iterdir():
        if entry.name == ".venv" or not entry.name.startswith((".", "Pulumi.")):
            (folder / entry.name).symlink_to(entry)
    (folder / "Pulumi.yaml").write_text((PROJECT_DIR / "Pulumi.yaml").read_text())
    return folder


def _neighbours(sandbox: Sandbox, project: Path, count: int) -> None:
    """Leaves exactly `count` other stacks with a stack file each beside the sandbox's own, of which they are copies."""
    own = sandbox.paths.pulumi_backend / ".pulumi" / "stacks" / PROJECT_NAME / f"{STACK}.json"
    for stale in (*project.glob("Pulumi.env-*.yaml"), *own.parent.glob("env-*.json")):
        stale.unlink()
    write_stack_files(project, count)
    text = own.read_text()
    for index in range(count):
        name = _environment_name(index)
        (own.parent / f"{name}.json").write_text(text.replace(f"urn:pulumi:{STACK}::", f"urn:pulumi:{name}::"))


# --- pools


def lift_rule_limit(sandbox: Sandbox, rules: int) -> None:
    """Lets the sandbox's ComputeClass have so many rules; the real one may have 100."""
    path = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/priorities/maxItems"
    patch = json.dumps([{"op": "replace", "path": path, "value": max(rules, 100)}])
    sandbox.kubectl("patch", "crd", "computeclasses.cloud.google.com", "--type=json", "--patch", patch)


def of_pools(stack: Stack, sizes: Sequence[int], repeats: int) -> Findings:
    """A preview with nothing to change and an update of one pool, at each size; and what making the pools took."""
    previews, updates = Samples(), Samples()
    made: dict[int, float] = {}
    before = 0
    for size in sizes:
        made[size] = stack.update(acceleratorPools=stack.pools(size)) / (size - before)
        before = size
        for index in range(repeats):
            previews.add(size, stack.preview(acceleratorPools=stack.pools(size, last_maximum=1 + index % 2)))
            # Once 2, once 1: the one thing that changes.
            updates.add(size, stack.update(acceleratorPools=stack.pools(size, last_maximum=2 - index % 2)))
    few, *_, some, many = sizes
    preview_more, update_more = _one_more("preview: one more pool", previews), _one_more("update: one more pool", updates)
    return Findings(
        figures=[
            _against_few(f"preview with {many} pools and nothing to change, with {few} being 1", previews, MANY_POOLS_GOAL),
            *preview_more.figures,
            _against_few(f"update of one of {many} pools, of {few} being 1", updates, MANY_POOLS_GOAL),
            *update_more.figures,
            Figure(
                name=f"making a pool on the way to {many}, on the way to {some} being 1",
                samples=[made[many] / made[some]],
                unit="x",
                goal=LINEAR_GOAL,
                note="an update that makes them, by pool",
            ),
        ],
        curves=[
            Curve(
                name="Preview and update with ever more accelerator pools",
                x_label="accelerator pools",
                y_label=f"times as long as with {few}",
                series={"preview, nothing to change": previews.curve(), "update of one pool": updates.curve()},
            )
        ],
        lines=[
            *preview_more.lines,
            *update_more.lines,
            f"pools: {', '.join(map(str, sizes))}, all but the first without nodes; the limits of 10 pools (the program's) and of "
            "100 rules (the ComputeClass's) were lifted",
        ],
    )


def gpu_pool(index: int, maximum: int) -> dict[str, Any]:
    """A pool as a stack file has it, without nodes until a replica asks for one."""
    return {
        "name": f"rung-{index:03d}",
        "machineType": "g2-standard-4",
        "provisioning": ("spot", "on-demand")[index % 2],
        "minNodeCount": 0,
        "maxNodeCount": maximum,
    }


def _against_few(name: str, samples: Samples, goal: float, note: str = "") -> Figure:
    return Figure(name=name, samples=samples.ratios(), unit="x", goal=goal, note=note)


def _one_more(what: str, samples: Samples) -> Findings:
    few, some, many = samples.compared
    name = f"{what} from {some} to {many}, from {few} to {some} being 1"
    found = samples.one_more()
    if found is None:
        return Findings(lines=[f"{name}: not measured, since what grows from {few} to {some} is within the noise"])
    figure = Figure(name=name, samples=[found], unit="x", goal=LINEAR_GOAL, note="1 is linear; of the quickest samples")
    return Findings(figures=[figure])
