"""Pods run images that cannot change under them, and with no more rights than the servers need.

Left out: objects of a Helm chart or a YAML file that the provider does not turn into resources of these types.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from policies.rule import UNKNOWN, Finding, Option, Options, Resource, ResourceRule, Undecided, Violation, get

_TEMPLATE = ("spec", "template", "spec")
#: Kind -> where its pod's spec is.
_POD_SPECS: dict[str, tuple[str, ...]] = {
    "Pod": ("spec",),
    "PodTemplate": ("template", "spec"),
    "Deployment": _TEMPLATE,
    "ReplicaSet": _TEMPLATE,
    "ReplicationController": _TEMPLATE,
    "StatefulSet": _TEMPLATE,
    "DaemonSet": _TEMPLATE,
    "Job": _TEMPLATE,
    "CronJob": ("spec", "jobTemplate", *_TEMPLATE),
}
_WORKLOAD = re.compile(r"kubernetes:(?:core|apps|batch)/[^:]+:(?P<kind>[A-Za-z]+?)(?P<patch>Patch)?")
_CONTAINER_LISTS = ("initContainers", "containers", "ephemeralContainers")
_BY_DIGEST = re.compile(r"[^\s@]+@sha256:[0-9a-f]{64}")
_BY_TAG = re.compile(r"(?P<repository>[^\s@]+):(?P<tag>[\w][\w.-]*)")


def pod_spec_path(resource: Resource) -> tuple[str, ...] | None:
    """Where the pod's spec is in a workload; None for anything else."""
    match = _WORKLOAD.fullmatch(resource.type)
    return _POD_SPECS.get(match["kind"]) if match else None


def containers(resource: Resource) -> Iterator[tuple[str, Any]]:
    """Path and properties of each container; the properties are UNKNOWN if a preview does not know them."""
    spec = pod_spec_path(resource)
    for each in _CONTAINER_LISTS if spec else ():
        path = ".".join([*(spec or ()), each])
        found = resource.get(*(spec or ()), each)
        if found is UNKNOWN:
            yield path, UNKNOWN
        for index in range(len(found) if isinstance(found, (list, tuple)) else 0):
            name = get(found, index, "name")
            yield f"{path}[{name if isinstance(name, str) else index}]", found[index]


def mutable_image(resource: Resource, options: Options) -> Iterable[Finding]:
    for path, container in containers(resource):
        image = get(container, "image")
        if image is UNKNOWN:
            yield Undecided(resource=resource, field=path if container is UNKNOWN else f"{path}.image")
        elif image is None and resource.type.endswith("Patch"):
            continue
        elif not isinstance(image, str) or not (_BY_DIGEST.fullmatch(image) or _may_have_tag(image, options["byTag"])):
            yield Violation(
                resource=resource,
                field=f"{path}.image",
                value=image,
                reason="is not an image by digest: a tag can move to another image, so two nodes may run different code, and a "
                "rebuild does not roll the pods",
                fix="use REGISTRY/REPOSITORY@sha256:DIGEST, as the `images` output gives it",
            )


def _may_have_tag(image: str, repositories: Iterable[Any]) -> bool:
    match = _BY_TAG.fullmatch(image)
    return match is not None and match["repository"] in repositories and match["tag"] != "latest"


def privileged(resource: Resource, options: Options) -> Iterable[Finding]:
    allowed = [str(each) for each in options["allowed"]]
    for path, container in containers(resource):
        is_privileged = get(container, "securityContext", "privileged")
        name = get(container, "name")
        where = path if container is UNKNOWN else f"{path}.securityContext.privileged"
        if is_privileged is UNKNOWN:
            if name not in allowed:
                yield Undecided(resource=resource, field=where)
        elif is_privileged is True and name is UNKNOWN:
            yield Undecided(resource=resource, field=f"{path}.name")
        elif is_privileged is True and name not in allowed:
            yield Violation(
                resource=resource,
                field=where,
                value=True,
                reason=f"gives container {name} all rights of its node, which only the servers' containers ({', '.join(allowed)}) need, "
                "to reach their device",
                fix="remove it, and give the container the capabilities that it needs",
            )


def _trusts_remote_code(word: str) -> bool:
    """vLLM also takes underscores for hyphens, and beginnings of an option's name."""
    return word.startswith("--trust") and "--trust-remote-code".startswith(word.replace("_", "-"))


def remote_code(resource: Resource, options: Options) -> Iterable[Finding]:
    for path, container in containers(resource):
        if get(container, "securityContext", "privileged") is not True:
            continue
        for part in ("command", "args"):
            words = get(container, part)
            if words is UNKNOWN:
                yield Undecided(resource=resource, field=f"{path}.{part}")
            for word in words if isinstance(words, (list, tuple)) else ():
                if isinstance(word, str) and _trusts_remote_code(word):
                    yield Violation(
                        resource=resource,
                        field=f"{path}.{part}",
                        value=word,
                        reason="runs code from the model's repository in a privileged container, which has all rights of its node",
                        fix="serve a model that needs no code of its own, or use pools of one accelerator, whose containers are not "
                        "privileged (`deviceAccess`)",
                    )


RULES = (
    ResourceRule(
        name="images-by-digest",
        description="Pods run images by digest.",
        level="mandatory",
        because="the program pins every image that it runs, so a tag can only be a mistake",
        options={
            "byTag": Option(
                type="array",
                # Google releases it with a manifest that names a tag, and publishes no digest beside it.
                default=["gcr.io/gke-release/custom-metrics-stackdriver-adapter"],
                description="Repositories whose images may be named by a tag other than latest.",
            )
        },
        check=mutable_image,
    ),
    ResourceRule(
        name="no-privileged-container",
        description="Only containers that use an accelerator are privileged.",
        level="mandatory",
        because="a privileged container has all rights of its node",
        options={
            "allowed": Option(type="array", default=["vllm-gpu", "vllm-tpu"], description="Names of containers that may be privileged.")
        },
        check=privileged,
    ),
    ResourceRule(
        name="no-remote-code-with-privilege",
        description="A privileged container runs no code from a model's repository (`--trust-remote-code`).",
        level="mandatory",
        because="anyone who may push to the repository would have all rights of the node",
        check=remote_code,
    ),
)
