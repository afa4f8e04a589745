"""A stack's settings read from its files, for tools that run beside the engine (preflight, cost, the sandbox).

The engine hands the same values to the program itself. Left out: the check (`settings.load_stack`), with which Pulumi's SDK comes, and the
stack's secrets, which only `pulumi config` can decrypt.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

PROJECT_DIR = Path(__file__).resolve().parents[2]
PROJECT_NAME = "tpu-gpu-fungibility"


class StackFileError(Exception):
    """There is no such stack file, or it is not what one looks like; the text says which and what to do."""


def schema(project_dir: Path = PROJECT_DIR) -> dict[str, Any]:
    """Pulumi.yaml's `config`, by key: `type`, `description`, and `default` where there is one."""
    return dict(_parsed((project_dir / "Pulumi.yaml").read_text())["config"])


@cache
def _parsed(text: str) -> Any:
    """A YAML file's content, parsed once a process: parsing is most of what loading a stack's settings takes. Nobody changes it."""
    return yaml.safe_load(text)


def known_stacks(project_dir: Path = PROJECT_DIR) -> list[str]:
    """Names of the stacks that have a file, in order."""
    return sorted(each.name.split(".")[1] for each in project_dir.glob("Pulumi.*.yaml"))


def stack_file(stack: str, project_dir: Path = PROJECT_DIR) -> Path:
    """`Pulumi.STACK.yaml`; of a full name (ORGANISATION/PROJECT/STACK) the last part counts. Raises `StackFileError`."""
    name = stack.rpartition("/")[2]
    path = project_dir / f"Pulumi.{name}.yaml"
    if not path.exists():
        known = ", ".join(known_stacks(project_dir))
        raise StackFileError(f"stack {stack}: there is no {path.name} in {project_dir}; known: {known}")
    return path


def values(
    stack: str, overrides: Mapping[str, Any] | None = None, *, project_dir: Path = PROJECT_DIR, file: Path | None = None
) -> dict[str, str]:
    """What the engine would hand to the program: the schema's defaults, the stack's file, then `overrides`.

    `NAMESPACE:key` -> text, structures as JSON; encrypted values are left out. An override of None removes the key; a key
    without a namespace is the program's own. `file` is read instead of `Pulumi.STACK.yaml`. Raises `StackFileError`.
    """
    config = _config(file or stack_file(stack, project_dir))
    found: dict[str, Any] = {f"{PROJECT_NAME}:{key}": each["default"] for key, each in schema(project_dir).items() if "default" in each}
    found |= {key: value for key, value in config.items() if not is_secret(value)}
    for key, value in (overrides or {}).items():
        found[key if ":" in key else f"{PROJECT_NAME}:{key}"] = value
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in found.items() if value is not None}


def encrypted_keys(stack: str, *, project_dir: Path = PROJECT_DIR, file: Path | None = None) -> set[str]:
    """`NAMESPACE:key` of the stack file's encrypted values. Raises `StackFileError`."""
    return {key for key, value in _config(file or stack_file(stack, project_dir)).items() if is_secret(value)}


def _config(source: Path) -> dict[str, Any]:
    """A stack file's settings as they are written."""
    try:
        document = _parsed(source.read_text()) or {}
    except (OSError, yaml.YAMLError) as error:
        raise StackFileError(f"{source}: cannot be read as YAML: {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get("config") or {}, dict):
        raise StackFileError(f"{source}: has no `config:` mapping of settings")
    return dict(document.get("config") or {})


def is_secret(value: Any) -> bool:
    """Whether a setting of a stack file is an encrypted one."""
    return isinstance(value, dict) and set(value) == {"secure"}
