"""Annotations of a Service about its load balancer. Left out: who may use it (source ranges, `network_policy`)."""

from __future__ import annotations

#: https://docs.cloud.google.com/kubernetes-engine/docs/concepts/service-load-balancer-parameters
TYPE_ANNOTATION = "networking.gke.io/load-balancer-type"


def service_annotations(internal: bool) -> dict[str, str]:
    """The annotations for an internal load balancer, with an address of the VPC; a public one is GKE's default."""
    return {TYPE_ANNOTATION: "Internal"} if internal else {}
