"""What is generated from the declarations: the defaults in Pulumi.yaml, and docs/settings.md."""

from __future__ import annotations

import json
from typing import Any

from components.settings.accelerator_pool import AcceleratorPool
from components.settings.gateway import Gateway
from components.settings.reader import Derived, Setting, declared, sections
from components.settings.sections import Settings
from components.settings.value_types import Choice, Whole

_HEAD = """\
# Settings

In `Pulumi.<stack>.yaml`, or by `pulumi config set KEY VALUE`. They are checked together before the first resource: every problem comes at
once, each with the field, the value, the reason and the fix, in the same words from `pulumi preview` and from the commands that read the
stack's file (cost, preflight). This page is generated from `components/settings/sections.py`.

- `gcp:project` is required. The other keys of Google's provider are not read: `gcp:region`, `gcp:zone` and the like are refused, and the
  message says what to set in their place. So is a key of another namespace.
- A key without a value (`replicas:`) is refused; remove the key for its default. `yes` and `no` are texts, as in YAML 1.2, and a time or a
  date needs quotes.
- Encrypt secrets alone. What else is encrypted only the engine can read, so that the other commands refuse it.
"""

_CONFIG = "\n# Defaults; docs/settings.md says what each setting is.\nconfig:\n"

_POOLS = """
## An element of `acceleratorPools`

The best pool comes first. The pods' resource requests must fit the smallest machine of the list.

"""


def schema_settings(of: type = Settings) -> list[Setting]:
    """The settings of a program's own namespace."""
    return [each for each in declared(of) if ":" not in each.key]


def defaults() -> dict[str, Any]:
    """Setting -> its default, of the settings that have one."""
    return {each.key: each.default for each in schema_settings() if not each.required}


def pulumi_yaml(text: str, of: type = Settings) -> str:
    """A Pulumi.yaml with the defaults of the declarations as its `config:`; what stands before it stays.

    It says no types: the engine stops at the first value of a wrong one, shows neither value nor fix, and the program is not asked.
    """
    before, found, _ = text.partition(_CONFIG)
    if not found:
        raise ValueError(f"Pulumi.yaml has no {_CONFIG!r}")
    return before + _CONFIG + "".join(_entry(each) for each in schema_settings(of) if not each.required)


def _entry(setting: Setting) -> str:
    # The engine takes a mapping for a declaration. JSON is YAML; a text that YAML takes for one needs no quotes.
    default = setting.default if isinstance(setting.default, str) and setting.default else json.dumps(setting.default)
    return f"  {setting.key}: {f'{{default: {default}}}' if isinstance(setting.default, dict) else default}\n"


def _what(setting: Setting) -> str:
    """The description, with the limits that the type has."""
    if isinstance(setting.type, Whole):
        return f"{setting.description} From {setting.type.low} to {setting.type.high}."
    if isinstance(setting.type, Choice) and len(setting.type.options) < 10:
        return f"{setting.description} One of {', '.join(setting.type.options)}."
    return setting.description


def markdown() -> str:
    """docs/settings.md."""
    parts = [_HEAD]
    for _, section in sections(Settings):
        title = (section.__doc__ or "").rstrip(".")
        rows = [_row(each) for each in declared(section) if ":" not in each.key]
        parts.append(f"\n## {title}\n\n| setting | type | default | what it is |\n|---|---|---|---|\n" + "".join(rows))
    return "".join([*parts, _POOLS, element_table(AcceleratorPool), "\n## The keys of `gateway`\n\n", element_table(Gateway)])


def element_table(of: type) -> str:
    """The keys of one element of a list."""
    rows = [f"| `{each.key}` | {_default(each)} | {_what(each)} |\n" for each in declared(of)]
    return "".join(["| key | default | what it is |\n|---|---|---|\n", *rows])


def _row(setting: Setting) -> str:
    return f"| `{setting.key}` | {setting.type.name} | {_default(setting)} | {_what(setting)} |\n"


def _default(setting: Setting) -> str:
    if setting.required:
        return "required"
    default: Any = setting.default
    if isinstance(default, Derived):
        return default.shown
    return f"`{default}`" if isinstance(default, str) and default else f"`{json.dumps(default)}`"
