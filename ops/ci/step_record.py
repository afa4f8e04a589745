"""Runs one step of a pipeline as a person would see it, and keeps what it printed and how it ended as one JSON file.

`FOLDER/NAME.json` has `name`, `command`, `status` (the exit status), `seconds`, `stdout` and `stderr`, secrets hidden. Left out:
time limits, which the pipeline has for whole jobs.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import IO

from ops.ci.masking import masker


class RecordError(Exception):
    """A record is not one; the text says which file and what is wrong with it."""


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """What one command did."""

    name: str
    command: tuple[str, ...]
    #: Exit status; 127 for a command that is not there.
    status: int
    seconds: float
    stdout: str
    stderr: str

    def write(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{self.name}.json").write_text(json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def read(cls, path: Path) -> StepRecord:
        """Raises `RecordError`."""
        try:
            document = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise RecordError(f"{path}: cannot be read as a step's record: {error}") from error
        expected = {each.name for each in fields(cls)}
        if not isinstance(document, dict) or set(document) != expected:
            raise RecordError(f"{path}: is not a step's record: it should have the keys {', '.join(sorted(expected))}")
        return cls(
            name=str(document["name"]),
            command=tuple(map(str, document["command"])),
            status=int(document["status"]),
            seconds=float(document["seconds"]),
            stdout=str(document["stdout"]),
            stderr=str(document["stderr"]),
        )


def read_folder(folder: Path) -> dict[str, StepRecord]:
    """Name -> record of every step in a folder; empty when there is no such folder. Raises `RecordError`."""
    records = (StepRecord.read(path) for path in sorted(folder.glob("*.json")))
    return {record.name: record for record in records}


def run(name: str, command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> StepRecord:
    """Runs `command` with its output shown as it comes, and writes its record."""
    mask = masker(environment)
    started = time.monotonic()
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=dict(environment),
        )
    except OSError as error:
        message = f"{command[0]}: cannot be run: {error.strerror}\n"
        sys.stderr.write(message)
        record = StepRecord(name=name, command=tuple(command), status=127, seconds=0.0, stdout="", stderr=message)
        record.write(folder)
        return record
    assert process.stdout is not None
    assert process.stderr is not None
    out: list[str] = []
    err: list[str] = []
    # One thread each: a full pipe without a reader would stop the command.
    readers = [
        threading.Thread(target=_copy, args=(source, target, kept, mask))
        for source, target, kept in ((process.stdout, sys.stdout, out), (process.stderr, sys.stderr, err))
    ]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    status = process.wait()
    record = StepRecord(
        name=name,
        command=tuple(map(mask, command)),
        # Ended by a signal: what a shell makes of it.
        status=status if status >= 0 else 128 - status,
        seconds=round(time.monotonic() - started, 1),
        stdout=mask("".join(out)),
        stderr=mask("".join(err)),
    )
    record.write(folder)
    return record


def _copy(source: IO[str], target: IO[str], kept: list[str], mask: Callable[[str], str]) -> None:
    for line in source:
        kept.append(line)
        target.write(mask(line))
        target.flush()
