"""How long Google's side takes, in seconds, and the clock that runs it faster.

Each figure was seen in public notes and none was measured by this project; where the notes give a range it is
about the middle. The sandbox waits `seconds / speed`. Left out, as what is short beside the rest or runs beside it: switching APIs
on, IAM, repositories, addresses of load balancers.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType

#: Operation -> seconds on Google's side.
LATENCIES = MappingProxyType(
    {
        # "5-10 min" for a regional cluster, with its default pool.
        "cluster_create": 450.0,
        # Unverified: no note gives one; deletion is taken to be as long as a pool's.
        "cluster_delete": 160.0,
        # "1-4 min", its nodes' joining included: this is what is left beside the nodes.
        "node_pool_create": 60.0,
        # "About 2 min 40 s". A log of the default pool's removal after a cluster's creation has it running after 97 s:
        # https://github.com/hashicorp/terraform-provider-google/issues/4305
        "node_pool_delete": 160.0,
        # L4: node object 38 s after the request.
        "node_join": 38.0,
        # TPU: about 10 min from request to serving, of which the server's start is 5 min 37 s; what is left, without the two
        # streamed images of the pod.
        "tpu_node_join": 220.0,
        # Unverified: a machine that is given back.
        "node_delete": 60.0,
        # The cluster autoscaler looks every 10 s (its --scan-interval by default); what GKE sets is unverified:
        # https://github.com/kubernetes/autoscaler/blob/master/cluster-autoscaler/FAQ.md
        "autoscaler_scan": 10.0,
        # Per-rule cool-down after a stock-out, "about 5 minutes".
        "stock_out_cool_down": 300.0,
        # 95 s between a listener's acceptance and its programming, in a `kubectl describe gateway` that a user of GKE published.
        "gateway_program": 95.0,
        # Unverified for a builder: the base of about 10 GB comes as it comes to a node that does not stream ("5-6 min", and
        # "3-4 min" to extract); the program's three files on top are seconds. vllm-openai is "around 12 GB":
        # https://github.com/vllm-project/vllm/issues/27154
        "image_build": 540.0,
        # Unverified: the first push moves the base's bytes once more (docs/images.md, measured), taken to be as fast as they
        # came, "5-6 min".
        "image_push": 330.0,
        # "5-6 min" for about 10 GB, and "3-4 min" to extract.
        "image_pull": 540.0,
        # "The container is created in just 20s, instead of 3m50s", of Google's deep learning image, by GKE's product manager:
        # https://wdenniss.com/using-image-streaming-with-dockerhub
        "image_pull_streamed": 20.0,
        # 5 min 37 s between the first and the last line of the walkthrough's server on a v6e chip.
        "tpu_server_start": 337.0,
        # "1-2 min" on an L4.
        "gpu_server_start": 90.0,
        # A refused instance: 46 s (terraform-provider-google#3304), 66 s (#10121), 71 s (k8s-config-connector#228).
        "instance_refusal": 60.0,
        # A pool's creation without stock: "retried about every 4 min and given up after 36 min".
        "node_pool_retry": 240.0,
        "node_pool_give_up": 2160.0,
        # How long a machine may take to come before the autoscaler gives up: ten hours for a single-host TPU, 15 + 15 minutes for
        # flex-start (tpuMigMaxNodeProvisionTime, DefaultFlexStartCapacityCheckWaitTime and maxNodeProvisionTimeOffset in
        # pkg/cloudprovider/gke/gke_cloud_provider_impl.go of GoogleCloudPlatform/cluster-autoscaler), its default for everything else:
        # https://github.com/kubernetes/autoscaler/blob/master/cluster-autoscaler/FAQ.md (max-node-provision-time).
        "held_tpu_request": 36000.0,
        "held_flex_request": 1800.0,
        "held_request": 900.0,
    }
)

#: Between a pod's coming or ending and its endpoint's at Google's balancers, in real seconds, since pods end in real time. Unverified:
#: kubernetes/ingress-gce's issues speak of seconds, Google's page on container-native load balancing gives no number.
NEG_SECONDS = 10.0

# The end of a Spot or preemptible machine, in real seconds: https://docs.cloud.google.com/kubernetes-engine/docs/concepts/spot-vms.
NOTICE_SECONDS = 30.0
#: What is left of it for pods that are not critical; older versions of GKE gave 25.
POD_SECONDS = 15.0

#: For so long the controller manager takes a silent node for a healthy one (kube-controller-manager's --node-monitor-grace-period, 50 s
#: by default in Kubernetes 1.37; what GKE sets is unverified). Within 5 s more it says so of the node and of its pods, which leave the
#: endpoints.
SILENT_SECONDS = 50.0


@dataclass(frozen=True)
class Clock:
    """The sandbox's clock: `speed` seconds of Google's pass in one of ours."""

    speed: float

    def sleep(self, operation: str) -> None:
        """Waits for what the operation of the table takes."""
        time.sleep(self.seconds(operation))

    def seconds(self, operation: str) -> float:
        """Seconds of this machine's clock."""
        return self.scaled(LATENCIES[operation])

    def scaled(self, seconds: float) -> float:
        return seconds / self.speed

    @contextmanager
    def during(self, *operations: str) -> Iterator[None]:
        """Whatever the block does for real is part of these operations' time; leaves it when that has passed."""
        ends = time.monotonic() + sum(map(self.seconds, operations))
        yield
        time.sleep(max(0.0, ends - time.monotonic()))
