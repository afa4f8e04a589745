"""Runs the `pulumi` command line for the commands of `ops`. Left out: what each of them makes of its output."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from components.settings.stack_files import PROJECT_DIR


class PulumiError(Exception):
    """A pulumi command failed; the message says why, in pulumi's own words, in which pulumi hides secrets."""


def run(
    *arguments: str,
    stack: str = "",
    stdin: str = "",
    directory: Path = PROJECT_DIR,
    environment: Mapping[str, str] = os.environ,
    seconds: float = 120.0,
) -> subprocess.CompletedProcess[str]:
    """What the command printed and its exit status. Raises `PulumiError` where it did not run to its end."""
    command = ["pulumi", *arguments, *(["--stack", stack] if stack else []), "--non-interactive"]
    try:
        return subprocess.run(
            command, cwd=directory, env=dict(environment), input=stdin, capture_output=True, text=True, timeout=seconds, check=False
        )
    except FileNotFoundError as error:
        raise PulumiError(
            "pulumi is not on PATH: install it (https://www.pulumi.com/docs/install/), "
            'or in the sandbox run eval "$(.venv/bin/python -m sandbox env)"'
        ) from error
    except subprocess.TimeoutExpired as error:
        raise PulumiError(
            f"`pulumi {' '.join(arguments)}` did not end within {seconds:g} s: check that the state backend answers (`pulumi whoami -v`)"
        ) from error


def output(*arguments: str, stack: str = "", directory: Path = PROJECT_DIR, seconds: float = 120.0) -> str:
    """What the command printed. Raises `PulumiError`, also where it failed."""
    done = run(*arguments, stack=stack, directory=directory, seconds=seconds)
    if done.returncode != 0:
        # What it prints on success may be a secret; what it prints on failure is its reason.
        reason = " ".join(done.stderr.split())[:300] or f"exit status {done.returncode}"
        raise PulumiError(f"`pulumi {' '.join(arguments)}` failed: {reason}")
    return done.stdout
