"""Rules between settings: what each allows by itself and the others rule out.

Left out: whether the project has the quota, the permissions or the capacity; that is a live question.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from components.catalog.boot_disks import DEFAULT_DISK_GB
from components.catalog.capacity import (
    SIDECAR_REQUESTS,
    allocatable_ephemeral_storage,
    allocatable_memory,
    allocatable_millicpu,
    shared_memory_gib,
)
from components.catalog.shutdown import SLOW_SETTLE_SECONDS, least_grace_seconds
from components.catalog.vllm_releases import SHUTDOWN_TIMEOUT, needs_driver_580, text_of
from components.settings.accelerator_pool import AcceleratorPool, zone_problem
from components.settings.formats import ANSWER_OPTIONS, answer_arguments
from components.settings.gateway import INTERNAL, overlap
from components.settings.problems import Problem, counted
from components.settings.reader import Reader
from components.settings.sections import Settings
from components.settings.value_types import is_quantity, parse_quantity


def check(settings: Settings, reader: Reader, *, own_stack: str) -> None:
    """Adds to the reader's problems; what a field is refused for by itself is not judged beside others. `own_stack`: PROJECT/STACK."""
    found = [
        *_zone(settings),
        *_base_images(settings),
        *_images_from(settings, own_stack),
        *_secrets(settings),
        *_requests(settings),
        *_exposure(settings),
        *_gateway(settings),
        *_control_plane(settings),
        *_encryption_key(settings),
        *_devices(settings),
        *_fallback(settings),
        *_addresses(settings),
        *_image_streaming(settings),
        *_weights(settings),
        *([] if reader.refused("acceleratorPools") else _replicas(settings)),
        *_metrics(settings),
        *_grace_period(settings),
        *_drains(settings),
        *_drivers(settings),
        *_answers(settings),
        *_rollout(settings),
    ]
    reader.problems += [each for each in found if not reader.refused(each.field)]


def _zone(settings: Settings) -> Iterator[Problem]:
    if (problem := zone_problem(settings.place.zone, settings.place.region)) is not None:
        yield Problem("zone", settings.place.zone, *problem)


def _base_images(settings: Settings) -> Iterator[Problem]:
    images = settings.images
    for pool in settings.accelerators.pools:
        # What is not built needs no base.
        if not images.base_images[pool.kind] and not images.prebuilt_from and pool.kind not in images.prebuilt:
            yield Problem(
                f"{pool.kind}BaseImage",
                "",
                f"is empty, and no other image serves pool {pool.name} ({pool.machine_type})",
                f"give the base of the {pool.kind.upper()} image, or remove the pool",
            )


def _images_from(settings: Settings, own_stack: str) -> Iterator[Problem]:
    stack = settings.images.prebuilt_from
    # The organisation is not known here: two that have a stack of one name each are taken for one.
    if stack and stack.partition("/")[2] == own_stack:
        reason = "is this very stack, so that nothing would build the images"
        yield Problem("imagesFrom", stack, reason, "name the stack that builds them, or leave it empty")


def _secrets(settings: Settings) -> Iterator[Problem]:
    """The value in two places would leave open which of them counts."""
    for key, value, reference in (
        ("huggingFaceToken", settings.server.hugging_face_token, settings.server.hugging_face_token_secret),
        ("apiKey", settings.security.api_key, settings.security.api_key_secret),
    ):
        if value and reference is not None:
            yield Problem(f"{key}Secret", reference.secret, f"is set, and so is {key}", "`pulumi config rm` one of the two")


