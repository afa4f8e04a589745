"""A language model on the best accelerator that is free: settings, providers, components, outputs."""

import pulumi

from components import interpreter

interpreter.prepare()

from components import secret_manager
from components.cluster import project_services, providers
from components.cluster.accelerator_pools import AcceleratorPools, AcceleratorPoolsArgs
from components.cluster.cluster import Cluster
from components.cluster.cluster_hardening import ClusterArgs
from components.cluster.compute_class import ComputeClass
from components.cluster.image_registry import ImageRegistry, ImageRegistryArgs
from components.cluster.namespace import after_namespace
from components.cluster.network import cluster_network
from components.gateway.front_door import FrontDoor, FrontDoorArgs
from components.monitoring.observability import Observability, ObservabilityArgs
from components.serving.inference_server import InferenceServer, InferenceServerArgs
from components.serving.replica_autoscaler import ReplicaAutoscaler, ReplicaAutoscalerArgs
from components.serving.weights_cache import WeightsCache, WeightsCacheArgs, make_model_caches
from components.settings import settings
from ops import cost

config = settings.load()
pulumi.log.info(cost.summary(config))  # in every preview, before it is spent

gcp = providers.gcp_provider(config.place.project, config.place.region)
in_gcp = project_services.waiting_for_new_apis(gcp, providers.docker_provider())

network = cluster_network(config.place, config.cluster.name, config.network, in_gcp)
cluster_args = ClusterArgs(config.place, config.cluster, config.security, config.network, network, config.server.weights_cache)
cluster = Cluster("cluster", cluster_args, in_gcp)
registry_args = ImageRegistryArgs(config.place, config.images, config.accelerators, config.cluster, cluster, providers.access_token(gcp))
registry = ImageRegistry("images", registry_args, in_gcp)
AcceleratorPools("accelerator-pools", AcceleratorPoolsArgs(config.place, config.accelerators, config.cluster, cluster, network), in_gcp)
if config.monitoring.enabled:
    Observability("observability", ObservabilityArgs(config.place, config.monitoring, config.cluster, config.accelerators), in_gcp)

in_cluster = pulumi.ResourceOptions(providers=[providers.kubernetes_provider(cluster)])
compute_class = ComputeClass("compute-class", config.accelerators, in_cluster)
in_namespace = pulumi.ResourceOptions.merge(in_cluster, after_namespace(config.server.namespace, cluster))
in_both = pulumi.ResourceOptions.merge(in_namespace, in_gcp)
bucket_args = WeightsCacheArgs(config.place, config.server.namespace, cluster.workload_pool)
server_args = InferenceServerArgs(
    config.server,
    config.scaling,
    config.network,
    config.accelerators,
    compute_class_name=compute_class.name,
    images=registry.images,
    releases=config.images.releases,
    caches=make_model_caches(config.server, WeightsCache("weights-cache", bucket_args, in_both) if config.server.weights_cache else None),
    hugging_face_token=secret_manager.value_of(config.server.hugging_face_token, config.server.hugging_face_token_secret, gcp),
    scraped_by_gke=config.cluster.auto_monitoring_scope == "ALL",
    api_key=secret_manager.value_of(config.security.api_key, config.security.api_key_secret, gcp),
)
server = InferenceServer("vllm", server_args, in_namespace)
if config.scaling.autoscaled:
    after_server = pulumi.ResourceOptions.merge(in_both, pulumi.ResourceOptions(depends_on=[server]))  # which it measures
    autoscaler_args = ReplicaAutoscalerArgs(config.place.project, cluster.name, config.cluster.name, config.server, config.scaling)
    ReplicaAutoscaler("replica-autoscaler", autoscaler_args, after_server)
door_args = FrontDoorArgs(config.place, config.cluster.name, config.server, config.network, network)
door = FrontDoor("gateway", door_args, in_both) if config.network.gateway else None

pulumi.export("service_ip", (door or server).service_ip)
pulumi.export("service_url", (door or server).service_url)
pulumi.export("dns_records", door.dns_records if door else [])
pulumi.export("model", config.server.model)
pulumi.export("namespace", config.server.namespace)
pulumi.export("cluster_name", cluster.name)
pulumi.export("cluster_location", cluster.location)
pulumi.export("kubeconfig", cluster.kubeconfig)
pulumi.export("compute_class", compute_class.name)
pulumi.export("accelerator_pools", [pool.name for pool in config.accelerators.pools])
pulumi.export("image_repository", registry.repository)
pulumi.export("images", registry.images)
pulumi.export("base_images", {kind: config.images.vllm_image(kind) for kind in registry.images})
