"""The one place where preflight meets the package `cost`: what the stack costs an hour, printed below the checks."""

from __future__ import annotations

import importlib

from components.settings import Settings


def cost_text(stack: str, settings: Settings) -> str:
    """What `python -m cost --stack NAME` prints; empty in a checkout without that package."""
    try:
        cost, report = importlib.import_module("cost"), importlib.import_module("cost.report")
    except ModuleNotFoundError as error:
        if error.name not in ("cost", "cost.report"):
            raise
        return ""
    return str(report.text(stack, settings.region, cost.estimate(settings)))