def _requests(settings: Settings) -> Iterator[Problem]:
    """A pod runs on any pool, so its requests, all containers together, must fit the smallest node of all."""
    server, pools = settings.server, settings.accelerators.pools
    containers = len(settings.accelerators.kinds)
    # Beside them runs what mounts the weights cache.
    sidecar = {key: parse_quantity(value) if server.weights_cache else 0.0 for key, value in SIDECAR_REQUESTS.items()}
    streams = settings.cluster.image_streaming
    checks: list[tuple[str, str, int, float, Callable[[AcceleratorPool], float]]] = [
        ("cpuRequest", server.cpu_request, containers, sidecar["cpu"], lambda pool: allocatable_millicpu(pool.machine.vcpus) / 1000),
        (
            "memoryRequest",
            server.memory_request,
            containers,
            sidecar["memory"],
            lambda pool: (
                allocatable_memory(pool.machine.memory_gb, image_streaming=streams) - shared_memory_gib(pool.machine.count) * 2**30
            ),
        ),
    ]
    if "gpu" in settings.accelerators.kinds:
        checks.append(
            (
                "gpuEphemeralStorageLimit",
                server.gpu_ephemeral_storage_limit,
                1,
                sidecar["ephemeral-storage"],
                lambda pool: allocatable_ephemeral_storage(pool.disk_size_gb or DEFAULT_DISK_GB),
            )
        )
    for field, value, count, taken, offers in checks:
        if not pools or not is_quantity(value):
            continue
        smallest = min(pools, key=offers)
        offered = offers(smallest) - taken
        if parse_quantity(value) * count > offered:
            room = f"{max(offered, 0):.2f}" if field == "cpuRequest" else f"{max(offered, 0) / 2**30:.1f}Gi"
            times = f"for each of {count} containers " if count > 1 else ""
            beside = " beside the sidecar container of weightsCache" if taken else ""
            larger = "give the pool a larger machine or disk"
            share = _share(field, offered / count)
            yield Problem(
                field,
                value,
                f"{times}is more than the {room} that a node of pool {smallest.name} ({smallest.machine_type}) offers to pods{beside}",
                f"request at most {share}, or {larger}" if share else larger,
            )


def _share(field: str, offered: float) -> str:
    """The largest quantity in whole units that fits; empty when there is none to speak of."""
    if field == "cpuRequest":
        return f"{int(offered * 1000)}m" if offered >= 0.001 else ""
    if offered >= 2**30:
        return f"{int(offered / 2**30)}Gi"
    return f"{int(offered / 2**20)}Mi" if offered >= 2**20 else ""


def _exposure(settings: Settings) -> Iterator[Problem]:
    """A server without a key may be open to listed clients, but not to everyone."""
    security = settings.security
    keyless = security.api_key == "" and security.api_key_secret is None
    if security.require_api_key and keyless and settings.network.public:
        closed = "gateway.sourceRanges" if settings.network.gateway else "loadBalancerSourceRanges, or set internalLoadBalancer"
        yield Problem(
            "requireApiKey",
            True,
            "asks for an API key, since everyone on the internet can reach the load balancer",
            f"set apiKeySecret or apiKey, or name {closed}; `requireApiKey: false` leaves the server open to everyone",
        )


def _gateway(settings: Settings) -> Iterator[Problem]:
    network = settings.network
    gateway = network.gateway
    if network.inference_gateway and (gateway is None or not gateway.regional):
        # https://docs.cloud.google.com/kubernetes-engine/docs/concepts/about-gke-inference-gateway
        reason = "has no gateway that would ask it" if gateway is None else f"is for regional classes, and {gateway.class_name} is not one"
        yield Problem("inferenceGateway", True, reason, f"give gateway a class such as {INTERNAL}, or set it to false")
    if gateway is None:
        return
    without = "has no effect with gateway, which takes the place of the Service's load balancer"
    if network.load_balancer_source_ranges:
        instead = "gateway.sourceRanges in its place" if not gateway.internal else "nothing in its place: only the VPC reaches this class"
        yield Problem("loadBalancerSourceRanges", list(network.load_balancer_source_ranges), without, f"remove it, and give {instead}")
    if network.internal_load_balancer:
        yield Problem("internalLoadBalancer", True, without, f"remove it; gateway.class {INTERNAL} is the internal one")
    if network.ranges is not None and gateway.regional:
        own = {"nodeRange": network.ranges.nodes, "podRange": network.ranges.pods, "serviceRange": network.ranges.services}
        if (key := overlap(gateway, own)) is not None:
            reason = f"overlaps {key} {own[key]} of network"
            yield Problem("gateway.proxyRange", gateway.proxy_range, reason, "give every range addresses of its own")


def _control_plane(settings: Settings) -> Iterator[Problem]:
    network = settings.network
    if network.control_plane_endpoint == "dns" and network.control_plane_source_ranges:
        yield Problem(
            "controlPlaneSourceRanges",
            list(network.control_plane_source_ranges),
            "has no effect, since with controlPlaneEndpoint dns no address of the control plane is reached",
            "remove it, or set controlPlaneEndpoint to ip",
        )
    if network.client_namespaces and not network.network_policy:
        yield Problem(
            "clientNamespaces",
            list(network.client_namespaces),
            "has no effect without networkPolicy",
            "set networkPolicy to true, or remove it",
        )


