"""This program's settings, checked before the first resource; Pulumi.yaml describes each."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

import pulumi

_STACK = re.compile(r"[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+")
_ALIAS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_URL = re.compile(r"https?://[^\s/@]+(/[^\s]*)?/v1")


@dataclass(frozen=True, kw_only=True)
class GatewaySettings:
    inference_stack: str
    model_alias: str
    requests_per_minute: int
    replicas: int
    service_port: int
    load_balancer_source_ranges: tuple[str, ...]
    #: Empty: the stack's own service_url.
    upstream_url: str
    #: Secret, None for a server that wants none.
    upstream_api_key: pulumi.Output[str] | None


def load() -> GatewaySettings:
    """Raises `pulumi.RunError` with every problem at once."""
    config = pulumi.Config()
    problems: list[str] = []

    def text(key: str, pattern: re.Pattern[str], what: str, *, optional: bool = False) -> str:
        value = config.get(key) or ""
        if not (optional and not value) and not pattern.fullmatch(value):
            shown = f'"{value}" ' if value else "is missing; it "
            problems.append(f"{key}: {shown}must be {what}. Fix: `pulumi config set {key} VALUE`.")
        return value

    def number(key: str, low: int, high: int) -> int:
        value = config.get(key) or ""
        if not re.fullmatch(r"\d{1,9}", value) or not low <= int(value) <= high:
            problems.append(f'{key}: "{value}" must be a whole number from {low} to {high}. Fix: `pulumi config set {key} N`.')
            return low
        return int(value)

    def ranges(key: str) -> tuple[str, ...]:
        found = config.get_object(key) or []
        for each in found:
            try:
                ipaddress.IPv4Network(each)
            except ValueError as error:
                problems.append(f'{key}: "{each}" is no IPv4 range ({error}). Fix: give CIDR such as 203.0.113.0/24.')
        return tuple(found)

    settings = GatewaySettings(
        inference_stack=text("inferenceStack", _STACK, "ORGANISATION/PROJECT/STACK, as `pulumi stack ls -a` names stacks"),
        model_alias=text("modelAlias", _ALIAS, "up to 63 letters, digits, dots, underscores and hyphens"),
        requests_per_minute=number("requestsPerMinute", 1, 1_000_000),
        replicas=number("replicas", 1, 1000),
        service_port=number("servicePort", 1, 65535),
        load_balancer_source_ranges=ranges("loadBalancerSourceRanges"),
        upstream_url=text("upstreamUrl", _URL, "a base URL that ends in /v1", optional=True),
        # Secret even where the stack's file has it in the clear.
        upstream_api_key=config.get_secret("upstreamApiKey") if config.get("upstreamApiKey") else None,
    )
    if problems:
        raise pulumi.RunError("The settings are wrong; nothing was created or changed.\n" + "\n".join(f"  - {p}" for p in problems))
    return settings
