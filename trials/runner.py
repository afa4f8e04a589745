"""Runs benches or drills one after the other: each is announced, timed, and ends alone when it fails, with what it had found before.

A bench or a drill is a module `trials.COMMAND.NAME` with a function `run`, which yields what it finds as it goes. Left out: what becomes
of the sections, which is the command's.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from rich.console import Console

from sandbox.cli.client import CommandFailed
from trials import record, report
from trials.record import Run, Section

#: Width of the output when stdout is not a terminal.
_LOG_WIDTH = 150

#: Why a part ended that somebody has ended by Ctrl-C; those after it do not begin.
_INTERRUPTED = "interrupted"


def console() -> Console:
    return Console(highlight=False, width=None if sys.stdout.isatty() else _LOG_WIDTH)


def parser(command: str, parts: Mapping[str, str], *, description: str, epilog: str) -> argparse.ArgumentParser:
    """`python -m trials COMMAND [NAME ...] [--json FILE]`, to which the command adds options of its own."""

    def name(text: str) -> str:
        if text not in parts:
            raise argparse.ArgumentTypeError(f"{text!r} is not known; use one of {', '.join(parts)}")
        return text

    found = argparse.ArgumentParser(prog=f"python -m trials {command}", description=description, epilog=epilog)
    found.add_argument("names", nargs="*", metavar="NAME", type=name, help=f"some of {', '.join(parts)}; all without one")
    found.add_argument("--json", type=Path, metavar="FILE", help="write the results there, too; what it has of others stays")
    return found


def run(command: str, parts: Mapping[str, str], names: Sequence[str], options: Any, screen: Console) -> list[Section]:
    """The sections of the parts that are named, or of all."""
    made = Run.now(options)
    sections: list[Section] = []
    for name in dict.fromkeys(names or parts):
        sections.append(_run(command, Section(name=name, title=parts[name], run=made), options, screen))
        if sections[-1].failed == _INTERRUPTED:
            break
    return sections


def keep(file: Path, sections: Sequence[Section], screen: Console) -> None:
    """Writes the sections into a file that keeps what it has of others. Raises `RecordError`."""
    write(file, record.as_json(record.merged(record.read(file) if file.exists() else [], sections)), screen)


def write(path: Path, text: str, screen: Console) -> None:
    try:
        record.write(path, text)
    except OSError as error:
        # The results are on the screen, and the next file may be writable.
        screen.print(f"{path}: cannot be written ({error.strerror})", style="red", markup=False)
    else:
        screen.print(f"kept: {path}", style="dim", soft_wrap=True, markup=False)


def _run(command: str, section: Section, options: Any, screen: Console) -> Section:
    screen.print(f"[bold]{section.name}[/]: {section.title}")
    started = time.monotonic()
    try:
        for found in import_module(f"trials.{command}.{section.name}").run(options):
            section = section.adding(found)
            for line in report.lines(found):
                screen.print(f"  {line}", markup=False)
    except KeyboardInterrupt:
        section = replace(section, failed=_INTERRUPTED)
    except Exception as error:  # noqa: BLE001 - whatever it is, the others go on
        said = str(error) if isinstance(error, CommandFailed) else traceback.format_exc()
        screen.print(said, markup=False)
        # Results are published, and the message may hold paths: it is printed here alone.
        section = replace(section, failed=f"{type(error).__name__}, see the output of that run")
    screen.print(f"  {time.monotonic() - started:.0f} s", style="dim")
    return section
