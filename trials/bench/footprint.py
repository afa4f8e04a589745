"""What a sandbox moves, holds and takes: image bytes, memory and processes, and the time of `make up` cold, warm and unchanged.

- Bytes: of the files that an `up` made or changed in the sandbox's image store and in its registry. Where a Docker daemon builds, the
  registry's are what was pushed, layers and manifests; elsewhere nothing is pushed, and the store's are what the Dockerfiles place. Bases
  are not among them: the sandbox pulls none. What real bases cost is in docs/images.md.
- Memory: PSS, which counts a page that several processes share once, of all processes of the sandbox. Processes: the same ones.
- `make up` without its virtual environment: the command that it runs, `python -m sandbox up`.

Left out: the page cache, and what `pulumi` and the program take while they run.
"""

from __future__ import annotations

import re
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sandbox.cli.client import Sandbox, fresh_sandbox
from sandbox.host.paths import PROJECT_DIR
from trials.bench.figures import Figure, Findings, Options

#: Three replicas have three times the pods, and one control plane.
REPLICAS = 3

_COLD_SECONDS = 3 * 3600.0

#: A file as it is: size, and what changes with its content.
_File = tuple[int, int, int]


@dataclass
class Samples:
    """One element a fresh sandbox in each list."""

    first_bytes: list[float] = field(default_factory=list)
    second_bytes: list[float] = field(default_factory=list)
    memory: dict[int, list[float]] = field(default_factory=lambda: {1: [], REPLICAS: []})
    processes: dict[int, list[float]] = field(default_factory=lambda: {1: [], REPLICAS: []})
    warm_against_unchanged: list[float] = field(default_factory=list)
    #: MB and number of processes by program, in the last sandbox.
    by_program: dict[int, tuple[Mapping[str, float], Mapping[str, int]]] = field(default_factory=dict)


def run(options: Options) -> Iterator[Findings]:
    samples = Samples()
    for _ in range(1 if options.quick else options.repeats):
        with fresh_sandbox("bench-footprint") as sandbox:
            _measure(sandbox, samples)
    yield _findings(samples)
    if options.cold:
        yield cold_against_warm()


def _measure(sandbox: Sandbox, samples: Samples) -> None:
    empty = files_below(_image_folders(sandbox))
    warm = _up(sandbox)
    first = files_below(_image_folders(sandbox))
    unchanged = _up(sandbox)
    second = files_below(_image_folders(sandbox))
    samples.first_bytes.append(moved(empty, first))
    samples.second_bytes.append(moved(first, second))
    samples.warm_against_unchanged.append(warm / unchanged)
    for replicas in (1, REPLICAS):
        sandbox.command("scale", str(replicas))
        memory, processes = usage(sandbox.processes())
        samples.memory[replicas].append(sum(memory.values()))
        samples.processes[replicas].append(sum(processes.values()))
        samples.by_program[replicas] = memory, processes


def _up(sandbox: Sandbox, timeout: float = 1800.0) -> float:
    started = time.monotonic()
    sandbox.command("up", timeout=timeout)
    return time.monotonic() - started


# --- bytes


def _image_folders(sandbox: Sandbox) -> list[Path]:
    return [sandbox.state / "images", sandbox.state / "registry" / "data"]


def files_below(folders: Iterable[Path]) -> dict[Path, _File]:
    """Every file below the folders, of which none need be there."""
    found = {}
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file() and not path.is_symlink():
                status = path.stat()
                found[path] = (status.st_size, status.st_mtime_ns, status.st_ino)
    return found


def moved(before: Mapping[Path, _File], after: Mapping[Path, _File]) -> int:
    """Bytes of the files that are new or changed."""
    return sum(file[0] for path, file in after.items() if before.get(path) != file)


# --- memory


