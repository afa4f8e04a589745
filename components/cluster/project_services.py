"""The Google APIs that a component needs: switched on in the project, and waited for until they answer."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence

import pulumi
from pulumi_gcp import projects

#: Google's answer for an API that is off, and for some minutes for one that has just been switched on. Neither the provider nor the SDK
#: tries again (terraform-provider-google#10510 quotes the answer, and its log says "non-retryable").
_NOT_YET = re.compile(r"accessNotConfigured|SERVICE_DISABLED|API has not been used in project \S+ before or it is disabled")

#: Pauses between tries, five minutes in all; the engine allows 100 tries (pulumi/pulumi, pkg/resource/deploy/retries.go).
_PAUSES = (2, 4, 8, 16, *[30] * 9)


def enable_apis(prefix: str, apis: Sequence[str], *, project: str, parent: pulumi.Resource) -> list[pulumi.Resource]:
    """One resource for each API; `container` stands for container.googleapis.com."""
    return [
        projects.Service(
            f"{prefix}-{api}-api",
            project=project,
            service=f"{api}.googleapis.com",
            # Other programs of the project may use the API, so destroying this stack must not switch it off.
            disable_on_destroy=False,
            opts=pulumi.ResourceOptions(parent=parent),
        )
        for api in apis
    ]


async def _wait_for_new_api(args: pulumi.ErrorHookArgs) -> bool:
    """Whether to try once more, after a pause; `args.errors` has every failure so far, the last one first."""
    tried = len(args.errors)
    if not _NOT_YET.search(args.errors[0]) or tried > len(_PAUSES):
        return False
    pause = _PAUSES[tried - 1]
    pulumi.log.info(
        f"{args.name}: Google does not serve this API yet, which it may not for minutes after it was enabled; next try in {pause} s"
    )
    await asyncio.sleep(pause)
    return True


def waiting_for_new_apis(*providers: pulumi.ProviderResource) -> pulumi.ResourceOptions:
    """Options of components on Google's APIs: what an API refuses because it was only just switched on is tried again."""
    hook = pulumi.ErrorHook("new-api", _wait_for_new_api)

    def add(args: pulumi.ResourceTransformationArgs) -> pulumi.ResourceTransformationResult | None:
        if not args.type_.startswith(("gcp:", "docker:")):
            return None
        hooks = pulumi.ResourceOptions(hooks=pulumi.ResourceHookBinding(on_error=[hook]))
        return pulumi.ResourceTransformationResult(args.props, pulumi.ResourceOptions.merge(args.opts, hooks))

    return pulumi.ResourceOptions(providers=list(providers), transformations=[add])
