"""The PromQL queries of the dashboard and of the alerts, each with the source of its metrics.

Cloud Monitoring answers PromQL over three kinds of metrics, which name the cluster differently:

- GKE's kube state metrics (`kube_*`; labels `cluster`, `location`), collected for the cluster's monitoring components POD and
  DEPLOYMENT: https://docs.cloud.google.com/kubernetes-engine/docs/how-to/kube-state-metrics
- GKE's system metrics (`kubernetes_io:*`; labels `cluster_name`, `location`), which always exist; their metadata labels
  (`metadata_system_*`, `metadata_user_*`) say which node a container runs on and which Kubernetes labels a node has:
  https://docs.cloud.google.com/monitoring/api/metrics_kubernetes and https://docs.cloud.google.com/monitoring/promql
- vLLM's own (`vllm:*`; labels `cluster`, `location`, `pod`), scraped by Managed Service for Prometheus:
  https://docs.vllm.ai/en/latest/usage/metrics.html

Left out: namespaces. The cluster belongs to this stack alone, and the names of the Deployment and its pods identify them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# Also part of this module's interface, since readers of the queries need it.
from components.serving.fallback_timer import PLACEHOLDER
from components.serving.inference_server import DEPLOYMENT_NAME as DEPLOYMENT_NAME
from components.serving.probes import IDLE_REQUESTS_PER_SECOND

#: Pattern of the pods' names, which the Deployment's ReplicaSets make from its name.
_PODS = f'pod=~"{DEPLOYMENT_NAME}-[a-z0-9]+-[a-z0-9]{{5}}"'

#: The Kubernetes label `cloud.google.com/gke-nodepool` of a node, as a metadata label's name in PromQL: every special character
#: is an underscore.
_POOL_LABEL = "metadata_user_cloud_google_com_gke_nodepool"

#: Window of rates and quantiles; vLLM's metrics arrive every 15 to 60 s.
_WINDOW = "5m"


@dataclass(frozen=True, kw_only=True)
class Scope:
    """The cluster whose series count; a project may have several."""

    cluster: str
    #: The cluster's region.
    location: str

    @property
    def prometheus(self) -> str:
        """Matchers of `kube_*` and `vllm:*`."""
        return f'cluster="{self.cluster}",location="{self.location}"'

    @property
    def system(self) -> str:
        """Matchers of `kubernetes_io:*`."""
        return f'cluster_name="{self.cluster}",location="{self.location}"'


def wanted_replicas(scope: Scope) -> str:
    """kube_deployment_spec_replicas: the replicas that the Deployment asks for. A gauge of kube state metrics."""
    return f"sum({_deployment('kube_deployment_spec_replicas', scope)})"


def ready_replicas(scope: Scope) -> str:
    """kube_deployment_status_replicas_available: the replicas that answer. A gauge of kube state metrics."""
    return f"sum({_deployment('kube_deployment_status_replicas_available', scope)})"


def pending_replicas(scope: Scope) -> str:
    """kube_pod_status_phase: 1 for the phase that a pod is in. A pending pod has no node yet, or no image."""
    return f'sum(kube_pod_status_phase{{{scope.prometheus},{_PODS},phase="Pending"}})'


def pending_by_pod(scope: Scope) -> str:
    """As `pending_replicas`, with one series for each pending pod."""
    return f'sum by (pod) (kube_pod_status_phase{{{scope.prometheus},{_PODS},phase="Pending"}}) > 0'


def pools_passed_over(scope: Scope) -> str:
    """As `pending_replicas`, of the fallback timer's placeholders: 1 for each pool that replicas pass over."""
    phase = f'kube_pod_status_phase{{{scope.prometheus},pod=~"{PLACEHOLDER}-.+-[a-z0-9]{{5}}",phase="Pending"}}'
    return f'max by (pool) (label_replace({phase}, "pool", "$1", "pod", "{PLACEHOLDER}-(.+)-.+")) > 0'


def no_ready_replica(scope: Scope) -> str:
    """Replicas are asked for and none answers, or there are no metrics, which counts as trouble too.

    A Deployment that a person scaled to 0 does not count.
    """
    wanted = _deployment("kube_deployment_spec_replicas", scope)
    return f"(sum({wanted}) > 0 unless {ready_replicas(scope)} > 0) or absent({wanted})"


def unavailable_replicas(scope: Scope) -> str:
    """Replicas that are wanted and do not answer, while others may."""
    return f"{wanted_replicas(scope)} - ({ready_replicas(scope)} or vector(0)) > 0"


def restarts_by_pod(scope: Scope, window: str) -> str:
    """kubernetes.io/container/restart_count, a counter that every container has: restarts within the window, by pod."""
    containers = f'monitored_resource="k8s_container",{scope.system},container_name=~"{DEPLOYMENT_NAME}-(gpu|tpu)"'
    return f"sum by (pod_name) (increase(kubernetes_io:container_restart_count{{{containers}}}[{window}]))"