def usage(pids: Iterable[int], proc: Path = Path("/proc")) -> tuple[dict[str, float], Counter[str]]:
    """MB of PSS and number of processes, by program; a process that ends meanwhile counts for nothing."""
    memory: dict[str, float] = {}
    processes: Counter[str] = Counter()
    for pid in pids:
        try:
            found = re.search(r"^Pss:\s+(\d+) kB", (proc / str(pid) / "smaps_rollup").read_text(), re.MULTILINE)
            name = program((proc / str(pid) / "cmdline").read_bytes())
        except OSError:
            continue
        if found is None or not name:
            continue
        memory[name] = memory.get(name, 0.0) + int(found[1]) * 1024 / 1e6
        processes[name] += 1
    return memory, processes


def program(command_line: bytes) -> str:
    """What a process runs: of an interpreter the script or the module, else the program; empty for a process that ended."""
    arguments = [each.decode(errors="replace") for each in command_line.rstrip(b"\0").split(b"\0")]
    name = Path(arguments[0]).name
    if re.fullmatch(r"python[\d.]*|(ba|da)?sh", name):
        if "-m" in arguments[1:-1]:
            return arguments[arguments.index("-m") + 1]
        script = next((each for each in arguments[1:] if not each.startswith("-")), name)
        return Path(script).name
    return name


# --- findings


def _findings(samples: Samples) -> Findings:
    ratios = list(zip(samples.memory[REPLICAS], samples.memory[1], strict=True))
    figures = [
        Figure(name="image bytes of a first `up`", samples=samples.first_bytes, unit="bytes"),
        Figure(name="image bytes of an unchanged second `up`", samples=samples.second_bytes, unit="bytes", goal=0),
        *(
            Figure(name=f"memory of the sandbox with {_replicas(count)}", samples=samples.memory[count], unit="MB", note="PSS")
            for count in (1, REPLICAS)
        ),
        Figure(name=f"memory with {_replicas(REPLICAS)}, with 1 being 1", samples=[many / one for many, one in ratios], unit="x"),
        *(
            Figure(name=f"processes of the sandbox with {_replicas(count)}", samples=samples.processes[count], unit="processes")
            for count in (1, REPLICAS)
        ),
        Figure(
            name="warm `make up` of a sandbox that is down, an unchanged second one being 1",
            samples=samples.warm_against_unchanged,
            unit="x",
        ),
    ]
    return Findings(figures=figures, lines=[_by_program(count, *samples.by_program[count]) for count in (1, REPLICAS)])


def _by_program(replicas: int, memory: Mapping[str, float], processes: Mapping[str, int]) -> str:
    largest = sorted(memory, key=lambda name: memory[name], reverse=True)
    parts = []
    for name in largest:
        size = f"{memory[name]:.0f} MB" if memory[name] >= 1 else "under 1 MB"
        parts.append(f"{name} {size}" + (f" in {processes[name]}" if processes[name] > 1 else ""))
    return f"memory with {_replicas(replicas)}: {', '.join(parts)}"


def _replicas(count: int) -> str:
    return "1 replica" if count == 1 else f"{count} replicas"


def cold_against_warm() -> Findings:
    """An `up` with no cache, and one with the cache that it left."""
    cache = PROJECT_DIR / ".sandbox" / "bench-cold-cache"
    remove(cache)
    try:
        with fresh_sandbox("bench-cold", {"SANDBOX_CACHE": str(cache)}) as sandbox:
            cold = _up(sandbox, _COLD_SECONDS)
            sandbox.command("down")
            warm = _up(sandbox)
    finally:
        remove(cache)
    return Findings(
        figures=[
            Figure(
                name="cold `make up`, which builds every tool, a warm one being 1",
                samples=[cold / warm],
                unit="x",
                note="downloads included, the virtual environment not",
            )
        ]
    )


def remove(folder: Path) -> None:
    """With what is in it, be it read-only, as Go's module cache is."""
    if not folder.exists():
        return
    for path in (folder, *folder.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o700)
    shutil.rmtree(folder)
