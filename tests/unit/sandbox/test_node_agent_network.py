"""A pod's address: its own, kept over a restart when it can be, and never that of another sandbox on the machine."""

from sandbox.host.addresses import PodAddresses
from sandbox.node_agent.network import PodNetwork


def test_an_address_that_another_sandbox_uses_is_left_to_it() -> None:
    # Two sandboxes know nothing of each other: each has its own bookkeeping.
    first = PodNetwork(PodAddresses(), "10.88.254.8")
    second = PodNetwork(PodAddresses(), "10.88.254.8")
    try:
        assert first.address == "10.88.254.8"
        assert second.address != first.address
    finally:
        first.release()
        second.release()
