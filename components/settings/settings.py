"""The settings of a stack, read and checked as a whole before the first resource: from the engine, or from the stack's file.

Left out: what settings there are (`sections`), and the rules between them (`checks`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import pulumi
from pulumi.runtime.config import CONFIG, get_config_env

from components.settings import stack_files
from components.settings.checks import check
from components.settings.problems import SettingsError
from components.settings.reader import Reader
from components.settings.sections import INSTEAD, Settings

T = TypeVar("T")


def load() -> Settings:
    """The settings of the stack that the engine runs. Raises `SettingsError` with every problem at once."""
    # In the clear while they are checked, and secret from then on, even where the stack's file has them in the clear.
    settings = parse(engine_values(), namespace=pulumi.Config().name, stack=pulumi.get_stack())
    server, security = settings.server, settings.security
    key = pulumi.Output.secret(security.api_key) if security.api_key else ""
    return replace(
        settings,
        server=replace(server, hugging_face_token=pulumi.Output.secret(server.hugging_face_token)),
        security=replace(security, api_key=key),
    )


def load_as(of: type[T], instead: Mapping[str, str] = MappingProxyType({})) -> T:
    """The settings of another program, which `of` declares: as `load`. `instead`: see `Reader.check_unknown_keys`."""
    reader = Reader(engine_values(), pulumi.Config().name)
    settings = reader.read(of)
    return _checked(settings, reader, instead, pulumi.get_stack())


def engine_values() -> dict[str, Any]:
    """`NAMESPACE:key` -> text as the engine hands it over, secrets in the clear."""
    return {**get_config_env(), **CONFIG.get()}


def load_stack(
    stack: str, overrides: Mapping[str, Any] | None = None, *, project_dir: Path = stack_files.PROJECT_DIR, file: Path | None = None
) -> Settings:
    """The checked settings of a stack by its file, for tools that run beside the engine; `reader.UNREAD` for an encrypted secret.

    Raises `stack_files.StackFileError` and `SettingsError`.
    """
    values = stack_files.values(stack, overrides, project_dir=project_dir, file=file)
    return parse(values, namespace=stack_files.PROJECT_NAME, stack=stack)


def parse(values: Mapping[str, Any], *, namespace: str, stack: str) -> Settings:
    """Settings from `NAMESPACE:key` -> text as the engine hands them over. Raises `SettingsError`, which shows no secret."""
    reader = Reader(values, namespace)
    settings = reader.read(Settings)
    check(settings, reader, own_stack=f"{namespace}/{stack.rpartition('/')[2]}")
    return _checked(settings, reader, INSTEAD, stack)


def _checked(settings: T, reader: Reader, instead: Mapping[str, str], stack: str) -> T:
    reader.check_unknown_keys(instead)
    if reader.problems:
        raise SettingsError(stack, reader.problems)
    return settings
