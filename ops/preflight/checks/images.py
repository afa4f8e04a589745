"""Whether the base image of each image that is built here exists. Left out: prebuilt images, which nodes pull with their own rights."""

from __future__ import annotations

from ops.findings import Finding, failed, ok, skipped, warning
from ops.preflight.calls import CallFailed
from ops.preflight.context import Check, Context, explain
from ops.preflight.registry import Reference, digest_of

_TITLE = "Base images"


def _run(context: Context) -> list[Finding]:
    settings = context.settings
    kinds = dict.fromkeys(pool.kind for pool in settings.accelerators.pools)
    built = [kind for kind in kinds if kind not in settings.images.prebuilt and not settings.images.prebuilt_from]
    if not built:
        return [skipped(_TITLE, reason="every image of this stack is prebuilt (images, imagesFrom)")]
    return [_one(context, f"{kind}BaseImage", settings.images.base_images[kind]) for kind in built]


def _one(context: Context, setting: str, text: str) -> Finding:
    reference = Reference.of(text)
    what = f"{setting} {text}"
    try:
        digest = digest_of(context.web, reference, context.google.wait_for_token)
    except CallFailed as failure:
        reason = f"{failure.service}: {failure.message}"
        if failure.reason == "not-found":
            fix = f"choose a tag that {reference.host} has: pulumi config set {setting} REGISTRY/REPOSITORY:TAG"
            return failed(what, "does not exist", reason=reason, fix=fix)
        if failure.reason == "denied":
            fix = f"docker manifest inspect {text}  (after docker login {reference.host}); correct {setting} if that fails too"
            return failed(what, "does not exist, or is not for everybody", reason=reason, fix=fix)
        if failure.reason == "credentials":
            return skipped(what, reason="its registry is Google's, and there are no credentials")
        if failure.reason == "throttled":
            fix = "run preflight again later; Docker Hub counts by address"
            return warning(what, "not checked: the registry allows no more requests for now", reason=reason, fix=fix)
        return explain(failure, what, context)
    return ok(what, f"exists ({digest})" if digest else "exists")


CHECK = Check(name="images", title=_TITLE, run=_run)
