"""The stack's settings: the only reader of configuration, checked as a whole before the first resource.

Types, defaults and descriptions of the scalars are in Pulumi.yaml, their one home; here is what a schema cannot say.
Left out: whether the project has the quota, the permissions or the capacity; that is a live question.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pulumi
from pulumi.runtime.config import CONFIG, get_config_env

from components.catalog.capacity import (
    DEFAULT_DISK_GB,
    allocatable_ephemeral_storage,
    allocatable_memory,
    allocatable_millicpu,
)
from components.catalog.machines import KINDS, PLAIN_MACHINE_TYPES, Kind
from components.serving import drain
from components.serving.device_access import CHOICES as DEVICE_ACCESS_CHOICES
from components.serving.device_access import DeviceAccess, device_access
from components.serving.model_caches import SIDECAR_REQUESTS
from components.settings.accelerator_pool import (
    MAX_NAME_LENGTH,
    MAX_POOLS,
    NAME_PATTERN,
    AcceleratorPool,
    is_zone_of,
    parse_pools,
)
from components.settings.maintenance_window import MaintenanceWindow, parse_maintenance_window
from components.settings.network_ranges import NetworkRanges, as_range, parse_network
from components.settings.problems import Problem, SettingsError, nearest
from components.settings.secret_reference import SecretReference, parse_reference

RELEASE_CHANNELS = ("RAPID", "REGULAR", "STABLE", "EXTENDED")

#: Lifts the limit on accelerator pools, for the bench alone, which measures what 300 of them cost. A variable and no setting: no
#: stack's file can have it, nobody's shell has it by accident, and every preview under it says so.
MAX_POOLS_VARIABLE = "FUNGIBILITY_BENCH_MAX_POOLS"

#: Secret settings never appear in a message.
SECRET_FIELDS = ("huggingFaceToken", "apiKey")

#: How the control plane is reached: by its address, or by its DNS name with IAM in front.
CONTROL_PLANE_ENDPOINTS = ("ip", "dns")

_QUANTITY = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)(m|k|Ki|M|Mi|G|Gi|T|Ti)?")
_FACTORS = {
    "m": 1e-3, "": 1.0, "k": 1e3, "Ki": 2.0**10, "M": 1e6, "Mi": 2.0**20, "G": 1e9, "Gi": 2.0**30, "T": 1e12, "Ti": 2.0**40,
}  # fmt: skip

#: A reference that names its registry, with a tag or a digest: https://github.com/distribution/reference
_IMAGE = re.compile(
    r"(?P<name>[a-z0-9][a-z0-9.-]*(?::[0-9]+)?(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)+)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)

#: ORGANISATION/PROJECT/STACK; the organisation of a backend without any is `organization`.
_STACK = re.compile(r"[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+")

#: https://docs.cloud.google.com/monitoring/api/ref_v3/rest/v3/projects.notificationChannels
_NOTIFICATION_CHANNEL = re.compile(r"projects/[^/\s]+/notificationChannels/[0-9]+")

#: Of one alert policy: https://docs.cloud.google.com/monitoring/quotas (unverified).
_MAX_NOTIFICATION_CHANNELS = 16

_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")

#: https://docs.cloud.google.com/resource-manager/docs/labels-overview#requirements, without its international letters.
_LABEL_KEY = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_LABEL_VALUE = re.compile(r"[a-z0-9_-]{0,63}")
_MAX_LABELS = 64

_CRYPTO_KEY = re.compile(r"projects/[^/]+/locations/(?P<location>[a-z0-9-]+)/keyRings/[A-Za-z0-9_-]{1,63}/cryptoKeys/[A-Za-z0-9_-]{1,63}")

#: A key goes into an HTTP header, so no spaces; shorter ones can be guessed.
_API_KEY = re.compile(r"[\x21-\x7e]{16,}")

#: So does a token.
_TOKEN = re.compile(r"[\x21-\x7e]*")

#: What huggingface_hub's `validate_repo_id` takes, with an organisation:
#: https://huggingface.co/docs/huggingface_hub/package_reference/utilities#huggingface_hub.utils.validate_repo_id
_MODEL = re.compile(r"(?!.*(?:--|\.\.))(?=.{1,96}$)[A-Za-z0-9_][A-Za-z0-9_.-]*/[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?(?<!\.git)")

#: Arguments of vLLM's server that the program gives itself, or whose meaning it rests on -> what decides it instead.
_OWN_ARGUMENTS = {
    "--host": "the program listens where its probes look",
    "--port": "`servicePort` is the clients' port",
    "--uds": "the program listens where its probes look",
    "--model": "`model` decides it",
    "--tensor-parallel-size": "`acceleratorPools` decide it",
    "-tp": "`acceleratorPools` decide it",
    "--shutdown-timeout": "`terminationGracePeriodSeconds`, `gpuServerDrains` and `tpuServerDrains` decide it",
    "--served-model-name": "clients ask for the output `model`, which is the setting's",
    # Where everybody who may look at a pod reads it, and in the stack's file in the clear.
    "--api-key": "`apiKey` or `apiKeySecret` gives it without showing it",
    "--hf-token": "`huggingFaceToken` or `huggingFaceTokenSecret` gives it without showing it",
    # The probes and the load balancer speak HTTP.
    "--ssl-keyfile": "the probes and the load balancer speak plain HTTP",
    "--ssl-certfile": "the probes and the load balancer speak plain HTTP",
}

#: The same, of one accelerator's server.
_OWN_ARGUMENTS_OF: Mapping[Kind, Mapping[str, str]] = {
    "gpu": {},
    "tpu": {"--max-model-len": "`maxModelLen` decides it"},
}

#: A public range with more addresses than this is the internet.
_WIDE_PREFIX = 8


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that a user may choose; Pulumi.yaml describes each field."""

    project: str
    region: str
    zone: str
    cluster_name: str
    release_channel: str
    deletion_protection: bool
    system_machine_type: str
    system_nodes_per_zone: int
    compute_class_name: str
    active_migration: bool
    consolidation_delay_minutes: int
    accelerator_pools: tuple[AcceleratorPool, ...]
    image_streaming: bool
    weights_cache: bool
    xla_cache: bool
    repository_name: str
    image_name: str
    base_images: Mapping[Kind, str]
    #: References by digest that run as they are.
    images: Mapping[Kind, str]
    #: Empty, or the stack whose images run instead of a build.
    images_from: str
    model: str
    max_model_len: int
    server_arguments: Mapping[Kind, tuple[str, ...]]
    namespace: str
    replicas: int
    #: 0 for a fixed number of replicas.
    max_replicas: int
    target_waiting_requests: int
    scale_down_stabilization_seconds: int
    keep_last_replica: bool
    cpu_request: str
    memory_request: str
    gpu_ephemeral_storage_limit: str
    service_port: int
    load_balancer_source_ranges: tuple[str, ...]
    server_startup_seconds: int
    termination_grace_period_seconds: int
    #: Whether the accelerator's server finishes requests after SIGTERM.
    server_drains: Mapping[Kind, bool]
    rollout_timeout_seconds: int
    monitoring: bool
    notification_channels: tuple[str, ...]
    pending_alert_minutes: int
    waiting_alert_requests: int
    first_token_alert_seconds: int
    preemption_alert_count: int
    #: Secret; empty for a model that needs none.
    hugging_face_token: pulumi.Input[str]
    #: Where the token is instead.
    hugging_face_token_secret: SecretReference | None
    #: Secret; empty for a server that asks for none, or whose key is elsewhere.
    api_key: pulumi.Input[str]
    #: Where the key is instead.
    api_key_secret: SecretReference | None
    internal_load_balancer: bool
    #: None: the project's default network, with public nodes.
    network: NetworkRanges | None
    #: One of CONTROL_PLANE_ENDPOINTS.
    control_plane_endpoint: str
    control_plane_source_ranges: tuple[str, ...]
    network_policy: bool
    client_namespaces: tuple[str, ...]
    device_access: DeviceAccess
    #: None: any time.
    maintenance_window: MaintenanceWindow | None
    #: Resource name of a Cloud KMS key, or empty.
    secrets_encryption_key: str
    binary_authorization: bool
    vulnerability_scanning: bool
    #: 0: every image is kept.
    image_retention_days: int
    cost_allocation: bool
    labels: Mapping[str, str]

    @property
    def autoscaled(self) -> bool:
        """Whether a HorizontalPodAutoscaler owns the number of replicas."""
        return self.max_replicas > 0


