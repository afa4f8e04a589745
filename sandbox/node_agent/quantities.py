"""Kubernetes timestamps, and quantities as `resourceFieldRef` gives them."""

from __future__ import annotations

import datetime
import math
from decimal import Decimal

from kubernetes.utils.quantity import parse_quantity


def timestamp(moment: datetime.datetime | None = None) -> str:
    """RFC 3339 in UTC to the second, as in object statuses; now unless told otherwise."""
    return (moment or datetime.datetime.now(datetime.UTC)).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_timestamp(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))


def divided(quantity: str, divisor: str | None) -> str:
    """`quantity / divisor`, rounded up to a whole number, as the kubelet writes it into an environment variable."""
    by = parse_quantity(divisor or "1")
    if by == 0:
        by = Decimal(1)
    return str(math.ceil(parse_quantity(quantity) / by))
