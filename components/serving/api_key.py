"""The API key of vLLM's server: its Kubernetes Secret, and how a container gets it.

It is an environment variable and never an argument, which everyone who may list pods can read. vLLM requires the key only on routes
below /v1 (/v2, /inference). /health and /metrics stay open for probes and monitoring, and so do some that should not; see
docs/hardening.md, *The API key*.
"""

from __future__ import annotations

from typing import Any

import pulumi
from pulumi_kubernetes import core

from components.serving.api_key_names import SECRET_KEY, VARIABLE


def api_key_secret(prefix: str, *, namespace: str, api_key: pulumi.Input[str], parent: pulumi.Resource) -> core.v1.Secret | None:
    """The Secret, or None if there is no key.

    Its name is Pulumi's, so that another key is another Secret beside the old one. Under a fixed name the old one would be deleted first,
    and the real Kubernetes provider would replace the Deployment, which depends on it, instead of rolling its pods (`make conformance`).
    """
    # A value that is known only later counts as one.
    if isinstance(api_key, str) and not api_key:
        return None
    return core.v1.Secret(
        f"{prefix}-vllm-api-key",
        metadata={"namespace": namespace},
        string_data={SECRET_KEY: pulumi.Output.secret(api_key)},
        opts=pulumi.ResourceOptions(parent=parent),
    )


def container_environment(secret: core.v1.Secret | None) -> list[dict[str, Any]]:
    """Entries of a container's `env`; the Secret's name changes with the key, and so rolls the pods."""
    if secret is None:
        return []
    name = secret.metadata.apply(lambda metadata: metadata and metadata.name)
    return [{"name": VARIABLE, "value_from": {"secret_key_ref": {"name": name, "key": SECRET_KEY}}}]
