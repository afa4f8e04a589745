"""Files of the sandbox's state: there as a whole or not at all, and a clear message about one that is neither.

A process may be killed, and a disk be full, at any moment; so a file is written beside its place and then moved to it. Left out: a
machine that loses its power (nothing is synchronised to the disk), and two writers of one file, which have to lock it themselves.
"""

import json
import os
from pathlib import Path
from typing import Any


class StateError(Exception):
    """A file of the state cannot be used; the message names it, the reason, and the way out."""


def unusable(path: Path, reason: object) -> StateError:
    return StateError(
        f"{path} cannot be used ({reason}): it was cut short, or is another version's. `python -m sandbox down` clears the state away, "
        "and `python -m sandbox up` then begins anew"
    )


def read_object(path: Path) -> dict[str, Any]:
    """Raises `StateError`, and `FileNotFoundError` where there is none."""
    try:
        document = json.loads(path.read_text())
    except (ValueError, UnicodeDecodeError) as error:
        raise unusable(path, error) from error
    if not isinstance(document, dict):
        raise unusable(path, "it holds no object")
    return document


def write_object(path: Path, document: Any) -> None:
    """Raises `OSError`; the file is then as it was."""
    write_text(path, json.dumps(document))


def write_text(path: Path, text: str, *, mode: int = 0o666) -> None:
    """`mode`: as of `os.open`, less the umask. Raises `OSError`; the file is then as it was."""
    coming = path.with_name(f"{path.name}.new")
    # With its mode from the first byte on, so that no other user reads a private one meanwhile.
    with open(os.open(coming, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w") as file:
        file.write(text)
    coming.replace(path)
