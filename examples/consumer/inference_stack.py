"""Another stack's outputs, checked before they are used. Copy this file into a consumer of your own.

Every value here waits for the check of all: a missing output ends the program before its first resource, and all problems are
reported at once. Secret outputs stay secret.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pulumi


@dataclass(frozen=True, kw_only=True)
class InferenceStack:
    """What this program takes from the stack that serves the model; docs/outputs.md says what is promised about it."""

    #: Base URL of an OpenAI client, ending in `/v1`.
    service_url: pulumi.Output[str]
    model: pulumi.Output[str]
    namespace: pulumi.Output[str]
    #: `LOCATION-docker.pkg.dev/PROJECT/REPOSITORY`, from which the cluster's nodes may pull.
    image_repository: pulumi.Output[str]
    #: Secret.
    kubeconfig: pulumi.Output[str]


def read(stack: str) -> InferenceStack:
    """The outputs of a stack (ORGANISATION/PROJECT/STACK). Their check raises `pulumi.RunError`."""
    reference = pulumi.StackReference(stack)
    # The check returns names and no values, so its result is not secret, although one of the outputs is.
    checked = pulumi.Output.unsecret(reference.outputs.apply(lambda outputs: check(stack, outputs)))

    def output(name: str) -> pulumi.Output[str]:
        return pulumi.Output.all(checked, reference.get_output(name)).apply(lambda known: str(known[1]))

    return InferenceStack(
        service_url=output("service_url"),
        model=output("model"),
        namespace=output("namespace"),
        image_repository=output("image_repository"),
        # Secret here whether or not the other stack marks it so.
        kubeconfig=pulumi.Output.secret(output("kubeconfig")),
    )


#: Output -> the pattern it has to match, and the pattern's meaning.
_EXPECTED: dict[str, tuple[Callable[[str], bool], str]] = {
    "service_url": (lambda value: re.fullmatch(r"https?://\S+/v1", value) is not None, "a URL that ends in /v1"),
    "model": (lambda value: bool(value), "a name of a model"),
    "namespace": (lambda value: bool(value), "a Kubernetes namespace"),
    "image_repository": (lambda value: value.count("/") >= 2, "LOCATION-docker.pkg.dev/PROJECT/REPOSITORY"),
    "kubeconfig": (lambda value: "clusters" in value, "a kubeconfig"),
}


def check(stack: str, outputs: Mapping[str, Any]) -> list[str]:
    """The names of the outputs if all are valid. Raises `pulumi.RunError` with every problem, without the value of kubeconfig."""
    problems = []
    for name, (is_good, what) in _EXPECTED.items():
        value = outputs.get(name)
        if value is None:
            problems.append(f"output `{name}` is missing")
        elif not isinstance(value, str) or not is_good(value):
            shown = "" if name == "kubeconfig" else f" {json.dumps(value, default=str)}"
            problems.append(f"output `{name}`{shown} is not {what}")
    if not problems:
        return sorted(outputs)
    known = ", ".join(sorted(outputs)) or "none"
    raise pulumi.RunError(
        f"inferenceStack: stack {stack} cannot be used; nothing was created or changed.\n"
        + "".join(f"  - {problem}\n" for problem in problems)
        + f"Its outputs: {known}.\n"
        + f"Fix: `pulumi up --stack {stack}` in its own folder (an update that failed half-way leaves outputs out), or name a stack "
        "of tpu-gpu-fungibility in `inferenceStack`."
    )
