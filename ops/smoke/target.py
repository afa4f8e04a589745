"""What is tested: a stack's outputs, or an address given by hand.

Outputs are read by the `pulumi` command line, without the secret ones: a smoke test needs none.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

PROJECT_DIR = Path(__file__).resolve().parents[2]

_PULUMI_SECONDS = 120.0

#: How many lines of an error of pulumi's are shown.
_ERROR_LINES = 6


class TargetError(Exception):
    """Nothing can be tested, as there is nothing to ask; the message says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """`service_url` is an OpenAI client's base URL; what only a stack knows is empty without one."""

    service_url: str
    model: str
    stack: str = ""
    service_ip: str = ""
    namespace: str = ""
    cluster_name: str = ""
    cluster_location: str = ""
    #: Names of the accelerator pools, the best first.
    pools: tuple[str, ...] = ()


def check_url(url: str) -> str:
    """The URL without a slash at its end. Raises `TargetError`."""
    parts = urlsplit(url)
    try:
        port_is_number = parts.port is None or parts.port > 0
    except ValueError:
        port_is_number = False
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_number:
        raise TargetError(
            f"--url: {url!r} is not a URL with http or https and a host. "
            "Fix: give the base URL of an OpenAI client, such as http://203.0.113.7/v1."
        )
    if parts.username or parts.password:
        # Not repeated here: it holds a password.
        raise TargetError("--url: it holds a user name or a password. Fix: leave them out; an API key goes into the variable VLLM_API_KEY.")
    return url.rstrip("/")


def of_stack(stack: str, *, project_dir: Path = PROJECT_DIR, pulumi: str = "pulumi") -> Target:
    """The target that a stack's outputs name. Raises `TargetError`."""
    return of_outputs(stack, read_outputs(stack, project_dir=project_dir, pulumi=pulumi))


def read_outputs(stack: str, *, project_dir: Path = PROJECT_DIR, pulumi: str = "pulumi") -> dict[str, Any]:
    """`pulumi stack output --json`; of a secret output only that it is one. Raises `TargetError`."""
    command = [pulumi, "stack", "output", "--json", "--non-interactive", "--stack", stack]
    try:
        result = subprocess.run(
            command,
            cwd=project_dir,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=_PULUMI_SECONDS,
        )
    except FileNotFoundError as error:
        raise TargetError(
            f"--stack {stack}: there is no `{pulumi}` on PATH to read its outputs with. Fix: install Pulumi "
            '(https://www.pulumi.com/docs/install/), or in the sandbox: eval "$(.venv/bin/python -m sandbox env)".'
        ) from error
    except subprocess.TimeoutExpired as error:
        raise TargetError(
            f"--stack {stack}: `pulumi stack output` did not end within {_PULUMI_SECONDS:.0f} s. "
            "Fix: check that the state backend answers (`pulumi whoami -v`)."
        ) from error
    if result.returncode != 0:
        said = "\n".join(f"  {line}" for line in result.stderr.strip().splitlines()[-_ERROR_LINES:])
        raise TargetError(
            f"--stack {stack}: `pulumi stack output` failed (exit status {result.returncode}):\n{said}\n"
            "Fix: `pulumi stack ls` lists the stacks, `pulumi whoami -v` the backend and the account."
        )
    try:
        outputs = json.loads(result.stdout)
    except ValueError as error:
        raise TargetError(f"--stack {stack}: `pulumi stack output --json` printed no JSON: {error}") from error
    if not isinstance(outputs, dict):
        raise TargetError(f"--stack {stack}: `pulumi stack output --json` printed no mapping of outputs")
    return outputs


def of_outputs(stack: str, outputs: Mapping[str, Any]) -> Target:
    """The target that these outputs of a stack name. Raises `TargetError`."""
    missing = [name for name in ("service_url", "model") if not isinstance(outputs.get(name), str)]
    if missing:
        known = ", ".join(sorted(outputs)) or "none"
        raise TargetError(
            f"--stack {stack}: its outputs lack {' and '.join(missing)} (there: {known}). "
            f"Fix: `pulumi up --stack {stack}`; an update that failed half-way leaves outputs out."
        )

    def text(name: str) -> str:
        value = outputs.get(name)
        return value if isinstance(value, str) else ""

    pools = outputs.get("accelerator_pools")
    return Target(
        service_url=text("service_url").rstrip("/"),
        model=text("model"),
        stack=stack,
        service_ip=text("service_ip"),
        namespace=text("namespace"),
        cluster_name=text("cluster_name"),
        cluster_location=text("cluster_location"),
        pools=tuple(str(pool) for pool in pools) if isinstance(pools, list) else (),
    )