def _encryption_key(settings: Settings) -> Iterator[Problem]:
    key, region = settings.security.secrets_encryption_key, settings.place.region
    location = key.split("/")[3] if key.count("/") > 3 else ""
    if location and region and location != region:
        reason = f"is in {location}, and GKE wants a key in the cluster's region {region}"
        yield Problem("secretsEncryptionKey", key, reason, f"name a key of {region}")


def _devices(settings: Settings) -> Iterator[Problem]:
    kinds, counts = sorted(settings.accelerators.kinds), settings.accelerators.gpu_counts
    if settings.server.device_access == "request" and (len(kinds) > 1 or len(counts) > 1):
        have = " and ".join(kinds) if len(kinds) > 1 else f"{' and '.join(map(str, counts))} GPUs"
        yield Problem(
            "deviceAccess",
            "request",
            f"cannot be: a pod that requests devices fits nodes with as many of that one alone, and the pools have {have}",
            "set it to auto or privileged, or keep to pools of one accelerator, as many in each",
        )


#: A TPU node takes about four minutes to come when there is one; on this the timer must not act.
_LEAST_FALLBACK_MINUTES = 5


def _fallback(settings: Settings) -> Iterator[Problem]:
    minutes = settings.accelerators.fallback_after_minutes
    if 0 < minutes < _LEAST_FALLBACK_MINUTES:
        reason = "is less than a TPU node may take to come (about four minutes), so that it would be given up each time"
        yield Problem("fallbackAfterMinutes", minutes, reason, f"give {_LEAST_FALLBACK_MINUTES} or more, or 0 for none")
    if minutes and sum(pool.enabled for pool in settings.accelerators.pools) == 1:
        yield Problem("fallbackAfterMinutes", minutes, "has no pool to fall back to: one alone is enabled", "give 0, or add a pool")


def most_nodes(settings: Settings) -> int:
    """Of all pools together."""
    system = settings.place.system_zones * settings.cluster.system_nodes_per_zone
    return sum(pool.max_nodes for pool in settings.accelerators.pools) + system


def _addresses(settings: Settings) -> Iterator[Problem]:
    ranges = settings.network.ranges
    nodes = most_nodes(settings)
    if ranges is not None and nodes > ranges.max_nodes:
        yield Problem(
            "network",
            {"nodeRange": ranges.nodes, "podRange": ranges.pods},
            f"has addresses for {ranges.max_nodes} nodes, and all pools together may have {nodes}",
            "take a longer podRange (each node takes a /24 of it) or nodeRange",
        )


def _image_streaming(settings: Settings) -> Iterator[Problem]:
    for pool in settings.accelerators.pools:
        if pool.secondary_boot_disk_image is not None and not settings.cluster.image_streaming:
            yield Problem(
                "imageStreaming",
                False,
                f"keeps pool {pool.name} from its preloaded images (secondaryBootDiskImage), which GKE reads by image streaming",
                "set it to true, or remove the pool's secondaryBootDiskImage",
            )


def _weights(settings: Settings) -> Iterator[Problem]:
    for kind, arguments in settings.server.arguments.items() if settings.server.weights_cache else ():
        for argument in arguments:
            if argument.split("=")[0].replace("_", "-") == "--download-dir":
                reason = "takes the weights past the cache that weightsCache asks for"
                yield Problem(f"{kind}ServerArguments", argument, reason, "remove it, or set weightsCache to false")


