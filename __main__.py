"""A language model on the best accelerator that is free: settings, providers, components, outputs."""

import pulumi

from components import providers, settings
from components.accelerator_pools import AcceleratorPools, AcceleratorPoolsArgs
from components.cluster import Cluster, ClusterArgs
from components.compute_class import ComputeClass, ComputeClassArgs
from components.image_registry import ImageRegistry, ImageRegistryArgs
from components.inference_server import InferenceServer, InferenceServerArgs
from components.weights_cache import WeightsCache, WeightsCacheArgs, make_model_caches

config = settings.load()

gcp = providers.gcp_provider(config.project, config.region)
docker = providers.docker_provider()

cluster = Cluster("cluster", ClusterArgs.of(config), pulumi.ResourceOptions(providers=[gcp]))
registry = ImageRegistry(
    "images",
    ImageRegistryArgs.of(config, reader=cluster.node_service_account, access_token=providers.access_token(gcp)),
    pulumi.ResourceOptions(providers=[gcp, docker]),
)
AcceleratorPools(
    "accelerator-pools",
    AcceleratorPoolsArgs.of(config, cluster_name=cluster.name, node_service_account=cluster.node_service_account),
    pulumi.ResourceOptions(providers=[gcp]),
)

kubernetes = providers.kubernetes_provider(cluster.kubeconfig)
compute_class = ComputeClass(
    "compute-class", ComputeClassArgs.of(config), pulumi.ResourceOptions(providers=[kubernetes])
)
weights_cache = None
if config.weights_cache:
    weights_cache = WeightsCache(
        "weights-cache",
        WeightsCacheArgs.of(config, workload_pool=cluster.workload_pool),
        pulumi.ResourceOptions(providers=[gcp, kubernetes]),
    )
server = InferenceServer(
    "vllm",
    InferenceServerArgs.of(
        config,
        compute_class_name=compute_class.name,
        images=registry.images,
        caches=make_model_caches(config, weights_cache),
    ),
    pulumi.ResourceOptions(providers=[kubernetes]),
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
