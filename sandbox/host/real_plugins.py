"""Finds Pulumi's own provider plugins on this machine.

A stand-in is for what cannot be had; where the real plugin is installed and what it talks to is real, it is preferred.
Left out: downloading one, which is the engine's business.
"""

import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path


def real_plugin_on_path(name: str, environment: Mapping[str, str]) -> Path | None:
    """The executable `pulumi-resource-<name>`: on PATH, or the newest version under $PULUMI_HOME/plugins."""
    program = f"pulumi-resource-{name}"
    if found := shutil.which(program, path=environment.get("PATH", "")):
        return Path(found)
    home = environment.get("PULUMI_HOME")
    folder = Path(home) if home else Path(environment.get("HOME", "~")).expanduser() / ".pulumi"
    candidates = []
    for installed in (folder / "plugins").glob(f"resource-{name}-v*"):
        version = re.fullmatch(rf"resource-{re.escape(name)}-v(\d+)\.(\d+)\.(\d+)", installed.name)
        executable = installed / program
        # A download that broke off leaves this mark beside the folder.
        partial = installed.with_name(f"{installed.name}.partial").exists()
        if version and not partial and os.access(executable, os.X_OK) and executable.is_file():
            candidates.append((tuple(map(int, version.groups())), executable))
    return max(candidates)[1] if candidates else None
