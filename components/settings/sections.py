"""Every setting of the program, declared once: what it takes, its default, and what it is.

From here come the check, Pulumi.yaml's defaults and docs/settings.md (`schema`), and the wrong values of tests and drills. To add one: a
field here, its use in a component, and a test of its effect (CHANGES in tests/unit/components/test_program.py); then `make pages` writes
the pages. Left out: rules between settings (`checks`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi

from components.catalog.machines import KINDS, MACHINES_PAGE, PLAIN_MACHINE_TYPES, Kind, MachineType
from components.catalog.shutdown import MAX_GRACE_SECONDS, MIN_GRACE_SECONDS
from components.catalog.vllm_releases import Release, release_of
from components.settings import formats
from components.settings.accelerator_pool import AcceleratorPool
from components.settings.gateway import Gateway, parse_gateway
from components.settings.maintenance_window import MaintenanceWindow, parse_maintenance_window
from components.settings.network_ranges import ExistingNetwork, NetworkRanges, parse_network
from components.settings.reader import section, setting
from components.settings.secret_reference import SecretReference
from components.settings.value_types import Boolean, Choice, Quantity, Structure, Whole

_PLAIN_MACHINE = Choice(tuple(PLAIN_MACHINE_TYPES), "is not a machine type without accelerator that this program knows", MACHINES_PAGE)

#: Keys of the Google provider that have a setting, or another place -> what to do. The program makes its providers itself, so none of
#: their keys has an effect.
INSTEAD = {
    "gcp:region": "`pulumi config set region REGION`, and `zone` with it",
    "gcp:zone": "`pulumi config set zone ZONE`, and `region` with it",
    "gcp:impersonateServiceAccount": "log in as it, for every command of this project: `gcloud auth application-default login "
    "--impersonate-service-account=ACCOUNT`",
    "gcp:credentials": "log in by `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS",
    "gcp:accessToken": "log in by `gcloud auth application-default login`, or set GOOGLE_OAUTH_ACCESS_TOKEN",
    "gcp:billingProject": "`gcloud auth application-default set-quota-project PROJECT`",
    "gcp:defaultLabels": "`pulumi config set --path labels.NAME VALUE`",
}


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where the stack lives, and the labels of what it pays for."""

    project: str = setting(formats.PROJECT, key="gcp:project", description="Google Cloud project ID.")
    region: str = setting(
        formats.REGION,
        default="asia-northeast1",
        description="Region of the cluster and of the image repository; one that has the TPU of the first accelerator pool.",
    )
    zone: str = setting(
        formats.ZONE,
        default="asia-northeast1-b",
        description="Zone of every accelerator pool that names none of its own; must lie in the region.",
    )
    location: str = setting(
        Choice(("regional", "zonal")),
        default="regional",
        description="Whether the control plane and the system pool are in three zones of the region, or in `zone` alone: a third of the "
        "system nodes, and none of them when that zone fails. A change replaces the cluster, which takes another `clusterName` in the "
        "same update.",
    )
    labels: Mapping[str, str] = setting(
        formats.LABELS,
        default={},
        description="Labels of the cluster, the nodes with their disks, and the image repository, for the bill, label -> value.",
    )

    @property
    def cluster_location(self) -> str:
        """As GKE calls it: a region or a zone."""
        return self.zone if self.location == "zonal" else self.region

    @property
    def system_zones(self) -> int:
        """Zones in which the system pool has nodes; GKE takes three of a region's."""
        return 1 if self.location == "zonal" else 3


