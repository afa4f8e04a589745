"""What machine a bench or a drill ran on, as far as it matters to its figures.

Left out, since results are published: names of the host and of users, addresses, paths.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from sandbox.host.paths import PROJECT_DIR
from sandbox.toolchain.tools import KUBERNETES_VERSION, PULUMI_VERSION


@dataclass(frozen=True, kw_only=True)
class Machine:
    cpu: str
    cores: int
    memory_gib: int
    #: Kernel's name and architecture, and the distribution.
    system: str
    python: str
    #: Pulumi's engine.
    engine: str
    kubernetes: str

    @classmethod
    def here(cls) -> Machine:
        return cls(
            cpu=_cpu(Path("/proc/cpuinfo")),
            cores=len(os.sched_getaffinity(0)),
            memory_gib=round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30),
            system=f"{platform.system()} {platform.machine()}, {_distribution()}",
            python=platform.python_version(),
            engine=PULUMI_VERSION,
            kubernetes=KUBERNETES_VERSION,
        )

    def __str__(self) -> str:
        return (
            f"{self.cpu}, {self.cores} cores, {self.memory_gib} GiB, {self.system}, Python {self.python}, "
            f"Pulumi {self.engine}, Kubernetes {self.kubernetes}"
        )

    def differences(self, other: Machine) -> list[str]:
        """What makes the other one another machine; versions of programs do not, since they are what is compared."""
        return [
            f"{name} {theirs!r} then, {ours!r} now"
            for name in ("cpu", "cores", "memory_gib", "system")
            if (ours := getattr(self, name)) != (theirs := getattr(other, name))
        ]


def commit() -> str:
    """The working tree's commit, with a `+` where it has changes; `unknown` outside of git."""
    try:
        head = _git("rev-parse", "--short=12", "HEAD")
        return head + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=PROJECT_DIR, check=True, capture_output=True, text=True).stdout.strip()


def _cpu(cpuinfo: Path) -> str:
    """As Linux names it; on some processors and virtual machines it names none."""
    found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.MULTILINE) if cpuinfo.exists() else None
    return found[1].strip() if found else "unknown processor"


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return "unknown distribution"
