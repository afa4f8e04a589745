"""The one place where preflight meets the package `cost`: what the stack costs an hour, printed below the checks."""

from __future__ import annotations

from components.settings.sections import Settings
from ops import cost
from ops.cost import report


def cost_text(stack: str, settings: Settings) -> str:
    """What `python -m ops cost --stack NAME` prints."""
    return report.text(stack, settings.place.region, cost.estimate(settings))