@dataclass(frozen=True, kw_only=True)
class ClusterSettings:
    """The GKE cluster and its system pool."""

    name: str = setting(
        formats.CLUSTER_NAME,
        default="tpu-gpu-fungibility",
        key="clusterName",
        description="Name of the GKE cluster; 1 to 40 lower-case letters, digits and hyphens.",
    )
    release_channel: str = setting(
        Choice(("RAPID", "REGULAR", "STABLE", "EXTENDED")), default="REGULAR", description="GKE release channel."
    )
    deletion_protection: bool = setting(
        Boolean(),
        default=False,
        description="Whether Google refuses to delete the cluster, and Pulumi the cluster, its pools, the image repository, the "
        "dashboard and the alerts.",
    )
    system_machine_type: str = setting(
        _PLAIN_MACHINE, default="e2-standard-2", description="Machine type of the system node pool, which runs what GKE itself needs."
    )
    system_nodes_per_zone: int = setting(Whole(1, 1000), default=1, description="Nodes of the system pool in each of the region's zones.")
    image_streaming: bool = setting(
        Boolean(), default=True, description="Whether containers start while nodes still fetch their images (GKE image streaming)."
    )
    #: None: any time.
    maintenance_window: MaintenanceWindow | None = setting(
        Structure(lambda value, field, known: parse_maintenance_window(value, field)),
        default={},
        description="When GKE may upgrade by itself: `startTime` and `endTime` of the first window in UTC, and its `recurrence` "
        "(FREQ=WEEKLY;BYDAY=SA,SU). Empty lets GKE choose.",
    )
    auto_monitoring_scope: str = setting(
        Choice(("ALL", "NONE")),
        default="NONE",
        description="Whether GKE looks for servers that it knows and scrapes them by itself (automatic application monitoring), as in the "
        "walkthrough: ALL, or NONE. With ALL the program has no PodMonitoring of its own, so that nothing counts twice.",
    )
    cost_allocation: bool = setting(
        Boolean(), default=False, description="Whether the bill is broken down by namespace and label (GKE cost allocation)."
    )


@dataclass(frozen=True, kw_only=True)
class AcceleratorSettings:
    """The accelerator pools, and the ComputeClass that orders them."""

    pools: tuple[AcceleratorPool, ...] = setting(
        formats.POOLS,
        key="acceleratorPools",
        description="The accelerator node pools in order of priority, 1 to 10; docs/settings.md lists the keys of one.",
    )
    compute_class_name: str = setting(
        formats.COMPUTE_CLASS, default="vllm-fallback", description="Name of the ComputeClass; may not begin with gke or autopilot."
    )
    active_migration: bool = setting(
        Boolean(), default=True, description="Whether GKE moves a replica up when a pool of a higher priority has room again."
    )
    consolidation_delay_minutes: int = setting(
        Whole(1, 1440), default=10, description="Minutes for which a node above a pool's minimum stays idle before it is taken away."
    )
    fallback_after_minutes: int = setting(
        Whole(0, 600),
        default=0,
        description="Minutes that a replica waits for a node before the pool that is tried first is passed over, until it gets a machine "
        "([how](ladder.md#fallback-in-bounded-time)); 5 or more. 0 leaves it to GKE, which waits ten hours for a TPU.",
    )

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The accelerators of the pools, in the order of priority."""
        return tuple(dict.fromkeys(pool.kind for pool in self.pools))

    @property
    def largest(self) -> dict[Kind, MachineType]:
        """Accelerator -> the machine with most of it: the only one, but for GPUs of different numbers."""
        return {pool.kind: pool.machine for pool in sorted(self.pools, key=lambda pool: pool.machine.count)}

    @property
    def gpu_counts(self) -> tuple[int, ...]:
        """The different numbers of GPUs of the pools' machines, the least first."""
        return tuple(sorted({pool.machine.count for pool in self.pools if pool.kind == "gpu"}))


