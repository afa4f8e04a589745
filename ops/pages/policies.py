"""The table of policies in docs/policies.md, from the rules of the pack."""

from __future__ import annotations

import json

from ops.pages.page import Page, between
from policies.rule import ResourceRule, StackRule
from policies.rules import RULES


def _row(rule: ResourceRule | StackRule) -> str:
    checked = "each resource" if isinstance(rule, ResourceRule) else "the whole stack"
    options = "; ".join(f"`{name}` (`{json.dumps(option.default)}`): {option.description}" for name, option in rule.options.items())
    return f"| `{rule.name}` | {rule.description} | {rule.level}: {rule.because} | {checked} | {options} |"


def table(text: str) -> str:
    """docs/policies.md with a row for each rule, in the pack's order."""
    head = ["| policy | what holds | level, and why | checks | options (default) |", "|---|---|---|---|---|"]
    return between("policies", text, "\n".join([*head, *map(_row, RULES)]))


PAGES = (Page("docs/policies.md", table),)
