"""Pod and node addresses, and the loopback addresses behind them.

The API server refuses loopback addresses in EndpointSlices, so a pod's address in the API is an ordinary one,
10.88.a.b, that the node agent and the load balancer map to 127.88.a.b on this machine.
"""

import ipaddress
import itertools
import threading

_POD_NETWORK = ipaddress.ip_network("10.88.0.0/16")
_NODE_NETWORK = ipaddress.ip_network("10.128.0.0/20")

#: The first addresses of a subnet are Google's.
_FIRST_NODE_HOST = 10

#: Addresses that load balancers listen on, in order; no more Services than this can have the same port. 127.0.0.1 is left out, which
#: to a pod is the pod itself: a pod reaches a load balancer at the same address as every other client.
LISTEN_ADDRESSES = tuple(f"127.0.0.{last}" for last in range(2, 255))


class PodAddresses:
    """Hands out addresses of one sandbox, to all its clusters; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken: set[str] = set()
        self._hosts = itertools.cycle(range(1, _POD_NETWORK.num_addresses - 1))
        self._nodes: dict[str, str] = {}

    def take(self) -> str:
        """A pod address that is free; one that was freed comes round last."""
        with self._lock:
            for host in itertools.islice(self._hosts, _POD_NETWORK.num_addresses):
                address = str(_POD_NETWORK[host])
                if address not in self._taken:
                    self._taken.add(address)
                    return address
        raise RuntimeError(f"every address of {_POD_NETWORK} is taken")

    def reserve(self, address: str) -> None:
        """Marks an address as taken that a pod has from before (the daemon was started again)."""
        with self._lock:
            self._taken.add(address)

    def free(self, address: str) -> None:
        with self._lock:
            self._taken.discard(address)

    def node_address(self, node: str) -> str:
        """The node's InternalIP: the same for the same name."""
        with self._lock:
            number = _FIRST_NODE_HOST + len(self._nodes)
            return self._nodes.setdefault(node, str(_NODE_NETWORK[number]))


def to_loopback(address: str) -> str:
    """`10.88.3.4` -> `127.88.3.4`, where the pod's processes really listen."""
    if ipaddress.ip_address(address) not in _POD_NETWORK:
        raise ValueError(f"{address} is not a pod address of the sandbox ({_POD_NETWORK})")
    return "127." + address.split(".", 1)[1]
