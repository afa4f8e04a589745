"""A stack's configuration read from its file as the engine reads it, for tools that run beside the engine.

The engine hands the same texts to the program itself. Left out: the check (`settings.load_stack`), with which Pulumi's SDK comes, and
encrypted values, which only `pulumi config` can decrypt.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from functools import cache
from pathlib import Path
from typing import Any

import yaml

PROJECT_DIR = Path(__file__).resolve().parents[2]
PROJECT_NAME = "tpu-gpu-fungibility"

#: Stands for a value that is encrypted, or of which a part is.
ENCRYPTED: Any = object()


class StackFileError(Exception):
    """There is no such stack file, or it is not what one looks like; the text says which and what to do."""


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
) -> dict[str, Any]:
    """What the engine would hand to the program: Pulumi.yaml's values, the stack's file, then `overrides`. Raises `StackFileError`.

    `NAMESPACE:key` -> text, structures as JSON; `ENCRYPTED` for what only the engine can read. An override of None removes the key; a
    key without a namespace is the program's own. `file` is read instead of `Pulumi.STACK.yaml`.
    """
    written = {**_project_values(project_dir / "Pulumi.yaml"), **configuration(file or stack_file(stack, project_dir))}
    found = {key: ENCRYPTED if _has_secret(value) else _text(value) for key, value in written.items()}
    for key, value in (overrides or {}).items():
        found[_full_key(key)] = value if value is None else _text(value)
    return {key: value for key, value in found.items() if value is not None}


def configuration(source: Path) -> dict[str, Any]:
    """A stack file's configuration as it is written, by `NAMESPACE:key`. Raises `StackFileError`."""
    document = _document(source)
    if document.get("environment"):
        reason = "takes values from environments (`environment:`), which only the engine can read"
        raise StackFileError(f"{source}: {reason}. Fix: write the settings in the file itself")
    found: dict[str, Any] = {}
    for written, value in (document.get("config") or {}).items():
        if (key := _full_key(written)) in found:
            raise StackFileError(f"{source}: {key} is given twice, once as {written}; the engine takes one of the two. Remove the other")
        found[key] = value
    return found


def _project_values(source: Path) -> dict[str, Any]:
    """What Pulumi.yaml gives every stack, by `NAMESPACE:key`: a default, or below a key of another namespace a value."""
    found = (_document(source).get("config") or {}).items() if source.exists() else ()
    values = {_full_key(key): each.get("value", each.get("default")) if isinstance(each, dict) else each for key, each in found}
    return {key: value for key, value in values.items() if value is not None}


def _document(source: Path) -> dict[str, Any]:
    try:
        document = _parsed(source.read_text(encoding="utf-8-sig")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise StackFileError(f"{source}: cannot be read as YAML: {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get("config") or {}, dict):
        raise StackFileError(f"{source}: has no `config:` mapping of settings")
    return document


@cache
def _parsed(text: str) -> Any:
    """A YAML file's content, parsed once a process: parsing is most of what loading a stack's settings takes. Nobody changes it."""
    return yaml.load(text, _EngineLoader)  # noqa: S506 - a safe loader


def is_secret(value: Any) -> bool:
    """Whether a value of a stack file is an encrypted one."""
    return isinstance(value, dict) and set(value) == {"secure"} and isinstance(value["secure"], str)


def _has_secret(value: Any) -> bool:
    if isinstance(value, (dict, list)) and not is_secret(value):
        return any(map(_has_secret, value.values() if isinstance(value, dict) else value))
    return is_secret(value)


def _full_key(key: str) -> str:
    """Without a namespace a key is the project's; `NAMESPACE:config:key` is the older form of `NAMESPACE:key`."""
    namespace, _, name = key.rpartition(":")
    return f"{namespace.removesuffix(':config') or PROJECT_NAME}:{name}"


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)


class _EngineLoader(yaml.CSafeLoader):
    """Scalars as the engine's YAML library takes them, which follows YAML 1.2 in most; a key that is given twice is refused.

    libyaml's parser, of which the engine's is a translation, also refuses the same texts, and takes a tenth of the time.

    https://github.com/yaml/go-yaml, resolve.go: `yes` and `1:30` are texts, `010` is 8, and a time becomes text in Go's own form.
    """

    # Else PyYAML's own rules stay.
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - as in the base class

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        self.flatten_mapping(node)
        found: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            constructed = self.construct_object(key_node, deep=True)
            key = constructed if isinstance(constructed, str) else json.dumps(constructed)
            if key in found:
                raise yaml.constructor.ConstructorError(None, None, f"{key} is given twice", key_node.start_mark)
            found[key] = self.construct_object(value_node, deep=deep)
        return found

    def construct_number(self, node: yaml.ScalarNode) -> int | float:
        text = node.value.replace("_", "")
        try:
            # As in C, an octal number may begin with a 0 alone.
            return int(re.sub(r"^([-+]?)0(?=[0-7]+$)", r"\g<1>0o", text), 0)
        except ValueError:
            number = float(text)
        # The engine writes a float without a fraction as a whole number.
        return int(number) if number.is_integer() and abs(number) < 1e21 else number

    def construct_time(self, node: yaml.ScalarNode) -> str:
        match = _TIME.fullmatch(node.value)
        assert match is not None
        numbers = [int(match[each] or 0) for each in ("year", "month", "day", "hour", "minute", "second")]
        zone = match["zone"] or "Z"
        sign = -1 if zone.startswith("-") else 1
        offset = timedelta() if zone in "Zz" else sign * timedelta(hours=int(zone[1:3]), minutes=int(zone[4:6]))
        try:
            time = datetime(*numbers, tzinfo=timezone(offset))  # type: ignore[arg-type, misc]
        except ValueError:
            # Looks like a time and is none.
            return str(node.value)
        fraction = (match["fraction"] or "").rstrip("0").rstrip(".")
        shown = time.strftime("%z")
        return f"{time:%Y-%m-%d %H:%M:%S}{fraction} {shown} {shown if offset else 'UTC'}"


_TIME = re.compile(
    r"(?P<year>\d{4})-(?P<month>\d{1,2})-(?P<day>\d{1,2})"
    r"(?:(?:[Tt]| (?=[^Zz+]*$))(?P<hour>\d{1,2}):(?P<minute>\d{1,2}):(?P<second>\d{1,2})(?P<fraction>\.\d+)?(?P<zone>Z|[-+]\d\d:\d\d)?)?"
)
_NUMBER = re.compile(r"[-+]?(?:0b[01_]+|0o[0-7_]+|0x[0-9a-fA-F_]+|(?:[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?)")

for _tag, _pattern, _first in (
    ("bool", "true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", "~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("merge", "<<", "<"),
    ("timestamp", _TIME.pattern, "0123456789"),
    ("float", _NUMBER.pattern, "-+.0123456789"),
):
    _EngineLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})$"), list(_first))
_EngineLoader.add_constructor("tag:yaml.org,2002:float", _EngineLoader.construct_number)
_EngineLoader.add_constructor("tag:yaml.org,2002:int", _EngineLoader.construct_number)
_EngineLoader.add_constructor("tag:yaml.org,2002:timestamp", _EngineLoader.construct_time)
