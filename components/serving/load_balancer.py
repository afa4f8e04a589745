"""What GKE is told of a Service's load balancer. Left out: who may use it (source ranges, `network_policy`)."""

from __future__ import annotations

#: https://docs.cloud.google.com/kubernetes-engine/docs/concepts/service-load-balancer-parameters
TYPE_ANNOTATION = "networking.gke.io/load-balancer-type"


def service_annotations(internal: bool) -> dict[str, str]:
    """For an internal one, which has an address of the VPC; a public one is what GKE makes unasked."""
    return {TYPE_ANNOTATION: "Internal"} if internal else {}
