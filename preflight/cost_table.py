"""The one place where preflight meets the package `cost`: what the stack's ladder costs an hour, printed after the checks."""

from __future__ import annotations

import importlib
import importlib.util

from components.settings import Settings


def cost_text(settings: Settings) -> str:
    """The table as text; empty where this checkout has no package `cost`, or it has no `text_of(settings)`."""
    if importlib.util.find_spec("cost") is None:
        return ""
    text_of = getattr(importlib.import_module("cost"), "text_of", None)
    return str(text_of(settings)) if callable(text_of) else ""
