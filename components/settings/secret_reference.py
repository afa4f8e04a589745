"""A secret in Secret Manager as a setting names it. Left out: reading it (`secret_manager`)."""

from __future__ import annotations

import re
from dataclasses import dataclass

_REFERENCE = re.compile(
    r"(?:projects/(?P<project>[a-z0-9.:-]+)/secrets/)?(?P<secret>[A-Za-z0-9_-]{1,255})(?:/versions/(?P<version>latest|[1-9][0-9]*))?"
)


@dataclass(frozen=True, kw_only=True)
class SecretReference:
    """One secret; `project` None is the stack's, `version` is `latest` or a number."""

    project: str | None
    secret: str
    version: str


def parse_reference(text: str) -> SecretReference | None:
    """NAME or projects/PROJECT/secrets/NAME, either with /versions/VERSION; None for what is neither."""
    match = _REFERENCE.fullmatch(text)
    if match is None:
        return None
    return SecretReference(project=match["project"], secret=match["secret"], version=match["version"] or "latest")
