"""This program's settings, checked before the first resource by the reader of the program that it builds on."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import pulumi

from components.settings import formats
from components.settings.reader import setting
from components.settings.settings import load_as
from components.settings.value_types import Secret, Text, Whole

_ALIAS = Text(
    re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}"),
    "a name for a model",
    "use up to 63 letters, digits, dots, underscores and hyphens, a letter or digit first",
)
_URL = Text(
    re.compile(r"https?://[^\s/@]+(/[^\s]*)?/v1"), "a base URL that ends in /v1", "give one such as http://HOST/v1", takes_empty=True
)
_KEY = Secret(re.compile(r"[\x21-\x7e]*"), "has spaces, line breaks or letters beyond ASCII", "give the server's own key")


@dataclass(frozen=True, kw_only=True)
class GatewaySettings:
    """Everything that a team may choose."""

    inference_stack: str = setting(
        replace(formats.STACK, takes_empty=False),
        description="The stack that serves the model, as ORGANISATION/PROJECT/STACK; `pulumi stack ls -a` names stacks.",
    )
    model_alias: str = setting(
        _ALIAS, default="chat", description="A name for the model that stays the same when the model changes; clients may use either."
    )
    requests_per_minute: int = setting(
        Whole(1, 1_000_000),
        default=30,
        description="Requests that one client address may make in a minute, of each replica of the gateway.",
    )
    replicas: int = setting(Whole(1, 1000), default=1, description="Replicas of the gateway.")
    service_port: int = setting(Whole(1, 65535), default=80, description="Port of the gateway's load balancer.")
    load_balancer_source_ranges: tuple[str, ...] = setting(
        formats.RANGES, default=[], description="IPv4 ranges (CIDR) that may reach the gateway; empty lets everyone in."
    )
    upstream_url: str = setting(
        _URL,
        default="",
        description="Base URL to reach the model's server by in place of the stack's service_url, such as "
        "http://vllm-service.default.svc/v1 where the server's source ranges leave pods out.",
    )
    #: Empty for a server that wants none.
    upstream_api_key: pulumi.Input[str] = setting(
        _KEY,
        default="",
        secret=True,
        description="The server's API key, if it wants one (`pulumi config set --secret`); the gateway adds it, and clients need none.",
    )


def load() -> GatewaySettings:
    """Raises `SettingsError` with every problem at once."""
    settings = load_as(GatewaySettings)
    # Secret even where the stack's file has it in the clear.
    key = pulumi.Output.secret(settings.upstream_api_key) if settings.upstream_api_key else ""
    return replace(settings, upstream_api_key=key)