def load() -> Settings:
    """The settings of the stack that the engine runs. Raises `SettingsError` with every problem at once."""
    config = pulumi.Config()
    # In the clear while they are checked, and secret from then on, even where the stack's file has them in the clear.
    settings = parse(
        {**get_config_env(), **CONFIG.get()},
        namespace=config.name,
        stack=pulumi.get_stack(),
        hugging_face_token=config.get("huggingFaceToken") or "",
        api_key=config.get("apiKey") or "",
        max_pools=_max_pools(os.environ),
    )
    return replace(
        settings,
        hugging_face_token=pulumi.Output.secret(settings.hugging_face_token),
        api_key=pulumi.Output.secret(settings.api_key) if settings.api_key else "",
    )


def _max_pools(environment: Mapping[str, str]) -> int:
    """The limit on pools. Raises `SettingsError` for a lifted one that is no number."""
    lifted = environment.get(MAX_POOLS_VARIABLE)
    if not lifted:
        return MAX_POOLS
    if not re.fullmatch(r"[1-9]\d{0,3}", lifted):
        fix = f"unset it (the limit is {MAX_POOLS} then), or give a whole number from 1 to 9999"
        raise SettingsError(pulumi.get_stack(), [Problem(MAX_POOLS_VARIABLE, lifted, "is not a number of pools", fix)])
    pulumi.log.warn(
        f"{MAX_POOLS_VARIABLE} is set: up to {lifted} accelerator pools are taken instead of {MAX_POOLS}. It is for `make bench` "
        "alone; unset it for a stack that is to serve."
    )
    return int(lifted)


