"""The network that the setting `network` gives: ranges of one of the stack's own, or the names of one that exists; what is wrong with them.

Left out: the resources (`network`), and what only Google knows: ranges of peered networks, and whether an existing one is there.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from components.settings.problems import Problem, nearest

#: GKE gives every node a /24 for its pods (110 pods, the default).
#: https://docs.cloud.google.com/kubernetes-engine/docs/concepts/alias-ips#cluster_sizing
NODE_POD_PREFIX = 24

#: The ranges that Google routes as private addresses, without public ones that may be used privately.
#: https://docs.cloud.google.com/vpc/docs/subnets#valid-ranges
_PRIVATE = tuple(
    map(ipaddress.IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "198.18.0.0/15", "240.0.0.0/4"))
)

#: GKE's limits on the length of the Services' range:
#: https://docs.cloud.google.com/kubernetes-engine/docs/concepts/alias-ips#cluster_sizing_secondary_range_svcs
_SERVICE_PREFIXES = (16, 27)

#: Addresses of a subnetwork's primary range that Google keeps for itself.
#: https://docs.cloud.google.com/vpc/docs/subnets#unusable-ip-addresses-in-every-subnet
RESERVED_ADDRESSES = 4

_KEYS = ("nodeRange", "podRange", "serviceRange")

_EXISTING = "existing"
#: Keys of an existing network. The first may be left out.
_EXISTING_KEYS = ("hostProject", "network", "subnetwork", "podRange", "serviceRange")
#: Of networks, subnetworks, their secondary ranges and projects: RFC 1035, at most 63 characters.
_NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")


@dataclass(frozen=True, kw_only=True)
class NetworkRanges:
    """IPv4 ranges in CIDR notation that do not overlap."""

    #: Primary range of the subnetwork.
    nodes: str
    #: Secondary ranges.
    pods: str
    services: str

    @property
    def max_nodes(self) -> int:
        """How many nodes find addresses, for themselves and for their pods."""
        pods, nodes = ipaddress.IPv4Network(self.pods), ipaddress.IPv4Network(self.nodes)
        return min(1 << max(NODE_POD_PREFIX - pods.prefixlen, 0), nodes.num_addresses - RESERVED_ADDRESSES)


@dataclass(frozen=True, kw_only=True)
class ExistingNetwork:
    """A VPC network with a subnetwork of the stack's region that somebody else owns, by names."""

    #: The host project of a Shared VPC; empty for the stack's own project.
    host_project: str
    network: str
    subnetwork: str
    #: Names of the subnetwork's secondary ranges.
    pod_range: str
    service_range: str


def as_range(text: Any) -> ipaddress.IPv4Network:
    """CIDR as Kubernetes and Google read it, which is stricter than Python: a text with a prefix length. Raises `ValueError`."""
    if not isinstance(text, str):
        raise ValueError("not a text")
    network = ipaddress.IPv4Network(text)
    if str(network) != text:
        raise ValueError(f"written {network} in CIDR notation")
    return network


def is_private(network: ipaddress.IPv4Network) -> bool:
    return any(network.subnet_of(each) for each in _PRIVATE)


def parse_network(value: Any, field: str = "network") -> tuple[NetworkRanges | ExistingNetwork | None, list[Problem]]:
    """The network, or None for an empty mapping (the project's default network) and after a problem."""
    if not isinstance(value, Mapping):
        return None, [Problem(field, value, "is not a mapping", f"give {', '.join(_KEYS)}, or {{}} for the default network")]
    if not value:
        return None, []
    if _EXISTING in value:
        return _parse_existing(value, field)
    problems: list[Problem] = []
    for key in value:
        if key not in _KEYS:
            problems.append(Problem(f"{field}.{key}", value[key], "is not a key of a network", nearest(key, _KEYS)))
    found: dict[str, ipaddress.IPv4Network] = {}
    for key in _KEYS:
        text = value.get(key)
        try:
            found[key] = as_range(text)
        except ValueError as error:
            reason = "is missing" if text is None else f"is not an IPv4 range ({error})"
            problems.append(Problem(f"{field}.{key}", text, reason, "give CIDR notation such as 10.64.0.0/17"))
            continue
        if not is_private(found[key]):
            problems.append(
                Problem(f"{field}.{key}", text, "is not a private range", "take one of 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16")
            )
    shortest, longest = _SERVICE_PREFIXES
    if (services := found.get("serviceRange")) is not None and not shortest <= services.prefixlen <= longest:
        problems.append(
            Problem(
                f"{field}.serviceRange",
                str(services),
                f"is a /{services.prefixlen}, and GKE takes /{shortest} to /{longest}",
                f"give one such as {services.network_address}/20",
            )
        )
    problems += _overlaps(field, found)
    if problems:
        return None, problems
    return NetworkRanges(nodes=value["nodeRange"], pods=value["podRange"], services=value["serviceRange"]), []


def _parse_existing(value: Mapping[Any, Any], field: str) -> tuple[ExistingNetwork | None, list[Problem]]:
    problems = [
        Problem(
            f"{field}.{key}", value[key], f"stands beside {_EXISTING}, whose network has its ranges already", f"remove it, or {_EXISTING}"
        )
        for key in value
        if key != _EXISTING
    ]
    field, found = f"{field}.{_EXISTING}", value[_EXISTING]
    if not isinstance(found, Mapping):
        return None, [*problems, Problem(field, found, "is not a mapping", f"give {', '.join(_EXISTING_KEYS)}")]
    for key in found:
        if key not in _EXISTING_KEYS:
            problems.append(Problem(f"{field}.{key}", found[key], "is not a key of an existing network", nearest(key, _EXISTING_KEYS)))
    for key in _EXISTING_KEYS:
        text = found.get(key)
        if text is None and key == "hostProject":
            continue
        if not isinstance(text, str) or not _NAME.fullmatch(text):
            reason = "is missing" if text is None else "is not a name"
            problems.append(Problem(f"{field}.{key}", text, reason, "give the name alone: lower-case letters, digits and hyphens"))
    if problems:
        return None, problems
    host, *names = (found.get(key, "") for key in _EXISTING_KEYS)
    return ExistingNetwork(host_project=host, **dict(zip(("network", "subnetwork", "pod_range", "service_range"), names, strict=True))), []


def _overlaps(field: str, found: Mapping[str, ipaddress.IPv4Network]) -> Iterable[Problem]:
    for index, key in enumerate(found):
        for other in list(found)[:index]:
            if found[key].overlaps(found[other]):
                yield Problem(
                    f"{field}.{key}", str(found[key]), f"overlaps {other} {found[other]}", "give every range addresses of its own"
                )
