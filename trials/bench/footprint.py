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
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from sandbox.cli.client import Sandbox, fresh_sandbox
from sandbox.host.paths import PROJECT_DIR
from trials.figures import Figure, Findings, Options

#: Three replicas have three times the pods, and one control plane.
REPLICAS = 3

#: MB.
MEMORY_GOAL = 700

_COLD_SECONDS = 3 * 3600.0

#: A file as it is: size, and what changes with its content.
_File = tuple[int, int, int]


_FIRST, _SECOND = "image bytes of a first `up`", "image bytes of an unchanged second `up`"
_WARM = "warm `make up` of a sandbox that is down, an unchanged second one being 1"


def run(options: Options) -> Iterator[Findings]:
    samples: dict[str, list[float]] = defaultdict(list)
    lines: list[str] = []
    for _ in range(1 if options.quick else options.repeats):
        with fresh_sandbox("bench-footprint") as sandbox:
            lines = _measure(sandbox, samples)
    yield _findings(samples, lines)
    if options.cold:
        yield cold_against_warm()


def _measure(sandbox: Sandbox, samples: dict[str, list[float]]) -> list[str]:
    """Adds one sample to each figure; returns where this sandbox's memory went."""
    empty = files_below(_image_folders(sandbox))
    warm = _up(sandbox)
    first = files_below(_image_folders(sandbox))
    unchanged = _up(sandbox)
    samples[_FIRST].append(moved(empty, first))
    samples[_SECOND].append(moved(first, files_below(_image_folders(sandbox))))
    samples[_WARM].append(warm / unchanged)
    lines = []
    for replicas in (1, REPLICAS):
        sandbox.command("scale", str(replicas))
        memory, processes = usage(sandbox.processes())
        samples[_memory(replicas)].append(sum(memory.values()))
        samples[_processes(replicas)].append(sum(processes.values()))
        lines.append(_by_program(replicas, memory, processes))
    return lines


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


def _findings(samples: Mapping[str, list[float]], lines: list[str]) -> Findings:
    one, many = samples[_memory(1)], samples[_memory(REPLICAS)]
    figures = [
        Figure(name=_FIRST, samples=samples[_FIRST], unit="bytes"),
        Figure(name=_SECOND, samples=samples[_SECOND], unit="bytes", goal=0),
        Figure(name=_memory(1), samples=one, unit="MB", goal=MEMORY_GOAL, note="PSS"),
        Figure(name=_memory(REPLICAS), samples=many, unit="MB", note="PSS"),
        Figure(
            name=f"memory with {_replicas(REPLICAS)}, with 1 being 1", samples=[b / a for a, b in zip(one, many, strict=True)], unit="x"
        ),
        *(Figure(name=_processes(count), samples=samples[_processes(count)], unit="processes") for count in (1, REPLICAS)),
        Figure(name=_WARM, samples=samples[_WARM], unit="x"),
    ]
    return Findings(figures=figures, lines=lines)


def _memory(replicas: int) -> str:
    return f"memory of the sandbox with {_replicas(replicas)}"


def _processes(replicas: int) -> str:
    return f"processes of the sandbox with {_replicas(replicas)}"


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