def parse(
    values: Mapping[str, Any],
    *,
    namespace: str,
    stack: str,
    hugging_face_token: str,
    api_key: str = "",
    max_pools: int = MAX_POOLS,
) -> Settings:
    """Settings from `NAMESPACE:key` -> text as the engine hands them over. Raises `SettingsError`, which shows no secret.

    The secrets come apart, since not everybody who reads settings can decrypt them.
    """
    reader = _Reader(values, namespace)
    project = reader.project()
    region = reader.matching("region", r"[a-z]+-[a-z]+[0-9]+", "a region of Google Cloud", "give one such as asia-northeast1")
    zone = reader.text("zone")
    if reader.has("zone") and not is_zone_of(zone, region):
        reader.problem(
            "zone",
            zone,
            f"is not a zone of region {region}" if region else "is not a zone",
            f"use one such as {region or 'REGION'}-b",
        )
    pools: tuple[AcceleratorPool, ...] = ()
    pool_problems: list[Problem] = []
    if (pool_values := reader.json("acceleratorPools")) is not None:
        pools, pool_problems = parse_pools(pool_values, region=region, zone=zone, max_pools=max_pools)
        reader.problems += pool_problems
    images = reader.images("images")
    images_from = reader.stack("imagesFrom", own=f"{namespace}/{stack.rpartition('/')[2]}")
    settings = Settings(
        project=project,
        region=region,
        zone=zone,
        cluster_name=reader.gke_name("clusterName"),
        release_channel=reader.one_of("releaseChannel", RELEASE_CHANNELS),
        deletion_protection=reader.boolean("deletionProtection"),
        system_machine_type=reader.machine_type("systemMachineType"),
        system_nodes_per_zone=reader.integer("systemNodesPerZone", 1, 1000),
        compute_class_name=reader.compute_class("computeClassName"),
        active_migration=reader.boolean("activeMigration"),
        consolidation_delay_minutes=reader.integer("consolidationDelayMinutes", 1, 1440),
        accelerator_pools=pools,
        image_streaming=reader.boolean("imageStreaming"),
        weights_cache=reader.boolean("weightsCache"),
        xla_cache=reader.boolean("xlaCache"),
        repository_name=reader.matching(
            "repositoryName", r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?", "a name of a repository",
            "use up to 63 lower-case letters, digits and hyphens, a letter first",
        ),
        image_name=reader.matching(
            "imageName", r"[a-z0-9]+([._-][a-z0-9]+)*", "a name of an image",
            "use lower-case letters and digits, with single dots, underscores or hyphens between them",
        ),
        base_images={
            # What is not built needs no base.
            kind: reader.image(f"{kind}BaseImage", kind, () if images_from or kind in images else pools)
            for kind in KINDS
        },
        images=images,
        images_from=images_from,
        model=reader.matching(
            "model", _MODEL.pattern, "a Hugging Face model",
            "give ORGANISATION/NAME, such as Qwen/Qwen2-1.5B: up to 96 letters, digits, hyphens, dots and underscores",
        ),
        max_model_len=reader.integer("maxModelLen", 1, 10_000_000),
        server_arguments={kind: reader.arguments(f"{kind}ServerArguments", kind) for kind in KINDS},
        namespace=reader.matching(
            "namespace", _DNS_LABEL.pattern, "a Kubernetes namespace", "use up to 63 lower-case letters, digits and hyphens"
        ),
        replicas=reader.integer("replicas", 1, 10_000),
        max_replicas=reader.integer("maxReplicas", 0, 10_000),
        target_waiting_requests=reader.integer("targetWaitingRequests", 1, 10_000),
        # Kubernetes allows an hour at most.
        scale_down_stabilization_seconds=reader.integer("scaleDownStabilizationSeconds", 0, 3600),
        keep_last_replica=reader.boolean("keepLastReplica"),
        cpu_request=reader.quantity("cpuRequest"),
        memory_request=reader.size("memoryRequest"),
        gpu_ephemeral_storage_limit=reader.size("gpuEphemeralStorageLimit"),
        service_port=reader.integer("servicePort", 1, 65535),
        load_balancer_source_ranges=reader.ranges("loadBalancerSourceRanges"),
        server_startup_seconds=reader.integer("serverStartupSeconds", 5, 43_200),
        termination_grace_period_seconds=reader.integer(
            "terminationGracePeriodSeconds", drain.MIN_GRACE_SECONDS, drain.MAX_GRACE_SECONDS
        ),
        server_drains={kind: reader.boolean(f"{kind}ServerDrains") for kind in KINDS},
        rollout_timeout_seconds=reader.integer("rolloutTimeoutSeconds", 1, 86_400),
        monitoring=reader.boolean("monitoring"),
        notification_channels=reader.notification_channels("notificationChannels"),
        pending_alert_minutes=reader.integer("pendingAlertMinutes", 1, 1440),
        waiting_alert_requests=reader.integer("waitingAlertRequests", 1, 1_000_000),
        first_token_alert_seconds=reader.integer("firstTokenAlertSeconds", 1, 3600),
        preemption_alert_count=reader.integer("preemptionAlertCount", 1, 1000),
        hugging_face_token=hugging_face_token,
        hugging_face_token_secret=reader.secret_reference("huggingFaceTokenSecret", instead_of="huggingFaceToken"),
        api_key=api_key,
        api_key_secret=reader.secret_reference("apiKeySecret", instead_of="apiKey"),
        internal_load_balancer=reader.boolean("internalLoadBalancer"),
        network=reader.network("network"),
        control_plane_endpoint=reader.one_of("controlPlaneEndpoint", CONTROL_PLANE_ENDPOINTS),
        control_plane_source_ranges=reader.ranges("controlPlaneSourceRanges"),
        network_policy=reader.boolean("networkPolicy"),
        client_namespaces=reader.namespaces("clientNamespaces"),
        device_access=device_access(
            reader.one_of("deviceAccess", DEVICE_ACCESS_CHOICES), [pool.kind for pool in pools]
        ),
        maintenance_window=reader.maintenance_window("maintenanceWindow"),
        secrets_encryption_key=reader.crypto_key("secretsEncryptionKey", region),
        binary_authorization=reader.boolean("binaryAuthorization"),
        vulnerability_scanning=reader.boolean("vulnerabilityScanning"),
        image_retention_days=reader.integer("imageRetentionDays", 0, 3650),
        cost_allocation=reader.boolean("costAllocation"),
        labels=reader.labels("labels"),
    )  # fmt: skip
    if not _TOKEN.fullmatch(hugging_face_token):
        reader.problem(
            "huggingFaceToken", None, "has spaces, line breaks or letters beyond ASCII",
            "`pulumi config set --secret huggingFaceToken` with the token alone",
        )  # fmt: skip
    _check_requests(settings, reader)
    _check_exposure(settings, reader, required=reader.boolean("requireApiKey"))
    _check_hardening(settings, reader)
    _check_cold_start(settings, reader)
    if not pool_problems:
        _check_replicas(settings, reader)
    _check_drains(settings, reader)
    if settings.rollout_timeout_seconds < settings.server_startup_seconds:
        reader.problem(
            "rolloutTimeoutSeconds", settings.rollout_timeout_seconds,
            f"is less than the {settings.server_startup_seconds} s that a server may take to start (serverStartupSeconds)",
            "raise it, and add the time that a node takes to come",
        )  # fmt: skip
    reader.check_unknown_keys()
    if reader.problems:
        raise SettingsError(stack, reader.problems)
    return settings


