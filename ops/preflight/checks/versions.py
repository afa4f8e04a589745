"""Whether GKE's version, the channel's default or the cluster's own, is new enough for what the stack uses."""

from __future__ import annotations

import re

from components.settings.sections import Settings
from ops.findings import Finding, failed, ok, warning
from ops.preflight.context import Check, Context

#: https://docs.cloud.google.com/kubernetes-engine/docs/reference/crds/computeclass
COMPUTE_CLASS_MINIMUM = "1.30.3-gke.1451000"
#: Of flex-start by accelerator: https://docs.cloud.google.com/kubernetes-engine/docs/concepts/dws
FLEX_START_MINIMUMS = {"gpu": "1.32.2-gke.1652000", "tpu": "1.33.0-gke.1712000"}
#: https://docs.cloud.google.com/kubernetes-engine/docs/how-to/deploy-gke-inference-gateway: from there on GKE has InferencePool's type.
INFERENCE_POOL_MINIMUM = "1.34.0-gke.1626000"

_TITLE = "GKE version"


def version_key(version: str) -> tuple[int, ...]:
    """`1.33.5-gke.1201000` -> (1, 33, 5, 1201000), which compares as versions do. Raises `ValueError`."""
    match = re.fullmatch(r"(\d+)\.(\d+)\.(\d+)-gke\.(\d+)(?:\+.*)?", version)
    if match is None:
        raise ValueError(f"{version!r} is not a version of GKE")
    return tuple(int(each) for each in match.groups())


def minimum(settings: Settings) -> tuple[str, str]:
    """The oldest version that serves the stack, and what asks for it."""
    asked = [(COMPUTE_CLASS_MINIMUM, "ComputeClass")]
    for pool in settings.accelerators.pools:
        if pool.machine.chip.minimum:
            asked.append((pool.machine.chip.minimum, pool.machine.accelerator))
        if pool.provisioning == "flex-start":
            asked.append((FLEX_START_MINIMUMS[pool.kind], "flex-start"))
    if settings.network.inference_gateway:
        asked.append((INFERENCE_POOL_MINIMUM, "inferenceGateway"))
    return max(asked, key=lambda each: version_key(each[0]))


def _run(context: Context) -> list[Finding]:
    settings, project, place = context.settings, context.project, context.settings.place.cluster_location
    least, why = minimum(settings)
    location = f"projects/{project}/locations/{place}"
    cluster = context.google.find("container", f"v1/{location}/clusters/{settings.cluster.name}")
    if cluster is not None:
        running = str(cluster["currentMasterVersion"])
        what = f"{_TITLE} of cluster {settings.cluster.name}"
        if version_key(running) >= version_key(least):
            return [ok(what, f"{running}, and {why} needs {least}")]
        fix = f"gcloud container clusters upgrade {settings.cluster.name} --master --location={place} --project={project}"
        value = f"{running} is too old: {why} needs {least}"
        return [failed(what, value, reason="the cluster was made with an older version", fix=fix)]
    answer = context.google.get("container", f"v1/{location}/serverConfig")
    what = f"{_TITLE} of channel {settings.cluster.release_channel} in {place}"
    listing = (
        f"gcloud container get-server-config --location={place} --project={project} --flatten=channels "
        f'--filter="channels.channel={settings.cluster.release_channel}"'
    )
    channels = {each.get("channel"): each for each in answer.get("channels", [])}
    channel = channels.get(settings.cluster.release_channel)
    if channel is None or "defaultVersion" not in channel:
        return [warning(what, "not checked: the region does not offer the channel", reason="it is not listed", fix=listing)]
    default = str(channel["defaultVersion"])
    if version_key(default) >= version_key(least):
        return [ok(what, f"{default}, and {why} needs {least}")]
    newer = [name for name in ("REGULAR", "RAPID") if _serves(channels.get(name), least)]
    fix = f"pulumi config set releaseChannel {newer[0]}" if newer else listing
    value = f"{default} is too old: {why} needs {least}"
    return [failed(what, value, reason="a new cluster gets the channel's default version", fix=fix)]


def _serves(channel: dict[str, str] | None, least: str) -> bool:
    return channel is not None and version_key(channel.get("defaultVersion", "0.0.0-gke.0")) >= version_key(least)


CHECK = Check(name="versions", title=_TITLE, needs=("credentials",), run=_run)
