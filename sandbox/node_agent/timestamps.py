"""Kubernetes timestamps."""

import datetime


def timestamp() -> str:
    """Now, in UTC to the second (RFC 3339), as in object statuses."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_timestamp(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
