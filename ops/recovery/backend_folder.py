"""What a killed engine leaves half written in a backend that is a folder (`pulumi login --local`, `file://...`).

Beside each file there is one of its attributes, and that one alone is not written at once (gocloud.dev/blob/fileblob: created
empty, then filled, before the file itself gets its name). A kill in between leaves it empty, and every later command ends with
`failed to load checkpoint: EOF`, though the checkpoint is whole. A file without attributes is as good as one with them.
Nor is a lock there at once: half of one, which a kill or a full disk leaves, stops every later command as well. Buckets have no such
files.
"""

from __future__ import annotations

import time
from pathlib import Path
from urllib.parse import unquote, urlsplit

#: Pulumi's own folder in the backend's.
_BOOKKEEPING = ".pulumi"

#: A lock that is being written has its name after a moment.
_LOCK_SECONDS = 2.0


def folder_of(url: str) -> Path | None:
    """The folder of a backend's URL; None where the backend is something else."""
    if not url.startswith("file://"):
        return None
    parts = urlsplit(url)
    return Path(unquote(parts.netloc + parts.path)).expanduser()


def mend(folder: Path) -> list[Path]:
    """Removes empty files of attributes and halves of locks, and returns them. Harmless beside an update that runs."""
    found = [each for each in (folder / _BOOKKEEPING).rglob("*.attrs") if each.stat().st_size == 0]
    written = time.time() - _LOCK_SECONDS
    found += [each for each in (folder / _BOOKKEEPING / "locks").rglob("*.tmp") if each.stat().st_mtime < written]
    for each in found:
        each.unlink(missing_ok=True)
    return found


def remove_leftovers(folder: Path, stack: str) -> None:
    """The files that were to become the stack's next checkpoint. Not beside an update of the stack that runs."""
    for each in (folder / _BOOKKEEPING / "stacks").rglob(f"{stack.rpartition('/')[2]}.json*.tmp"):
        each.unlink(missing_ok=True)