@dataclass(frozen=True, kw_only=True)
class ImageSettings:
    """The image repository, and the images in it."""

    repository_name: str = setting(formats.REPOSITORY, default="docker-repo", description="Name of the Artifact Registry repository.")
    name: str = setting(
        formats.IMAGE_NAME,
        default="vllm-fungibility",
        key="imageName",
        description="Name of the image in the repository; the accelerator is its tag.",
    )
    gpu_base_image: str = setting(
        formats.BASE_IMAGE,
        default="docker.io/vllm/vllm-openai:v0.31.0@sha256:c1c9f6fd5c109ba7f0546a59f5b2f15fb87f64c77782e90a27b648b42a8e67c3",
        description="Image that the GPU image is built on; with its registry, and a tag that has a version or a digest.",
    )
    tpu_base_image: str = setting(
        formats.BASE_IMAGE,
        default="docker.io/vllm/vllm-tpu:v0.27.0@sha256:d6748bc7b1b020ab6411506d4bf30f8bfabb5db2b8505328f26d1a545b479df8",
        description="Image that the TPU image is built on; with its registry, and a tag that has a version or a digest.",
    )
    #: References by digest that run as they are.
    prebuilt: Mapping[Kind, str] = setting(
        formats.IMAGES,
        default={},
        key="images",
        description="Prebuilt images that run instead of a build, accelerator (gpu, tpu) -> REGISTRY/REPOSITORY@sha256:DIGEST. A "
        "repository "
        "of another project must let this stack's node service account read it (roles/artifactregistry.reader).",
    )
    #: Empty, or the stack whose images run instead of a build.
    prebuilt_from: str = setting(
        formats.STACK,
        default="",
        key="imagesFrom",
        description="Stack (ORGANISATION/PROJECT/STACK) whose `images` output runs instead of a build, for what `images` does not name: "
        "promotion without a rebuild. Its repository must let this stack's node service account read it "
        "(roles/artifactregistry.reader).",
    )
    vulnerability_scanning: bool = setting(
        Boolean(), default=False, description="Whether pushed images are scanned for known vulnerabilities (billed per image)."
    )
    #: 0: every image is kept.
    retention_days: int = setting(
        Whole(0, 3650),
        default=0,
        key="imageRetentionDays",
        description="Days after which an image without a tag is deleted, but for the latest ten; 0 keeps all. A stack that runs this one's "
        "images by digest has to move on within that time.",
    )

    @property
    def base_images(self) -> Mapping[Kind, str]:
        return {"gpu": self.gpu_base_image, "tpu": self.tpu_base_image}

    def vllm_image(self, kind: Kind) -> str:
        """The image whose tag tells the release of vLLM: a prebuilt one by digest alone is taken to be built on the base image."""
        prebuilt = self.prebuilt.get(kind, "")
        return prebuilt if release_of(prebuilt) else self.base_images[kind]

    @property
    def releases(self) -> Mapping[Kind, Release | None]:
        """Accelerator -> release of vLLM in its image."""
        return {kind: release_of(self.vllm_image(kind)) for kind in KINDS}


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """The model, and the pods that serve it."""

    model: str = setting(formats.MODEL, default="Qwen/Qwen2-1.5B", description="Hugging Face model that is served, as ORGANISATION/NAME.")
    max_model_len: int = setting(
        Whole(1, 10_000_000),
        default=8192,
        description="Longest sequence in tokens (prompt and answer), the same on every accelerator; at most what the model allows.",
    )
    model_revision: str = setting(
        formats.REVISION,
        default="",
        description="Commit, tag or branch of the model's repository; a commit makes sure that replicas which start later serve the same "
        "weights. Empty takes the newest.",
    )
    max_queued_requests: int = setting(
        Whole(0, 1_000_000),
        default=0,
        description="Requests that one server may have at a time, running and waiting together, above which it answers 503, so that "
        "clients try again elsewhere; 0 for no limit. vLLM runs up to 256 at once. Servers of vLLM before 0.31 know no limit.",
    )
    request_ids: bool = setting(
        Boolean(),
        default=False,
        description="Whether each answer has a header `X-Request-Id`, the client's own or a new one; it costs time at high rates.",
    )
    traces_endpoint: str = setting(
        formats.TRACES_ENDPOINT,
        default="",
        description="Where the servers send OpenTelemetry traces, with the pod and the node of each: a collector's http://HOST:4317 by "
        "gRPC, or its http://HOST:4318/v1/traces by HTTP. Servers of vLLM before 0.18 send none.",
    )
    hugging_face_token: pulumi.Input[str] = setting(
        formats.HUGGING_FACE_TOKEN,
        default="",
        secret=True,
        description="Token for a gated model (`pulumi config set --secret`); empty for a model that anyone may download.",
    )
    hugging_face_token_secret: SecretReference | None = setting(
        formats.SECRET_NAME,
        default="",
        description="Secret Manager's secret that holds the token, in place of `huggingFaceToken`: NAME or projects/PROJECT/secrets/NAME, "
        "with /versions/NUMBER behind it for another than the latest.",
    )
    gpu_server_arguments: tuple[str, ...] = setting(
        formats.SERVER_ARGUMENTS, default=[], description="More arguments for vLLM's server in the GPU container, after the program's own."
    )
    tpu_server_arguments: tuple[str, ...] = setting(
        formats.SERVER_ARGUMENTS, default=[], description="More arguments for vLLM's server in the TPU container, after the program's own."
    )
    namespace: str = setting(
        formats.NAMESPACE,
        default="default",
        description="Kubernetes namespace of the Deployment, the Service and the Secret; made where it does not exist, and never deleted.",
    )
    cpu_request: str = setting(
        Quantity(),
        default="1500m",
        description="CPU that each container requests; all containers of a pod together must fit the smallest machine.",
    )
    memory_request: str = setting(
        Quantity(bytes=True),
        default="5Gi",
        description="Memory that each container requests; all containers of a pod together must fit the smallest machine.",
    )
    gpu_ephemeral_storage_limit: str = setting(
        Quantity(bytes=True),
        default="43Gi",
        description="Ephemeral storage that the GPU container may use and requests, for the weights that it downloads.",
    )
    device_access: str = setting(
        Choice(("auto", "privileged", "request")),
        default="auto",
        description="How containers reach their node's device: auto (the least that works for the pools), request (as a resource; pools of "
        "one accelerator, as many in each, only), or privileged.",
    )
    weights_cache: bool = setting(
        Boolean(),
        default=False,
        description="Whether pods share downloaded weights, and compiled XLA programs, in a Cloud Storage bucket that they mount.",
    )
    xla_cache: bool = setting(
        Boolean(),
        default=True,
        description="Whether compiled XLA programs of the TPU server outlive its container; on the node's disk, or with `weightsCache` in "
        "the bucket.",
    )
    startup_seconds: int = setting(
        Whole(5, 43_200),
        default=1200,
        key="serverStartupSeconds",
        description="Seconds that a server may take to start before its container is restarted; the slowest seen took 337 s, on a TPU.",
    )
    termination_grace_period_seconds: int = setting(
        Whole(MIN_GRACE_SECONDS, MAX_GRACE_SECONDS),
        default=120,
        description="Seconds that a pod which is to end may go on answering its open requests; GKE allows 15 s on Spot nodes.",
    )
    gpu_server_drains: bool = setting(
        Boolean(),
        default=True,
        description="Whether the GPU image's vLLM knows --shutdown-timeout (0.18 and later); false lets the preStop hook wait for "
        "requests.",
    )
    tpu_server_drains: bool = setting(
        Boolean(),
        default=True,
        description="Whether the TPU image's vLLM knows --shutdown-timeout (0.18 and later); false lets the preStop hook wait for "
        "requests.",
    )
    rollout_timeout_seconds: int = setting(
        Whole(1, 86_400),
        default=1800,
        description="Seconds that an update waits for each replica of the Deployment; a TPU node and the server's start take about 10 "
        "minutes together.",
    )

    @property
    def arguments(self) -> Mapping[Kind, tuple[str, ...]]:
        """More arguments for the server, by accelerator."""
        return {"gpu": self.gpu_server_arguments, "tpu": self.tpu_server_arguments}

    @property
    def drains(self) -> Mapping[Kind, bool]:
        """Whether the accelerator's server finishes requests after SIGTERM."""
        return {"gpu": self.gpu_server_drains, "tpu": self.tpu_server_drains}