def ready_by_pool(scope: Scope) -> str:
    """Replicas whose containers are all ready, by node pool: which pool serves now.

    kube_pod_container_status_ready (kube state metrics), joined with the pods' pools.
    """
    ready = f"min by (pod) (kube_pod_container_status_ready{{{scope.prometheus},{_PODS}}})"
    return f"sum by (pool) ({ready} * on (pod) group_left (pool) ({_pool_of_pods(scope)}))"


def tokens_per_second_by_pool(scope: Scope) -> str:
    """vllm:generation_tokens_total, a counter, joined with the pods' pools."""
    rate = f"max by (pod, engine) (rate(vllm:generation_tokens_total{{{scope.prometheus}}}[{_WINDOW}]))"
    return f"sum by (pool) (sum by (pod) ({rate}) * on (pod) group_left (pool) ({_pool_of_pods(scope)}))"


def waiting_requests(scope: Scope) -> str:
    """vllm:num_requests_waiting, a gauge: requests in the servers' queues, all replicas together."""
    return _sum_of_servers("vllm:num_requests_waiting", scope)


def running_requests(scope: Scope) -> str:
    """vllm:num_requests_running, a gauge: requests that the servers generate for."""
    return _sum_of_servers("vllm:num_requests_running", scope)


def time_to_first_token(scope: Scope, quantile: float) -> str:
    """vllm:time_to_first_token_seconds, a histogram: seconds from a request to its first token, all replicas together.

    Without the probes' requests, of which an idle server answers so many quickly that one user's slow request in a minute, among seven
    idle replicas', is less than one in twenty. A busy server gets none of them; a twentieth of a request a second too few is counted there.
    """
    rate = f"max by (pod, engine, le) (rate(vllm:time_to_first_token_seconds_bucket{{{scope.prometheus}}}[{_WINDOW}]))"
    return f"histogram_quantile({quantile}, sum by (le) (clamp_min({rate} - {IDLE_REQUESTS_PER_SECOND}, 0)))"


def nodes_of_pool(scope: Scope, pool: str) -> str:
    """Nodes of one pool: kubernetes.io/node/cpu/allocatable_cores, a gauge with one series for each node."""
    return f"count({_nodes(scope, f'{_POOL_LABEL}={_quoted(pool)}')})"


def cost_of_pool(scope: Scope, pool: str, usd: float) -> str:
    """USD an hour for all nodes of one pool, from the price of one node."""
    return f"{nodes_of_pool(scope, pool)} * {usd}"


def preemptions_by_pool(scope: Scope, pools: Sequence[str], window: str) -> str:
    """Nodes that Google took back within the window, by node pool.

    kubernetes.io/node_pool/interruption_count counts since its last sample and is mostly undefined instead of zero, so its
    samples are added up. For GPU and TPU machines it counts preemptions by pool, which the audit log's
    `compute.instances.preempted` does not:
    https://docs.cloud.google.com/kubernetes-engine/docs/concepts/handle-disruption-gpu-tpu
    """
    matchers = (
        f'monitored_resource="k8s_node_pool",{scope.system},interruption_type="PreemptionEvent",node_pool_name=~{_quoted("|".join(pools))}'
    )
    return f"sum by (node_pool_name) (sum_over_time(kubernetes_io:node_pool_interruption_count{{{matchers}}}[{window}]))"


def _deployment(metric: str, scope: Scope) -> str:
    return f"{metric}{{{scope.prometheus},deployment={_quoted(DEPLOYMENT_NAME)}}}"


def _sum_of_servers(gauge: str, scope: Scope) -> str:
    # A server that is scraped twice (also by GKE's automatic monitoring) counts once.
    return f"sum(max by (pod, engine) ({gauge}{{{scope.prometheus}}}))"


def _nodes(scope: Scope, *matchers: str) -> str:
    selected = ",".join(('monitored_resource="k8s_node"', scope.system, *matchers))
    return f"kubernetes_io:node_cpu_allocatable_cores{{{selected}}}"


def _pool_of_pods(scope: Scope) -> str:
    """1 for each of the pods, with the labels `pod` and `pool`, joined by the name of the node.

    kubernetes.io/container/uptime says on which node a container is, and the node's label in which pool.
    """
    containers = (
        f'kubernetes_io:container_uptime{{monitored_resource="k8s_container",{scope.system},container_name=~"{DEPLOYMENT_NAME}-(gpu|tpu)"}}'
    )
    node_of_pods = _renamed(
        _renamed(f"count by (pod_name, metadata_system_node_name) ({containers}) > bool 0", "metadata_system_node_name", "node"),
        "pod_name",
        "pod",
    )
    pool_of_nodes = _renamed(
        _renamed(f"count by (node_name, {_POOL_LABEL}) ({_nodes(scope)}) > bool 0", _POOL_LABEL, "pool"), "node_name", "node"
    )
    return f"max by (pod, pool) (max by (pod, node) ({node_of_pods}) * on (node) group_left (pool) max by (node, pool) ({pool_of_nodes}))"


def _renamed(vector: str, old: str, new: str) -> str:
    return f'label_replace({vector}, "{new}", "$1", "{old}", "(.+)")'


def _quoted(text: str) -> str:
    return f'"{text}"'
