"""The address ranges of a stack's own network, as the setting `network` gives them, and what is wrong with them.

Left out: the resources (`network`), and ranges of peered networks, which the program does not know.
"""

from __future__ import annotations

import ipaddress
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


def parse_network(value: Any, field: str = "network") -> tuple[NetworkRanges | None, list[Problem]]:
    """The ranges, or None for an empty mapping (the project's default network) and after a problem."""
    if not isinstance(value, Mapping):
        return None, [Problem(field, value, "is not a mapping", f"give {', '.join(_KEYS)}, or {{}} for the default network")]
    if not value:
        return None, []
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


def _overlaps(field: str, found: Mapping[str, ipaddress.IPv4Network]) -> Iterable[Problem]:
    for index, key in enumerate(found):
        for other in list(found)[:index]:
            if found[key].overlaps(found[other]):
                yield Problem(
                    f"{field}.{key}", str(found[key]), f"overlaps {other} {found[other]}", "give every range addresses of its own"
                )