@dataclass(frozen=True, kw_only=True)
class ScalingSettings:
    """How many replicas there are."""

    replicas: int = setting(
        Whole(1, 10_000),
        default=1,
        description="Replicas of the Deployment, one a node; a number from `kubectl scale` lasts until the next update. With "
        "maxReplicas it "
        "is the minimum.",
    )
    max_replicas: int = setting(
        Whole(0, 10_000),
        default=0,
        description="Most replicas that a HorizontalPodAutoscaler may make, which then owns their number; 0 for a fixed number.",
    )
    target_waiting_requests: int = setting(
        Whole(1, 10_000),
        default=5,
        description="Requests that wait in a server's queue, on average over the replicas, above which the autoscaler adds one.",
    )
    target_running_requests: int = setting(
        Whole(1, 10_000),
        default=64,
        description="Requests that a server generates for at once, on average over the replicas, above which the autoscaler adds one.",
    )
    #: Kubernetes allows an hour at most.
    scale_down_stabilization_seconds: int = setting(
        Whole(0, 3600),
        default=1200,
        description="Seconds for which fewer replicas must have been enough before one goes; less than a server's start makes them "
        "come and "
        "go.",
    )
    keep_last_replica: bool = setting(
        Boolean(),
        default=True,
        description="Whether a single replica is never evicted (it moves by `kubectl rollout restart`); false lets drains and active "
        "migration move it, with nothing serving until its successor is up. Two replicas and more move one at a time either "
        "way.",
    )

    surge_on_update: bool = setting(
        Boolean(),
        default=True,
        description="Whether an update starts a new replica before it ends an old one, which takes a node more than there are replicas; "
        "false ends the old one first. A single replica then leaves a gap as long as a start, at every update.",
    )

    @property
    def autoscaled(self) -> bool:
        """Whether a HorizontalPodAutoscaler owns the number of replicas."""
        return self.max_replicas > 0


