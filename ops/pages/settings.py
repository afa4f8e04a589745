"""What the settings' declarations generate: docs/settings.md, `config:` of Pulumi.yaml, and the table of environments in docs/deploy.md."""

from __future__ import annotations

from bootstrap.settings import Environment
from components.settings.schema import element_table, markdown, pulumi_yaml
from ops.pages.page import Page, between

PAGES = (
    Page("docs/settings.md", lambda _: markdown()),
    Page("Pulumi.yaml", pulumi_yaml),
    Page("docs/deploy.md", lambda text: between("environments", text, element_table(Environment))),
)
