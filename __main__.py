"""A language model on the best accelerator that is free: settings, providers, components, outputs."""

import pulumi

from components import interpreter, providers, secret_manager
from components.cluster.accelerator_pools import AcceleratorPools, AcceleratorPoolsArgs
from components.cluster.cluster import Cluster, ClusterArgs
from components.cluster.compute_class import ComputeClass, ComputeClassArgs
from components.cluster.image_registry import ImageRegistry, ImageRegistryArgs
from components.cluster.network import Network, NetworkArgs
from components.monitoring.observability import Observability, ObservabilityArgs
from components.serving.inference_server import InferenceServer, InferenceServerArgs
from components.serving.replica_autoscaler import ReplicaAutoscaler, ReplicaAutoscalerArgs
from components.serving.weights_cache import WeightsCache, WeightsCacheArgs, make_model_caches
from components.settings import settings
from ops import cost

interpreter.prepare()
config = settings.load()
# Seen in every preview, before it is spent.
pulumi.log.info(cost.summary(config))

gcp = providers.gcp_provider(config.project, config.region)
docker = providers.docker_provider()
in_project = pulumi.ResourceOptions(providers=[gcp])

network = None if config.network is None else Network("network", NetworkArgs.of(config), in_project)
cluster = Cluster("cluster", ClusterArgs.of(config, network=network), in_project)
registry = ImageRegistry(
    "images",
    ImageRegistryArgs.of(config, reader=cluster.node_service_account, access_token=providers.access_token(gcp)),
    pulumi.ResourceOptions(providers=[gcp, docker]),
)
AcceleratorPools(
    "accelerator-pools",
    AcceleratorPoolsArgs.of(config, cluster_name=cluster.name, node_service_account=cluster.node_service_account),
    in_project,
)
if config.monitoring:
    Observability("observability", ObservabilityArgs.of(config), in_project)

kubernetes = providers.kubernetes_provider(cluster.kubeconfig)
in_cluster = pulumi.ResourceOptions(providers=[kubernetes])
compute_class = ComputeClass("compute-class", ComputeClassArgs.of(config), in_cluster)
weights_cache = None
if config.weights_cache:
    weights_cache = WeightsCache(
        "weights-cache",
        WeightsCacheArgs.of(config, workload_pool=cluster.workload_pool),
        pulumi.ResourceOptions(providers=[gcp, kubernetes]),
    )
server_args = InferenceServerArgs.of(
    config,
    compute_class_name=compute_class.name,
    images=registry.images,
    hugging_face_token=secret_manager.value_of(config.hugging_face_token, config.hugging_face_token_secret, gcp),
    api_key=secret_manager.value_of(config.api_key, config.api_key_secret, gcp),
    caches=make_model_caches(config, weights_cache),
)
server = InferenceServer("vllm", server_args, in_cluster)
if config.autoscaled:
    ReplicaAutoscaler(
        "replica-autoscaler",
        ReplicaAutoscalerArgs.of(config, cluster_name=cluster.name),
        # After the Deployment, which it scales, or nothing of it is there to be measured.
        pulumi.ResourceOptions(providers=[gcp, kubernetes], depends_on=[server]),
    )

pulumi.export("service_ip", server.service_ip)
pulumi.export("service_url", server.service_url)
pulumi.export("model", config.model)
pulumi.export("namespace", config.namespace)
pulumi.export("cluster_name", cluster.name)
pulumi.export("cluster_location", cluster.location)
pulumi.export("kubeconfig", cluster.kubeconfig)
pulumi.export("compute_class", compute_class.name)
pulumi.export("accelerator_pools", [pool.name for pool in config.accelerator_pools])
pulumi.export("image_repository", registry.repository)
pulumi.export("images", registry.images)