@dataclass(frozen=True, kw_only=True)
class NetworkSettings:
    """The network of the nodes, and the ways to the servers and to the control plane."""

    service_port: int = setting(
        Whole(1, 65535), default=80, description="Port of the Service, and so of its load balancer; a gateway has 80 and 443."
    )
    #: None: the Service has a load balancer of its own, which passes packets through.
    gateway: Gateway | None = setting(
        Structure(parse_gateway),
        default={},
        description="A front door with TLS in place of the Service's own load balancer: `class`, `hostName`, `certificate` and others, of "
        "which docs/settings.md lists the keys. Empty for none.",
    )
    inference_gateway: bool = setting(
        Boolean(),
        default=False,
        description="Whether a regional gateway chooses a server by its queue, its KV cache and the prompt's beginning (InferencePool and "
        "endpoint picker of the Gateway API Inference Extension). Unverified on GKE.",
    )
    load_balancer_source_ranges: tuple[str, ...] = setting(
        formats.RANGES, default=[], description="IPv4 ranges (CIDR) that may reach the load balancer; empty lets everyone in."
    )
    internal_load_balancer: bool = setting(
        Boolean(),
        default=False,
        description="Whether the load balancer has an address of the VPC alone, which the internet does not reach.",
    )
    #: None: the project's default network, with public nodes.
    vpc: NetworkRanges | ExistingNetwork | None = setting(
        Structure(lambda value, field, known: parse_network(value, field)),
        default={},
        key="network",
        description="A VPC of the stack's own with private nodes and Cloud NAT: `nodeRange`, `podRange` and `serviceRange`, each CIDR. Or "
        "`existing`, for private nodes in one that somebody else owns: the names `network`, `subnetwork`, and of secondary ranges "
        "`podRange` and `serviceRange`; with `hostProject` for a Shared VPC. Empty takes the project's default network and public nodes. "
        "A change replaces the cluster, which takes another `clusterName` in the same update.",
    )
    control_plane_endpoint: str = setting(
        Choice(("ip", "dns")),
        default="ip",
        description="How the control plane is reached: ip (its address), or dns (its DNS name alone, for callers to whom IAM gives "
        "container.clusters.connect).",
    )
    control_plane_source_ranges: tuple[str, ...] = setting(
        formats.RANGES,
        default=[],
        description="IPv4 ranges (CIDR) that may reach the control plane's address (authorized networks); empty lets everyone try.",
    )
    network_policy: bool = setting(
        Boolean(),
        default=False,
        description="Whether pods take connections from the load balancer's clients and the monitoring alone (GKE Dataplane V2 and a "
        "NetworkPolicy). A change replaces the cluster, which takes another `clusterName` in the same update.",
    )
    client_namespaces: tuple[str, ...] = setting(
        formats.NAMESPACES,
        default=[],
        description="Kubernetes namespaces whose pods may connect to the servers in spite of `networkPolicy`.",
    )

    @property
    def ranges(self) -> NetworkRanges | None:
        """Of the network that the stack makes; None if it makes none."""
        return self.vpc if isinstance(self.vpc, NetworkRanges) else None

    @property
    def existing(self) -> ExistingNetwork | None:
        return self.vpc if isinstance(self.vpc, ExistingNetwork) else None

    @property
    def public(self) -> bool:
        """Whether everyone on the internet can reach the servers."""
        if self.gateway is not None:
            return not self.gateway.internal and formats.is_internet(self.gateway.source_ranges)
        return not self.internal_load_balancer and formats.is_internet(self.load_balancer_source_ranges)

    @property
    def leaves_slowly(self) -> bool:
        """Whether requests come to a pod long after its end has begun, from load balancers that go by their own checks."""
        return self.network_policy or self.gateway is not None

    @property
    def local_traffic(self) -> bool:
        """Whether the Service's load balancer keeps clients' own addresses (`externalTrafficPolicy: Local`), which the policy needs."""
        return self.network_policy and self.gateway is None