def _check_requests(settings: Settings, reader: _Reader) -> None:
    """A pod runs on any pool, so its requests, all containers together, must fit the smallest node of all."""
    pools = settings.accelerator_pools
    containers = len({pool.kind for pool in pools})
    # Beside them runs what mounts the weights cache.
    sidecar = {key: parse_quantity(value) if settings.weights_cache else 0.0 for key, value in SIDECAR_REQUESTS.items()}
    checks: list[tuple[str, str, int, float, Callable[[AcceleratorPool], float]]] = [
        (
            "cpuRequest", settings.cpu_request, containers, sidecar["cpu"],
            lambda pool: allocatable_millicpu(pool.machine.vcpus) / 1000,
        ),
        (
            "memoryRequest", settings.memory_request, containers, sidecar["memory"],
            lambda pool: allocatable_memory(pool.machine.memory_gb),
        ),
    ]  # fmt: skip
    if any(pool.kind == "gpu" for pool in pools):
        checks.append(
            (
                "gpuEphemeralStorageLimit", settings.gpu_ephemeral_storage_limit, 1, sidecar["ephemeral-storage"],
                lambda pool: allocatable_ephemeral_storage(pool.disk_size_gb or DEFAULT_DISK_GB),
            )
        )  # fmt: skip
    for field, value, count, taken, offers in checks:
        if not pools or not _QUANTITY.fullmatch(value):
            continue
        smallest = min(pools, key=offers)
        offered = offers(smallest) - taken
        if parse_quantity(value) * count > offered:
            room = f"{max(offered, 0):.2f}" if field == "cpuRequest" else f"{max(offered, 0) / 2**30:.1f}Gi"
            times = f"for each of {count} containers " if count > 1 else ""
            beside = " beside the sidecar container of weightsCache" if taken else ""
            larger = "give the pool a larger machine or disk"
            share = _share(field, offered / count)
            reader.problem(
                field, value,
                f"{times}is more than the {room} that a node of pool {smallest.name} ({smallest.machine_type}) offers to pods"
                f"{beside}",
                f"request at most {share}, or {larger}" if share else larger,
            )  # fmt: skip


def is_internet(source_ranges: Sequence[str]) -> bool:
    """Whether a public load balancer with these ranges can be reached from just anywhere."""
    networks = [ipaddress.IPv4Network(each, strict=False) for each in source_ranges if _is_range(each)]
    return not source_ranges or any(each.prefixlen < _WIDE_PREFIX and not each.is_private for each in networks)


def _is_range(text: str) -> bool:
    try:
        as_range(text)
    except ValueError:
        return False
    return True


