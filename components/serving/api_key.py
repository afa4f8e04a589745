"""The API key of vLLM's server: its Kubernetes Secret, and how a container gets it.

It is an environment variable and never an argument, which everyone who may list pods can read. vLLM requires the key only on routes
below /v1 (/v2, /inference). /health and /metrics stay open for probes and monitoring, and so do some that should not; see
docs/hardening.md, *The API key*.
"""

from __future__ import annotations

from typing import Any

import pulumi
from pulumi_kubernetes import core

from components.serving.api_key_names import SECRET_KEY, SECRET_NAME

#: vLLM's own name for it: https://docs.vllm.ai/en/stable/configuration/env_vars/
VARIABLE = "VLLM_API_KEY"

#: Annotation of the pod template: another key is another Secret, which only new containers read.
ANNOTATION = "fungibility/api-key-secret"


def is_given(api_key: pulumi.Input[str]) -> bool:
    """Whether there is a key: an empty text is not one, and a value that is known only later counts as one."""
    return api_key != "" if isinstance(api_key, str) else True


def api_key_secret(prefix: str, *, namespace: str, api_key: pulumi.Input[str], parent: pulumi.Resource) -> core.v1.Secret | None:
    """The Secret, or None if there is no key."""
    if not is_given(api_key):
        return None
    return core.v1.Secret(
        f"{prefix}-{SECRET_NAME}",
        metadata={"name": SECRET_NAME, "namespace": namespace},
        string_data={SECRET_KEY: pulumi.Output.secret(api_key)},
        opts=pulumi.ResourceOptions(parent=parent),
    )


def container_environment(api_key: pulumi.Input[str]) -> list[dict[str, Any]]:
    """Entries of a container's `env`."""
    if not is_given(api_key):
        return []
    return [{"name": VARIABLE, "value_from": {"secret_key_ref": {"name": SECRET_NAME, "key": SECRET_KEY}}}]


def pod_annotations(secret: core.v1.Secret | None) -> dict[str, pulumi.Input[str]]:
    """The Secret's UID: a changed key replaces the Secret, and so rolls the pods. It reveals nothing about the key."""
    return {} if secret is None else {ANNOTATION: secret.metadata.apply(lambda metadata: str(metadata.uid) if metadata else "")}