def _replicas(settings: Settings) -> Iterator[Problem]:
    """One replica a node, and with `surgeOnUpdate` a node more: an update brings the new pod before the old one goes."""
    scaling = settings.scaling
    nodes = sum(pool.max_nodes for pool in settings.accelerators.pools)
    field, most = ("maxReplicas", scaling.max_replicas) if scaling.autoscaled else ("replicas", scaling.replicas)
    surge = int(scaling.surge_on_update)
    if most + surge > nodes:
        brings = ", an update brings one more" if surge else ""
        fixes = [
            *([f"give at most {nodes - surge}"] if nodes > surge else []),
            "raise a pool's maxNodeCount",
            *(["set surgeOnUpdate to false, with which an update ends a replica before its successor starts"] if most == nodes else []),
        ]
        yield Problem(
            field,
            most,
            f"leaves no room: a node holds one replica{brings}, and all enabled accelerator pools together may have "
            f"{counted(nodes, 'node')}",
            ", or ".join(fixes),
        )
    if scaling.autoscaled and scaling.max_replicas <= scaling.replicas:
        yield Problem(
            "maxReplicas",
            scaling.max_replicas,
            f"is not above the {scaling.replicas} of replicas, which are the fewest, so there is nothing to scale",
            "raise it, or give 0 for a fixed number of replicas",
        )
    # Kubernetes's autoscaler tolerates a tenth above its target, and a full server's queue stays empty.
    least = scaling.target_running_requests * 11 // 10 + 1
    if scaling.autoscaled and 0 < (limit := settings.server.max_queued_requests) < least:
        yield Problem(
            "maxQueuedRequests",
            limit,
            "makes a full server answer 503 before the autoscaler adds a replica, above "
            f"{scaling.target_running_requests} running requests (targetRunningRequests) and a tenth",
            f"give at least {least}, or lower targetRunningRequests",
        )


def _metrics(settings: Settings) -> Iterator[Problem]:
    if settings.cluster.auto_monitoring_scope == "ALL" and settings.scaling.autoscaled:
        yield Problem(
            "autoMonitoringScope",
            "ALL",
            "leaves the replica autoscaler without its metric, which it reads by the labels of the program's own PodMonitoring",
            "set it to NONE, or maxReplicas to 0",
        )


def _grace_period(settings: Settings) -> Iterator[Problem]:
    grace = settings.server.termination_grace_period_seconds
    least = least_grace_seconds(slow=settings.network.leaves_slowly)
    if grace < least:
        which = "gateway" if settings.network.gateway else "networkPolicy"
        yield Problem(
            "terminationGracePeriodSeconds",
            grace,
            f"is too short with {which}, with which requests come in for {SLOW_SETTLE_SECONDS} s after a pod's end has begun",
            f"give at least {least}",
        )


def _drains(settings: Settings) -> Iterator[Problem]:
    """An older vLLM's server refuses an argument that it does not know."""
    for kind in settings.accelerators.kinds:
        release = settings.images.releases[kind]
        if settings.server.drains[kind] and release is not None and release < SHUTDOWN_TIMEOUT:
            yield Problem(
                f"{kind}ServerDrains",
                True,
                f"needs vLLM {text_of(SHUTDOWN_TIMEOUT)} or later, and {settings.images.vllm_image(kind)} is older: its server would "
                "refuse --shutdown-timeout and not start",
                "give false (the preStop hook waits for requests then), or a newer base image",
            )


def _drivers(settings: Settings) -> Iterator[Problem]:
    """GKE's DEFAULT driver is older than 580 (unverified for channels to come); LATEST is newer."""
    image = settings.images.vllm_image("gpu")
    for index, pool in enumerate(settings.accelerators.pools):
        if pool.gpu_driver_version == "DEFAULT" and needs_driver_580(image):
            yield Problem(
                f"acceleratorPools[{index}].gpuDriverVersion",
                "DEFAULT",
                f"is a driver older than the 580 that {image.partition('@')[0]} needs, as it is built on CUDA 13: no server would start",
                "give LATEST, or a gpuBaseImage built on CUDA 12.9, such as docker.io/vllm/vllm-openai:v0.31.0-cu129",
            )


def _answers(settings: Settings) -> Iterator[Problem]:
    if len(settings.accelerators.kinds) < 2:
        return
    gpu, tpu = (settings.server.arguments[kind] for kind in ("gpu", "tpu"))
    for option in ANSWER_OPTIONS:
        if answer_arguments(gpu, option) != answer_arguments(tpu, option):
            which = "gpu" if answer_arguments(gpu, option) else "tpu"
            yield Problem(
                f"{which}ServerArguments",
                option,
                "decides answers and is not the same in gpuServerArguments and tpuServerArguments: a client does not choose its "
                "accelerator, so the same request would get different answers",
                "give both the same",
            )


def _rollout(settings: Settings) -> Iterator[Problem]:
    server = settings.server
    if server.rollout_timeout_seconds < server.startup_seconds:
        yield Problem(
            "rolloutTimeoutSeconds",
            server.rollout_timeout_seconds,
            f"is less than the {server.startup_seconds} s that a server may take to start (serverStartupSeconds)",
            "raise it, and add the time that a node takes to come",
        )
