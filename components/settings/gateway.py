"""The front door of the servers, as the setting `gateway` describes it, and what is wrong with one.

Left out: the objects (`components.gateway`), and rules with settings outside it (`checks`).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from components.settings import formats
from components.settings.network_ranges import as_range, is_private
from components.settings.problems import Problem, nearest
from components.settings.reader import Notes, Reader, ValueType, setting
from components.settings.value_types import Choice, Structure, Text

INTERNAL = "gke-l7-rilb"
GLOBAL = "gke-l7-global-external-managed"
CLASSES = (INTERNAL, "gke-l7-regional-external-managed", GLOBAL)

#: Names of host, each label as DNS has it, and two of them at least.
_HOST_NAME = re.compile(r"(?=.{1,253}$)(?:[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
_GOOGLE_NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
_SECRET_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")

#: "You should use a proxy-only subnet with a /26 or larger": https://docs.cloud.google.com/load-balancing/docs/proxy-only-subnets
_LONGEST_PROXY_PREFIX = 26

_WAYS = {"dnsAuthorization": "true", "map": "NAME", "secret": "NAME"}


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """Where the certificate comes from: exactly one of the three."""

    #: Certificate Manager issues and renews one, after a DNS record has shown whose name it is.
    dns_authorization: bool = False
    #: An existing certificate map of Certificate Manager.
    map: str = ""
    #: A TLS Secret in the servers' namespace.
    secret: str = ""


def _parse_certificate(value: Any, field: str, known: Mapping[str, Any]) -> tuple[Certificate | None, list[Problem]]:
    fix = "give exactly one of " + ", ".join(f"`{key}: {what}`" for key, what in _WAYS.items())
    if not isinstance(value, Mapping):
        return None, [Problem(field, value, "is not a mapping", fix)]
    unknown = [
        Problem(f"{field}.{key}", value[key], "is not a way to a certificate", nearest(key, _WAYS)) for key in value if key not in _WAYS
    ]
    if unknown or not value:
        return None, unknown
    if len(value) > 1:
        return None, [Problem(field, value, "has more than one certificate", fix)]
    ((key, given),) = value.items()
    good = {"dnsAuthorization": given is True, "map": _is(given, _GOOGLE_NAME), "secret": _is(given, _SECRET_NAME)}
    if not good[key]:
        return None, [Problem(f"{field}.{key}", given, f"is not {'true' if key == 'dnsAuthorization' else 'a valid name'}", fix)]
    if key == "map" and known["class"] in CLASSES and known["class"] != GLOBAL:
        # https://docs.cloud.google.com/kubernetes-engine/docs/how-to/secure-gateway: maps are global, as only that class is.
        reason = f"is a certificate map, and {known['class']} is regional, which takes none"
        return None, [Problem(f"{field}.map", given, reason, f"give dnsAuthorization or secret, or the class {GLOBAL}")]
    return Certificate(dns_authorization=key == "dnsAuthorization", **({} if key == "dnsAuthorization" else {key: given})), []


def _is(value: Any, pattern: re.Pattern[str]) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


class _ProxyRange(ValueType):
    """Private IPv4 range that holds a load balancer's proxies."""

    name = "text"

    def read(self, value: Any, notes: Notes) -> str:
        fix = "give CIDR notation such as 10.129.0.0/23"
        try:
            found = as_range(value)
        except ValueError as error:
            notes.refuse(f"is not an IPv4 range ({error})", fix)
        else:
            if not is_private(found):
                notes.refuse("is not a private range", fix)
            elif found.prefixlen > _LONGEST_PROXY_PREFIX:
                notes.refuse(f"is a /{found.prefixlen}, and Google wants a /{_LONGEST_PROXY_PREFIX} or larger", fix)
        return str(value)


