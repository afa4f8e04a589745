"""What the commands know of a running daemon, and the environment that both give to the programs that they start."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from sandbox.host.paths import PROJECT_DIR, Paths
from sandbox.host.processes import process_start
from sandbox.host.real_plugins import real_plugin_on_path
from sandbox.host.state_files import read_object, unusable, write_object


@dataclass(frozen=True, kw_only=True)
class DaemonRecord:
    """What the commands need to know of a running daemon."""

    pid: int
    #: The process's start time, so that another process with the same pid is not taken for it.
    started: str
    debug_providers: str
    speed: float
    #: Which of `model_server.NAMES` the pods run.
    server: str
    #: Where the stand-in for Cloud Monitoring's API answers.
    monitoring_endpoint: str = ""
    #: Why it is about to end by itself; empty while it is not.
    ending: str = ""

    @classmethod
    def read(cls, path: Path) -> DaemonRecord | None:
        """Raises `StateError` for a record that says something else."""
        try:
            return cls(**read_object(path))
        except FileNotFoundError:
            return None
        except TypeError as error:
            raise unusable(path, error) from error

    def write(self, path: Path) -> None:
        write_object(path, asdict(self))

    @property
    def alive(self) -> bool:
        return self.started == process_start(self.pid)


def sandbox_environment(paths: Paths, machine: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment of everything that the daemon starts: this machine's, the sandbox's programs first on PATH."""
    search = [str(PROJECT_DIR / "sandbox" / "google" / "bin"), str(paths.tools), str(Path(sys.executable).parent)]
    # The engine has a home of its own here, in which it would not find what a user's has.
    if plugin := real_plugin_on_path("kubernetes", machine):
        search.append(str(plugin.parent))
    return {**machine, "SANDBOX_STATE": str(paths.state), "PATH": os.pathsep.join([*search, machine.get("PATH", os.defpath)])}
