"""What is tested: a stack's outputs, or an address given by hand.

Outputs are read by the `pulumi` command line, without the secret ones: a smoke test needs none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from components.settings.problems import Problem
from components.settings.stack_files import PROJECT_DIR
from ops import pulumi_command
from ops.pulumi_command import PulumiError


class TargetError(Exception):
    """Nothing can be tested; the message is the problem."""

    def __init__(self, field: str, value: Any, reason: str, fix: str) -> None:
        super().__init__(str(Problem(field, value, reason, fix)))


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
        fix = "give the base URL of an OpenAI client, such as http://203.0.113.7/v1"
        raise TargetError("--url", url, "is not a URL with http or https and a host", fix)
    if parts.username or parts.password:
        # Not repeated here: it holds a password.
        fix = "leave them out; an API key goes into the variable VLLM_API_KEY"
        raise TargetError("--url", None, "it holds a user name or a password", fix)
    return url.rstrip("/")


def of_stack(stack: str, *, project_dir: Path = PROJECT_DIR) -> Target:
    """The target that a stack's outputs name. Raises `TargetError`."""
    try:
        # Without the secret ones: a smoke test needs none.
        outputs = json.loads(pulumi_command.output("stack", "output", "--json", stack=stack, directory=project_dir))
    except (PulumiError, ValueError) as error:
        reason = str(error) if isinstance(error, PulumiError) else f"`pulumi stack output --json` printed no JSON ({error})"
        raise TargetError("--stack", stack, reason, "`pulumi stack ls` lists the stacks, `pulumi whoami -v` the backend") from error
    if not isinstance(outputs, dict):
        reason = "`pulumi stack output --json` printed no mapping of outputs"
        raise TargetError("--stack", stack, reason, "`pulumi version` says which version prints it")
    return of_outputs(stack, outputs)


def of_outputs(stack: str, outputs: Mapping[str, Any]) -> Target:
    """The target that these outputs of a stack name. Raises `TargetError`."""
    missing = [name for name in ("service_url", "model") if not isinstance(outputs.get(name), str)]
    if missing:
        reason = f"its outputs lack {' and '.join(missing)} (there: {', '.join(sorted(outputs)) or 'none'})"
        raise TargetError("--stack", stack, reason, f"`pulumi up --stack {stack}`; an update that failed half-way leaves outputs out")

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
