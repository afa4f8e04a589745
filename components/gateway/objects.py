"""The Kubernetes objects of the front door, as GKE's Gateway controller reads them; wire names.

Left out: timeouts and retries of an HTTPRoute, which GKE does not take. By its own conformance report (kubernetes-sigs/gateway-api,
conformance/reports/v1.4.0/gke-gateway/standard-1.34.4-rxlb-report.yaml) HTTPRouteRequestTimeout and HTTPRouteBackendTimeout are not
supported; GCPBackendPolicy has the timeout. Types of networking.gke.io: GoogleCloudPlatform/gke-gateway-api, apis/networking/v1.
"""

from __future__ import annotations

from typing import Any

import pulumi

from components.settings.gateway import Certificate, Gateway

API = "gateway.networking.k8s.io/v1"
POLICY_API = "networking.gke.io/v1"

#: Annotation and listener option by which a Gateway names Certificate Manager's certificates: a map on the global load balancer, a
#: certificate on regional ones. https://docs.cloud.google.com/kubernetes-engine/docs/how-to/secure-gateway
MAP_ANNOTATION = "networking.gke.io/certmap"
CERTIFICATE_OPTION = "networking.gke.io/cert-manager-certs"

#: Seconds that an answer may take from its first to its last byte; a stream is cut at the end. Google's reference for inference has the
#: same: GoogleCloudPlatform/accelerated-platforms, inference-ref-arch, gcp-backend-policy-override.yaml. The balancer's own is 30 s.
ANSWER_SECONDS = 3600

#: What a client may ask. vLLM's other routes take no API key, and some of them answer prompts (docs/hardening.md).
_PATHS = [{"path": {"type": "PathPrefix", "value": "/v1"}}, {"path": {"type": "Exact", "value": "/health"}}]

#: Two failures of two seconds each take a server that hangs out of service, and one success brings a new one in.
_CHECK = {"checkIntervalSec": 2, "timeoutSec": 2, "healthyThreshold": 1, "unhealthyThreshold": 2}


def listeners(gateway: Gateway, certificate: pulumi.Input[str]) -> list[dict[str, Any]]:
    """HTTP, which only redirects where there is HTTPS. `certificate`: see `ManagedCertificate.reference`; empty for another's."""
    http = {"name": "http", "protocol": "HTTP", "port": 80}
    if gateway.certificate is None:
        return [http]
    https: dict[str, Any] = {"name": "https", "protocol": "HTTPS", "port": 443}
    if tls := _tls(gateway, gateway.certificate, certificate):
        https["tls"] = {"mode": "Terminate", **tls}
    return [http, https]


def _tls(gateway: Gateway, source: Certificate, certificate: pulumi.Input[str]) -> dict[str, Any]:
    if source.secret:
        return {"certificateRefs": [{"group": "", "kind": "Secret", "name": source.secret}]}
    return {"options": {CERTIFICATE_OPTION: certificate}} if gateway.regional else {}


def map_annotation(gateway: Gateway, certificate: pulumi.Input[str]) -> dict[str, pulumi.Input[str]]:
    """A certificate map, which Google takes from here and not from a listener."""
    source = gateway.certificate
    if source is None or source.secret or gateway.regional:
        return {}
    return {MAP_ANNOTATION: source.map or certificate}


def routes(gateway: Gateway, name: str, backend: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Name -> `spec` of each HTTPRoute."""
    https = gateway.certificate is not None
    hosts = {"hostnames": [gateway.host_name]} if gateway.host_name else {}
    serve = _route(name, "https" if https else "http", hosts, {"matches": _PATHS, "backendRefs": [backend]})
    if not https:
        return {name: serve}
    redirect = {"type": "RequestRedirect", "requestRedirect": {"scheme": "https", "statusCode": 301}}
    return {name: serve, f"{name}-redirect": _route(name, "http", hosts, {"filters": [redirect]})}


def _route(gateway_name: str, listener: str, hosts: dict[str, Any], rule: dict[str, Any]) -> dict[str, Any]:
    return {"parentRefs": [{"name": gateway_name, "sectionName": listener}], **hosts, "rules": [rule]}


def health_check(target: dict[str, str], port: int) -> dict[str, Any]:
    """`spec` of the HealthCheckPolicy; Google's default asks for `/`, which vLLM answers with 404."""
    config = {"type": "HTTP", "httpHealthCheck": {"portSpecification": "USE_FIXED_PORT", "port": port, "requestPath": "/health"}}
    return {"targetRef": target, "default": {**_CHECK, "config": config}}


def backend_policy(target: dict[str, str], *, draining_seconds: int, security_policy: pulumi.Input[str]) -> dict[str, Any]:
    """`spec` of the GCPBackendPolicy; every request is logged, without its body."""
    policy: dict[str, Any] = {
        "timeoutSec": ANSWER_SECONDS,
        "connectionDraining": {"drainingTimeoutSec": draining_seconds},
        "logging": {"enabled": True},
    }
    if security_policy != "":
        policy["securityPolicy"] = security_policy
    return {"targetRef": target, "default": policy}