@dataclass(frozen=True, kw_only=True)
class SecuritySettings:
    """Keys, and what may run."""

    api_key: pulumi.Input[str] = setting(
        formats.API_KEY,
        default="",
        secret=True,
        description="Key that clients of the server must send (`pulumi config set --secret`), 16 characters or more; empty for none.",
    )
    api_key_secret: SecretReference | None = setting(
        formats.SECRET_NAME,
        default="",
        description="Secret Manager's secret that holds the API key, in place of `apiKey`; written as `huggingFaceTokenSecret` is.",
    )
    require_api_key: bool = setting(
        Boolean(),
        default=True,
        description="Whether a load balancer that everyone on the internet can reach is refused without an API key.",
    )
    secrets_encryption_key: str = setting(
        formats.CRYPTO_KEY,
        default="",
        description="Cloud KMS key of the region that encrypts the cluster's Secrets, as projects/P/locations/L/keyRings/R/cryptoKeys/K; "
        "GKE's service agent must be allowed to use it. Empty leaves Google's own encryption.",
    )
    binary_authorization: bool = setting(
        Boolean(), default=False, description="Whether the project's Binary Authorization policy decides which images run."
    )


@dataclass(frozen=True, kw_only=True)
class MonitoringSettings:
    """The dashboard, and the alerts."""

    enabled: bool = setting(
        Boolean(), default=True, key="monitoring", description="Whether there are a dashboard and alert policies in Cloud Monitoring."
    )
    notification_channels: tuple[str, ...] = setting(
        formats.NOTIFICATION_CHANNELS,
        default=[],
        description="Cloud Monitoring's channels that alerts go to, as projects/PROJECT/notificationChannels/NUMBER; without any, "
        "incidents show in the console only.",
    )
    runbook_url: str = setting(
        formats.RUNBOOK_URL,
        default="",
        description="Where your team reads docs/operate.md, such as https://github.com/ORGANISATION/REPOSITORY/blob/main/docs/operate.md; "
        "each alert then links to its section.",
    )
    pending_alert_minutes: int = setting(
        Whole(1, 1440),
        default=15,
        description="Minutes that a replica may be pending before an alert; a TPU that is out of stock can hold one up for ten hours.",
    )
    waiting_alert_requests: int = setting(
        Whole(1, 1_000_000),
        default=20,
        description="Requests that may wait in the servers' queues, all replicas together, for 10 minutes before an alert.",
    )
    first_token_alert_seconds: int = setting(
        Whole(1, 3600),
        default=10,
        description="Seconds that one request in twenty may wait for its first token, for 10 minutes, before an alert.",
    )
    preemption_alert_count: int = setting(
        Whole(1, 1000),
        default=3,
        description="Nodes of one pool that Google may take back within an hour before an alert; Spot and preemptible pools only.",
    )


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that a user may choose."""

    place: Place = section(Place)
    cluster: ClusterSettings = section(ClusterSettings)
    accelerators: AcceleratorSettings = section(AcceleratorSettings)
    images: ImageSettings = section(ImageSettings)
    server: ServerSettings = section(ServerSettings)
    scaling: ScalingSettings = section(ScalingSettings)
    network: NetworkSettings = section(NetworkSettings)
    security: SecuritySettings = section(SecuritySettings)
    monitoring: MonitoringSettings = section(MonitoringSettings)