def _check_exposure(settings: Settings, reader: _Reader, *, required: bool) -> None:
    """A server without a key may be open to clients that somebody named, not to everyone."""
    # Known in the clear for as long as the settings are checked.
    assert isinstance(settings.api_key, str)
    if settings.api_key and not _API_KEY.fullmatch(settings.api_key):
        reader.problem(
            "apiKey", None, "is shorter than 16 characters, or has spaces or letters beyond ASCII",
            "make one with `openssl rand -hex 32`",
        )  # fmt: skip
    keyless = settings.api_key == "" and settings.api_key_secret is None
    public = not settings.internal_load_balancer and is_internet(settings.load_balancer_source_ranges)
    if required and keyless and public:
        reader.problem(
            "requireApiKey", True, "asks for an API key, since everybody on the internet can reach the load balancer",
            "set apiKeySecret or apiKey, or name loadBalancerSourceRanges, or set internalLoadBalancer; "
            "`requireApiKey: false` leaves the server open to everybody",
        )  # fmt: skip


def _check_hardening(settings: Settings, reader: _Reader) -> None:
    """Settings that mean something only beside others."""
    if settings.control_plane_endpoint == "dns" and settings.control_plane_source_ranges:
        reader.problem(
            "controlPlaneSourceRanges", list(settings.control_plane_source_ranges),
            "has no effect, since with controlPlaneEndpoint dns no address of the control plane is reached",
            "remove it, or set controlPlaneEndpoint to ip",
        )  # fmt: skip
    if settings.client_namespaces and not settings.network_policy:
        reader.problem(
            "clientNamespaces", list(settings.client_namespaces), "has no effect without networkPolicy",
            "set networkPolicy to true, or remove it",
        )  # fmt: skip
    pools = settings.accelerator_pools
    kinds = sorted({pool.kind for pool in pools})
    if settings.device_access == "request" and len(kinds) > 1:
        reader.problem(
            "deviceAccess", "request",
            f"cannot be: a pod that requests a device fits nodes with that one alone, and the pools have {' and '.join(kinds)}",
            "set it to auto or privileged, or keep to pools of one accelerator",
        )  # fmt: skip
    # The system pool has nodes in three zones of the region.
    nodes = sum(pool.max_nodes for pool in pools) + 3 * settings.system_nodes_per_zone
    if settings.network is not None and nodes > settings.network.max_nodes:
        reader.problem(
            "network", {"nodeRange": settings.network.nodes, "podRange": settings.network.pods},
            f"has addresses for {settings.network.max_nodes} nodes, and all pools together may have {nodes}",
            "take a longer podRange (each node takes a /24 of it) or nodeRange",
        )  # fmt: skip


def _share(field: str, offered: float) -> str:
    """The largest quantity in whole units that fits; empty when there is none to speak of."""
    if field == "cpuRequest":
        return f"{int(offered * 1000)}m" if offered >= 0.001 else ""
    if offered >= 2**30:
        return f"{int(offered / 2**30)}Gi"
    return f"{int(offered / 2**20)}Mi" if offered >= 2**20 else ""


def _check_cold_start(settings: Settings, reader: _Reader) -> None:
    """What would undo what speeds up starts."""
    for pool in settings.accelerator_pools:
        if pool.secondary_boot_disk_image is not None and not settings.image_streaming:
            reader.problem(
                "imageStreaming", False,
                f"keeps pool {pool.name} from its preloaded images (secondaryBootDiskImage), which GKE reads by image streaming",
                "set it to true, or remove the pool's secondaryBootDiskImage",
            )  # fmt: skip
    if settings.weights_cache:
        for kind, arguments in settings.server_arguments.items():
            for argument in arguments:
                if argument.split("=")[0].replace("_", "-") == "--download-dir":
                    reader.problem(
                        f"{kind}ServerArguments", argument, "takes the weights past the cache that weightsCache asks for",
                        "remove it, or set weightsCache to false",
                    )  # fmt: skip


def _check_replicas(settings: Settings, reader: _Reader) -> None:
    """One replica a node, and a node more: a rolling update brings the new pod before the old one goes."""
    nodes = sum(pool.max_nodes for pool in settings.accelerator_pools)
    field, most = ("maxReplicas", settings.max_replicas) if settings.autoscaled else ("replicas", settings.replicas)
    if settings.accelerator_pools and most >= nodes:
        fix = "raise a pool's maxNodeCount" if nodes < 2 else f"give at most {nodes - 1}, or raise a pool's maxNodeCount"
        reader.problem(
            field, most,
            f"leaves no room: a node holds one replica, a rolling update brings one more, and all enabled accelerator pools "
            f"together may have {nodes} nodes",
            fix,
        )  # fmt: skip
    if settings.autoscaled and settings.max_replicas <= settings.replicas:
        reader.problem(
            "maxReplicas", settings.max_replicas,
            f"is not above the {settings.replicas} of replicas, which are the fewest, so there is nothing to scale",
            "raise it, or give 0 for a fixed number of replicas",
        )  # fmt: skip