@dataclass(frozen=True, kw_only=True)
class Gateway:
    """A load balancer that knows requests: TLS ends there, and each request goes to a pod by itself."""

    class_name: str = setting(
        Choice(CLASSES),
        key="class",
        description="The GatewayClass, and so Google's load balancer: internal to the VPC, external in the region, or external and global.",
    )
    host_name: str = setting(
        Text(_HOST_NAME, "a host name", "give one such as llm.example.com, without scheme, port or wildcard", takes_empty=True),
        default="",
        description="Name by which clients call the service, for which the certificate is; its DNS record is yours to make (output "
        "`dns_records`). Empty for an internal class means HTTP inside the VPC; external classes need one.",
    )
    certificate: Certificate | None = setting(
        Structure(_parse_certificate),
        default={},
        description="Where the host name's certificate comes from, one of: `dnsAuthorization: true` (Certificate Manager issues and "
        "renews it; the record that proves the name is in the output `dns_records`), `map: NAME` (an existing certificate map, for the "
        "global class), `secret: NAME` (a TLS Secret in the servers' namespace, which is yours to renew).",
    )
    source_ranges: tuple[str, ...] = setting(
        formats.RANGES,
        default=[],
        description="IPv4 ranges (CIDR) that may reach an external class, by a Cloud Armor policy of the stack's own; empty lets "
        "everyone in.",
    )
    security_policy: str = setting(
        Text(_GOOGLE_NAME, "the name of a Cloud Armor policy", "give the name alone, such as edge-policy", takes_empty=True),
        default="",
        description="Existing Cloud Armor policy of the class's scope (global, or the region), in place of `sourceRanges`.",
    )
    proxy_range: str = setting(
        _ProxyRange(),
        default="10.129.0.0/23",
        description="Range of the proxy-only subnet, which regional classes need: made in a network of the stack's own, and else the range "
        "of the one that the network has in the region.",
    )

    @property
    def internal(self) -> bool:
        return self.class_name == INTERNAL

    @property
    def makes_certificate(self) -> bool:
        """Whether the stack's own certificate is asked of Certificate Manager."""
        return self.certificate is not None and self.certificate.dns_authorization

    @property
    def regional(self) -> bool:
        """Whether its proxies have addresses of a proxy-only subnet, and its certificates and policies are the region's."""
        return self.class_name != GLOBAL


def parse_gateway(value: Any, field: str, known: Mapping[str, Any]) -> tuple[Gateway | None, list[Problem]]:
    """The gateway, or None for an empty mapping (none) and after a problem."""
    if not isinstance(value, Mapping):
        return None, [Problem(field, value, "is not a mapping", "give class, or {} for none")]
    if not value:
        return None, []
    reader = Reader.of_element(field, value, known)
    gateway = reader.read_element(Gateway, "a setting of a gateway")
    if not reader.problems:
        _check(gateway, reader)
    return None if reader.problems else gateway, reader.problems


def _check(gateway: Gateway, reader: Reader) -> None:
    if not gateway.host_name and not gateway.internal:
        reason = f"is missing, and {gateway.class_name} is on the internet, where API keys and prompts must not be readable"
        reader.refuse("hostName", None, reason, f"give a name of yours and a certificate, or the class {INTERNAL}")
    elif gateway.host_name and gateway.certificate is None:
        ways = ", ".join(key for key in _WAYS if key != "map" or not gateway.regional)
        reader.refuse("certificate", None, "is missing, and hostName needs one", f"give one of {ways}")
    elif gateway.certificate is not None and not gateway.host_name:
        reader.refuse("certificate", None, "has no hostName that it would be for", "give hostName, or remove certificate")
    restricts = {"sourceRanges": list(gateway.source_ranges), "securityPolicy": gateway.security_policy}
    given = {key: value for key, value in restricts.items() if value}
    if gateway.internal:
        for key, value in given.items():
            reason = f"is for external classes, and only the VPC reaches {INTERNAL}"
            reader.refuse(key, value, reason, "remove it; a firewall policy for the proxy-only subnet restricts clients inside a VPC")
    elif len(given) == 2:
        reader.refuse("securityPolicy", gateway.security_policy, "is set, and so is sourceRanges", "remove one of the two")


def overlap(gateway: Gateway, ranges: Mapping[str, str]) -> str | None:
    """The key of a range, by key, that shares addresses with the proxies'."""
    proxies = ipaddress.IPv4Network(gateway.proxy_range)
    return next((key for key, each in ranges.items() if proxies.overlaps(ipaddress.IPv4Network(each))), None)
