"""What the settings' declarations generate: docs/settings.md, and `config:` of Pulumi.yaml."""

from __future__ import annotations

from components.settings.schema import markdown, pulumi_yaml
from ops.pages.page import Page

PAGES = (Page("docs/settings.md", lambda _: markdown()), Page("Pulumi.yaml", pulumi_yaml))