def _check_drains(settings: Settings, reader: _Reader) -> None:
    """Whether there is time for a drain, and a server that knows how: an older vLLM's refuses an argument that it does not know."""
    grace, least = (
        settings.termination_grace_period_seconds,
        drain.least_grace_seconds(local_traffic=settings.network_policy),
    )
    if drain.MIN_GRACE_SECONDS <= grace < least:
        reader.problem(
            "terminationGracePeriodSeconds", grace,
            f"is too short with networkPolicy, with which requests come in for {drain.LOCAL_SETTLE_SECONDS} s after a pod's end has begun",
            f"give at least {least}",
        )  # fmt: skip
    for kind in dict.fromkeys(pool.kind for pool in settings.accelerator_pools):
        image = settings.images.get(kind) or settings.base_images[kind]
        if settings.server_drains[kind] and drain.knows_shutdown_timeout(image) is False:
            since = ".".join(map(str, drain.SHUTDOWN_TIMEOUT_SINCE))
            reader.problem(
                f"{kind}ServerDrains", True,
                f"needs vLLM {since} or later, and {image} is older: its server would refuse --shutdown-timeout and not start",
                "give false (the preStop hook waits for requests then), or a newer base image",
            )  # fmt: skip


def _own_argument(argument: str, own: Mapping[str, str]) -> str | None:
    """Which of the program's own arguments this is, if any: vLLM also takes underscores for hyphens, and beginnings of names."""
    name = argument.partition("=")[0]
    if not name.startswith("--"):
        return name if name in own else None
    name = name.replace("_", "-")
    if len(name) < 4:
        return None
    return next((each for each in own if each.startswith(name)), None)


def is_digest_reference(value: Any) -> bool:
    """Whether it is an image reference that names registry and digest, and so the same image for good."""
    match = _IMAGE.fullmatch(value) if isinstance(value, str) else None
    return match is not None and match["digest"] is not None


def parse_quantity(text: str) -> float:
    """A Kubernetes quantity as a number of its unit: `1500m` -> 1.5, `5Gi` -> 5368709120.0."""
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a quantity")
    return float(match[1]) * _FACTORS[match[2] or ""]


