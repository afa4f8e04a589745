"""What GKE's own pods answer for, and what the API server therefore refuses while no node is there for them.

In place of those pods there are two objects, each of which names a service that nothing runs: the webhook of Managed Prometheus's operator
(GoogleCloudPlatform/prometheus-engine#1417, "zero-node problems") and the API of metrics-server, without which no namespace ends
(kubernetes/kubernetes#114214). They exist only while no node does. Left out: the pods themselves, and the rest of what they serve.
"""

from __future__ import annotations

from collections.abc import Callable

from kubernetes import client
from kubernetes.client import ApiException

_OPERATOR = "gmp-operator.gmp-system.monitoring.googleapis.com"

_WEBHOOK = {
    "apiVersion": "admissionregistration.k8s.io/v1",
    "kind": "ValidatingWebhookConfiguration",
    "metadata": {"name": _OPERATOR},
    "webhooks": [
        {
            "name": f"validate.podmonitorings.{_OPERATOR}",
            "clientConfig": {"service": {"namespace": "gmp-system", "name": "gmp-operator", "port": 443}},
            "rules": [
                {
                    "apiGroups": ["monitoring.googleapis.com"],
                    "apiVersions": ["v1"],
                    "operations": ["CREATE", "UPDATE"],
                    "resources": ["podmonitorings"],
                }
            ],
            "failurePolicy": "Fail",
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        }
    ],
}

_METRICS = "v1beta1.metrics.k8s.io"

_API_SERVICE = {
    "apiVersion": "apiregistration.k8s.io/v1",
    "kind": "APIService",
    "metadata": {"name": _METRICS},
    "spec": {
        "group": "metrics.k8s.io",
        "version": "v1beta1",
        "service": {"namespace": "kube-system", "name": "metrics-server"},
        "groupPriorityMinimum": 100,
        "versionPriority": 100,
        "insecureSkipTLSVerify": True,
    },
}


class SystemPods:
    """Whether they run; what is said of it twice changes nothing."""

    def __init__(self, api_client: client.ApiClient) -> None:
        admission, aggregation = client.AdmissionregistrationV1Api(api_client), client.ApiregistrationV1Api(api_client)
        self._leave: tuple[Callable[[], object], ...] = (
            lambda: admission.create_validating_webhook_configuration(_WEBHOOK),
            lambda: aggregation.create_api_service(_API_SERVICE),
        )
        self._come: tuple[Callable[[], object], ...] = (
            lambda: admission.delete_validating_webhook_configuration(_OPERATOR),
            lambda: aggregation.delete_api_service(_METRICS),
        )
        self._running: bool | None = None

    def run(self, running: bool) -> None:
        """With or without a node for them; from when this returns, the API server answers so."""
        for change in (self._come if running else self._leave) if running != self._running else ():
            try:
                change()
            except ApiException as error:
                # An earlier daemon has done it.
                if error.status not in (404, 409):
                    raise
        self._running = running
