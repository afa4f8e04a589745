"""Footprint's counting: bytes of what is new or changed, memory by program, and processes that end while they are counted."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from sandbox.cli.client import Sandbox
from trials.bench import footprint
from trials.bench.footprint import files_below, moved, program, remove, usage


def test_bytes_are_those_of_new_and_changed_files_only(tmp_path: Path) -> None:
    store, registry = tmp_path / "images", tmp_path / "registry"
    store.mkdir()
    (store / "stays").write_bytes(b"x" * 100)
    (store / "changes").write_bytes(b"x" * 10)
    before = files_below([store, registry])
    assert moved(before, files_below([store, registry])) == 0
    registry.mkdir()
    (registry / "blob").write_bytes(b"x" * 1000)
    (store / "coming").write_bytes(b"y" * 10)
    # As the store does it: a file of the same size in the place of the old one.
    (store / "coming").replace(store / "changes")
    (store / "link").symlink_to(registry / "blob")
    assert moved(before, files_below([store, registry])) == 1010


@pytest.mark.parametrize(
    ("command_line", "name"),
    [
        (b"/var/tmp/cache/bin/etcd\0--data-dir=/x\0", "etcd"),
        (b"/x/.venv/bin/python\0-m\0sandbox.daemon\0", "sandbox.daemon"),
        (b"/usr/bin/python3.11\0/x/vllm\0serve\0", "vllm"),
        (b"/bin/sh\0/x/fungibility-entrypoint\0--port=8000\0", "fungibility-entrypoint"),
        (b"/bin/sh\0", "sh"),
        (b"sleep\0infinity\0", "sleep"),
        # A process that has ended and was not waited for yet.
        (b"", ""),
    ],
)
def test_a_process_is_named_by_what_it_runs(command_line: bytes, name: str) -> None:
    assert program(command_line) == name


def test_memory_and_processes_add_up_by_program_and_one_that_ended_counts_for_nothing(tmp_path: Path) -> None:
    for pid, kilobytes in ((1, 1000), (2, 3000)):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "cmdline").write_bytes(b"sleep\0infinity\0")
        (tmp_path / str(pid) / "smaps_rollup").write_text(f"Rss: 9999 kB\nPss:      {kilobytes} kB\nPss_Anon: 7 kB\n")
    memory, processes = usage([1, 2, 3], tmp_path)
    assert memory == {"sleep": pytest.approx(4000 * 1024 / 1e6)}
    assert processes == {"sleep": 2}


def test_cold_is_an_up_without_a_cache_and_warm_one_with_what_it_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []

    class Recorded(Sandbox):
        def command(self, *arguments: str, check: bool = True, timeout: float = 0) -> subprocess.CompletedProcess[str]:
            cache = Path(self.variables["SANDBOX_CACHE"])
            ran.append(f"{' '.join(arguments)}, {'warm' if cache.exists() else 'cold'}")
            cache.mkdir(parents=True, exist_ok=True)
            return subprocess.CompletedProcess(arguments, 0, "", "")

    @contextmanager
    def fresh(name: str, variables: Mapping[str, str]) -> Iterator[Sandbox]:
        yield Recorded(tmp_path / name, variables)

    monkeypatch.setattr(footprint, "fresh_sandbox", fresh)
    monkeypatch.setattr(footprint, "PROJECT_DIR", tmp_path)
    (figure,) = footprint.cold_against_warm().figures
    assert ran == ["up, cold", "down, warm", "up, warm"]
    assert (figure.unit, len(figure.samples)) == ("x", 1)
    assert not any((tmp_path / ".sandbox").iterdir())


def test_a_read_only_cache_is_removed_whole(tmp_path: Path) -> None:
    inner = tmp_path / "cache" / "module"
    inner.mkdir(parents=True)
    (inner / "file").touch(mode=0o400)
    inner.chmod(0o500)
    remove(tmp_path / "cache")
    assert list(tmp_path.iterdir()) == []
    remove(tmp_path / "cache")
