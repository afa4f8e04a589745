"""The API key of vLLM's server: its Kubernetes Secret, and how a container gets it.

By environment variable, never by argument, which everybody who may look at a pod can read. vLLM asks for the key on routes below
/v1 (/v2, /inference) alone: /health and /metrics stay open for probes and monitoring, and so do others that do not need to be; see
docs/hardening.md, *The API key*.
"""

from __future__ import annotations

from typing import Any

import pulumi
from pulumi_kubernetes import core

from components.serving.api_key_names import SECRET_KEY, SECRET_NAME

#: vLLM's own name for it: https://docs.vllm.ai/en/stable/configuration/env_vars/
VARIABLE = "VLLM_API_KEY"

#: Of the pod template: another key is another Secret, and only a new container reads it.
ANNOTATION = "fungibility/api-key-secret"


def is_given(api_key: pulumi.Input[str]) -> bool:
    """Whether there is a key: an empty text is none, and what is known only later is one."""
    return api_key != "" if isinstance(api_key, str) else True


def api_key_secret(prefix: str, *, namespace: str, api_key: pulumi.Input[str], parent: pulumi.Resource) -> core.v1.Secret | None:
    """The Secret, or None where there is no key."""
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
    """The Secret's own identity: a changed key replaces the Secret, and so rolls the pods. It says nothing of the key."""
    return {} if secret is None else {ANNOTATION: secret.metadata.apply(lambda metadata: str(metadata.uid) if metadata else "")}
