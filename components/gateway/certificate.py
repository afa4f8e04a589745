"""The host name's certificate by Certificate Manager: issued and renewed by Google once a DNS record shows whose name it is.

Left out: existing certificate maps and TLS Secrets, which a gateway names and nobody here makes.
"""

from __future__ import annotations

import hashlib
from typing import Any

import pulumi
from pulumi_gcp import certificatemanager

from components.cluster.project_services import enable_apis
from components.cluster.replacement import successor_first
from components.settings.gateway import Gateway
from components.settings.sections import Place


def certificate_name(prefix: str, host: str) -> str:
    """Ends in a digest of the host name: a certificate in use cannot be deleted, so another host's is made beside it."""
    return f"{prefix}-gateway-{hashlib.sha256(host.encode()).hexdigest()[:8]}"


class ManagedCertificate(pulumi.ComponentResource):
    """A certificate with its authorisation, and for a global load balancer the map that holds it."""

    #: Of the certificate map (global) or of the certificate (regional): what the Gateway names.
    reference: pulumi.Output[str]
    #: `{name, type, data}` of the record that has to be in the domain's DNS before the certificate is issued, and for as long as it renews.
    record: pulumi.Output[dict[str, str]]

    def __init__(self, name: str, place: Place, prefix: str, gateway: Gateway, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("fungibility:index:ManagedCertificate", name, None, opts)
        full_name, host = certificate_name(prefix, gateway.host_name), gateway.host_name
        # A regional certificate takes regional authorisations alone, and those are of this type:
        # https://docs.cloud.google.com/certificate-manager/docs/deploy-google-managed-regional
        where: dict[str, Any] = {"location": place.region} if gateway.regional else {}
        authorization = certificatemanager.DnsAuthorization(
            name,
            project=place.project,
            name=full_name,
            domain=host,
            type="PER_PROJECT_RECORD" if gateway.regional else "FIXED_RECORD",
            labels=dict(place.labels),
            **where,
            # Explicit, since no output depends on an API being on.
            opts=successor_first(self, depends_on=enable_apis(name, ["certificatemanager"], project=place.project, parent=self)),
        )
        certificate = certificatemanager.Certificate(
            name,
            project=place.project,
            name=full_name,
            managed={"domains": [host], "dns_authorizations": [authorization.id]},
            labels=dict(place.labels),
            **where,
            opts=successor_first(self),
        )
        self.reference = certificate.name
        if not gateway.regional:
            certificate_map = certificatemanager.CertificateMap(
                name, project=place.project, name=full_name, labels=dict(place.labels), opts=successor_first(self)
            )
            entry = certificatemanager.CertificateMapEntry(
                name,
                project=place.project,
                name=full_name,
                map=certificate_map.name,
                hostname=host,
                certificates=[certificate.id],
                opts=successor_first(self),
            )
            # Through the entry, without which the map serves nothing.
            self.reference = pulumi.Output.all(certificate_map.name, entry.id).apply(lambda known: str(known[0]))
        self.record = authorization.dns_resource_records.apply(
            lambda records: {"name": records[0].name, "type": records[0].type, "data": records[0].data} if records else {}
        )
        self.register_outputs({"reference": self.reference, "record": self.record})