class _Reader:
    """Typed look-ups that note every problem and return a harmless value, so that all problems come at once."""

    def __init__(self, values: Mapping[str, Any], namespace: str) -> None:
        self._values = values
        self._namespace = namespace
        self._known: list[str] = list(SECRET_FIELDS)
        self.problems: list[Problem] = []

    def problem(self, field: str, value: Any, reason: str, fix: str) -> None:
        self.problems.append(Problem(field, value, reason, fix))

    def project(self) -> str:
        value = self._values.get("gcp:project")
        if not value:
            self.problem("gcp:project", None, "is missing", "`pulumi config set gcp:project YOUR_PROJECT_ID`")
            return ""
        # Projects of an organisation's own domain look like example.com:name.
        if not re.fullmatch(r"([a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]", str(value)):
            self.problem(
                "gcp:project", value, "is not a project ID",
                "give the ID (6 to 30 lower-case letters, digits and hyphens), not the name or the number",
            )  # fmt: skip
        return str(value)

    def raw(self, key: str) -> Any:
        self._known.append(key)
        value = self._values.get(f"{self._namespace}:{key}")
        if value is None:
            self.problem(key, None, "is missing", f"`pulumi config set {key} VALUE`")
        return value

    def has(self, key: str) -> bool:
        return self._values.get(f"{self._namespace}:{key}") is not None

    def text(self, key: str) -> str:
        value = self.raw(key)
        return "" if value is None else str(value)

    def matching(self, key: str, pattern: str, what: str, fix: str) -> str:
        value = self.raw(key)
        if value is not None and not re.fullmatch(pattern, str(value)):
            self.problem(key, value, f"is not {what}", fix)
        return str(value or "")

    def gke_name(self, key: str) -> str:
        value = self.matching(
            key, NAME_PATTERN.pattern, "a name that GKE allows",
            "use lower-case letters, digits and hyphens, a letter first and no hyphen last",
        )  # fmt: skip
        if len(value) > MAX_NAME_LENGTH:
            self.problem(key, value, f"has {len(value)} characters, and GKE allows {MAX_NAME_LENGTH}", "shorten it")
        return value

    def compute_class(self, key: str) -> str:
        value = self.matching(
            key, _DNS_LABEL.pattern, "a name of a ComputeClass",
            "use up to 63 lower-case letters, digits and hyphens, since the name is also a node label's value",
        )  # fmt: skip
        for prefix in ("gke", "autopilot"):
            if value.startswith(prefix):
                self.problem(key, value, f"begins with {prefix}, which GKE refuses", "choose another name")
        return value

    def one_of(self, key: str, known: tuple[str, ...]) -> str:
        value = self.raw(key)
        if value is not None and value not in known:
            self.problem(key, value, f"is not one of {', '.join(known)}", nearest(str(value), known))
        return str(value or "")

    def machine_type(self, key: str) -> str:
        value = self.raw(key)
        if value is not None and value not in PLAIN_MACHINE_TYPES:
            self.problem(
                key, value, "is not a machine type without accelerator that this program knows",
                nearest(str(value), PLAIN_MACHINE_TYPES) + " (a new one is a line in components/catalog/machines.py)",
            )  # fmt: skip
        return str(value or "")

    def boolean(self, key: str) -> bool:
        value = self.raw(key)
        if value is not None and value not in ("true", "false", True, False):
            self.problem(key, value, "is neither true nor false", "give true or false")
        return value in ("true", True)

    def integer(self, key: str, low: int, high: int) -> int:
        value = self.raw(key)
        if value is None:
            return low
        # ASCII digits, and few enough that Python takes them for a number.
        if not re.fullmatch(r"-?[0-9]{1,18}", str(value)) or not low <= int(value) <= high:
            self.problem(key, value, f"is not a whole number from {low} to {high}", f"give one from {low} to {high}")
            return low
        return int(value)

    def quantity(self, key: str) -> str:
        value = self.raw(key)
        if value is not None and (not _QUANTITY.fullmatch(str(value)) or parse_quantity(str(value)) <= 0):
            self.problem(key, value, "is not a Kubernetes quantity above zero", "give one such as 1500m, 5Gi or 43Gi")
        return str(value or "")

    def size(self, key: str) -> str:
        """A quantity of bytes."""
        value = self.quantity(key)
        match = _QUANTITY.fullmatch(value)
        if match is not None and 0 < parse_quantity(value) < 2**20:
            # A server has not started in less, and `5` and `512m` are what somebody writes who means 5Gi and 512Mi.
            self.problem(
                key,
                value,
                f"is {parse_quantity(value):g} bytes, with which nothing runs",
                "give one such as 5Gi or 512Mi",
            )
        return value

    def json(self, key: str, what: str = "list") -> Any:
        """None after a problem."""
        value = self.raw(key)
        if isinstance(value, str):
            try:
                found = json.loads(value)
            except (ValueError, RecursionError):
                found = None
            if found is None:
                self.problem(key, value, f"is not a {what}", f"give a YAML {what} in the stack's file, or JSON")
            return found
        return value

    def strings(self, key: str) -> tuple[str, ...]:
        value = self.json(key)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            self.problem(key, value, "is not a list of texts", "give a list, each element in quotes if it looks like a number")
            return ()
        return tuple(value)

    def arguments(self, key: str, kind: Kind) -> tuple[str, ...]:
        """Extra arguments, which may not contradict those that the program derives."""
        arguments = self.strings(key)
        own = {**_OWN_ARGUMENTS, **_OWN_ARGUMENTS_OF[kind]}
        for index, argument in enumerate(arguments):
            if not argument.isprintable() or not argument:
                self.problem(key, argument, "is no argument of a command line", "remove it, or what cannot be printed in it")
            elif name := _own_argument(argument, own):
                # Its value may be a secret.
                self.problem(key, argument.partition("=")[0], "is set by the program itself", f"remove it; {own[name]}")
            elif not argument.startswith("-") and (index == 0 or "=" in arguments[index - 1]):
                self.problem(
                    key, argument, "is a value without an option before it, at which the server would not start",
                    "put its option before it, or write --OPTION=VALUE",
                )  # fmt: skip
        return arguments

    def ranges(self, key: str) -> tuple[str, ...]:
        ranges = self.strings(key)
        for index, each in enumerate(ranges):
            try:
                as_range(each)
            except ValueError as error:
                self.problem(key, each, f"is not an IPv4 range ({error})", "give CIDR notation such as 203.0.113.0/24")
            else:
                if each in ranges[:index]:
                    self.problem(key, each, "is there twice", "remove one of the two")
        return ranges

    def notification_channels(self, key: str) -> tuple[str, ...]:
        channels = self.strings(key)
        if len(channels) > _MAX_NOTIFICATION_CHANNELS:
            self.problem(
                key, len(channels), f"is more channels than the {_MAX_NOTIFICATION_CHANNELS} that an alert policy may have",
                "remove some",
            )  # fmt: skip
        for each in channels:
            if not _NOTIFICATION_CHANNEL.fullmatch(each):
                self.problem(
                    key, each, "is not the name of a notification channel",
                    "give projects/PROJECT/notificationChannels/NUMBER, as `gcloud beta monitoring channels list` prints it",
                )  # fmt: skip
        return channels

    def image(self, key: str, kind: Kind, pools: tuple[AcceleratorPool, ...]) -> str:
        """Empty is allowed for an accelerator that no pool has."""
        value = self.raw(key)
        if value is None:
            return ""
        if not value:
            for pool in pools:
                if pool.kind == kind:
                    self.problem(
                        key, value, f"is empty, and no other image serves pool {pool.name} ({pool.machine_type})",
                        f"give the base of the {kind.upper()} image, or remove the pool",
                    )  # fmt: skip
            return ""
        match = _IMAGE.fullmatch(str(value))
        if match is None:
            self.problem(
                key, value, "is not an image reference with a registry",
                "give REGISTRY/REPOSITORY:TAG or REGISTRY/REPOSITORY@sha256:DIGEST, such as docker.io/vllm/vllm-openai:v0.31.0",
            )  # fmt: skip
        elif match["digest"] is None and match["tag"] in (None, "latest"):
            self.problem(
                key,
                value,
                "does not say which version, so two builds could differ",
                "add a tag other than latest, or a digest",
            )
        return str(value)

    def images(self, key: str) -> dict[Kind, str]:
        """Accelerator -> reference by digest; what is not good is left out after its problem."""
        value = self.json(key, "mapping")
        if value is None:
            return {}
        if not isinstance(value, dict):
            self.problem(key, value, "is not a mapping", "give accelerator: REGISTRY/REPOSITORY@sha256:DIGEST, such as gpu: ...")
            return {}
        for name, reference in value.items():
            if name not in KINDS:
                self.problem(f"{key}.{name}", reference, f"is of no accelerator: {name} is unknown", nearest(str(name), KINDS))
            elif not is_digest_reference(reference):
                self.problem(
                    f"{key}.{name}", reference, "is not an image reference by digest",
                    "give REGISTRY/REPOSITORY@sha256:DIGEST, such as the `images` output of the stack that built it",
                )  # fmt: skip
        return {kind: value[kind] for kind in KINDS if is_digest_reference(value.get(kind))}

    def stack(self, key: str, *, own: str) -> str:
        """Empty for none; `own` is PROJECT/STACK of this stack."""
        value = self.raw(key)
        if value and not _STACK.fullmatch(str(value)):
            self.problem(
                key, value, "is not a full name of a stack",
                "give ORGANISATION/PROJECT/STACK (organization/PROJECT/STACK on a self-managed backend)",
            )  # fmt: skip
        elif value and str(value).partition("/")[2] == own:
            # The organisation is not known here: two that have a stack of one name each are taken for one.
            self.problem(
                key,
                value,
                "is this very stack, so that nothing would build the images",
                "name the stack that builds them, or leave it empty",
            )
        return str(value or "")

    def secret_reference(self, key: str, *, instead_of: str) -> SecretReference | None:
        """Empty for none. The value in two places would leave open which of them counts."""
        value = self.raw(key)
        if not value:
            return None
        reference = parse_reference(str(value))
        if reference is None:
            self.problem(
                key, value, "is not a name of a secret in Secret Manager",
                "give NAME or projects/PROJECT/secrets/NAME, with /versions/NUMBER behind it for another than the latest",
            )  # fmt: skip
        elif self._values.get(f"{self._namespace}:{instead_of}"):
            self.problem(key, value, f"is set, and so is {instead_of}", "`pulumi config rm` one of the two")
        return reference

    def network(self, key: str) -> NetworkRanges | None:
        value = self.json(key, "mapping")
        if value is None:
            return None
        network, problems = parse_network(value, key)
        self.problems += problems
        return network

    def maintenance_window(self, key: str) -> MaintenanceWindow | None:
        value = self.json(key, "mapping")
        if value is None:
            return None
        window, problems = parse_maintenance_window(value, key)
        self.problems += problems
        return window

    def namespaces(self, key: str) -> tuple[str, ...]:
        namespaces = self.strings(key)
        for each in namespaces:
            if not _DNS_LABEL.fullmatch(each):
                self.problem(key, each, "is not a Kubernetes namespace", "use up to 63 lower-case letters, digits and hyphens")
        return namespaces

    def crypto_key(self, key: str, region: str) -> str:
        """Empty for none."""
        value = self.raw(key)
        if not value:
            return ""
        match = _CRYPTO_KEY.fullmatch(str(value))
        if match is None:
            self.problem(
                key, value, "is not a resource name of a Cloud KMS key",
                f"give projects/PROJECT/locations/{region or 'REGION'}/keyRings/RING/cryptoKeys/KEY",
            )  # fmt: skip
        elif region and match["location"] != region:
            self.problem(
                key, value, f"is in {match['location']}, and GKE wants a key in the cluster's region {region}",
                f"name a key of {region}",
            )  # fmt: skip
        return str(value)

    def labels(self, key: str) -> dict[str, str]:
        value = self.json(key, "mapping")
        if value is None:
            return {}
        if not isinstance(value, dict):
            self.problem(key, value, "is not a mapping", "give label: value, such as team: inference")
            return {}
        if len(value) > _MAX_LABELS:
            self.problem(key, len(value), f"is more labels than the {_MAX_LABELS} that Google allows", "remove some")
        for name, text in value.items():
            field = f"{key}.{name}"
            if not _LABEL_KEY.fullmatch(str(name)):
                self.problem(
                    field, text, "is no name of a label",
                    "use up to 63 lower-case letters, digits, hyphens and underscores, a letter first",
                )  # fmt: skip
            elif str(name).startswith("goog"):
                self.problem(field, text, "begins with goog, which Google keeps for itself", "choose another name")
            if not isinstance(text, str) or not _LABEL_VALUE.fullmatch(text):
                self.problem(
                    field, text, "is no value of a label",
                    "use up to 63 lower-case letters, digits, hyphens and underscores, in quotes if it looks like a number",
                )  # fmt: skip
        return {name: text for name, text in value.items() if isinstance(text, str)}

    def check_unknown_keys(self) -> None:
        prefix = f"{self._namespace}:"
        for key in self._values:
            name = key.removeprefix(prefix)
            if key.startswith(prefix) and name not in self._known:
                # The value may be a secret under a misspelt name.
                self.problem(name, None, "is not a setting of this program", nearest(name, self._known))
